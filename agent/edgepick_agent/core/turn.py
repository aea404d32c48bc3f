"""The agent between two events, and one turn of it.

:class:`Agent` is a value: the durable state plus what may be forgotten. A :class:`Turn` carries it
through one event, collects the effects, and is thrown away. Nothing here touches the world.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgepick_agent.core.admission import Facts, Trust
from edgepick_agent.core.assignments import Addressee
from edgepick_agent.core.effects import Effect, Say
from edgepick_agent.core.events import Way
from edgepick_agent.core.fetch import Fetch
from edgepick_agent.core.ranges import Ranges
from edgepick_agent.core.runner_spec import RunnerObservation, ShadowProgress
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.core.state import AgentState, ModelRecord, Origin, with_model
from edgepick_agent.core.supervise import SupervisorState
from edgepick_wire.enums import StrEnum
from edgepick_wire.envelope import VerifySignature
from edgepick_wire.manifest import ALGORITHMS, Manifest, RuntimeChoice
from edgepick_wire.messages import Assignment, Desired, MeasureRequest, Reported, RuntimeAvailable, TargetKind
from edgepick_wire.shadow import ShadowRequest
from edgepick_wire.trust import RootDocument


def _utc_time_of_day(wall: float) -> float:
    return wall % 86400.0


class JobKind(StrEnum):
    """What a job ends in."""

    INSTALL = "install"
    MEASURE = "measure"
    SHADOW = "shadow"


class Stage(StrEnum):
    """How far a job is."""

    MANIFEST = "manifest"
    SURVEY = "survey"
    FETCH = "fetch"
    EXTRACT = "extract"
    STORE = "store"
    RUN = "run"
    """The trial of an installation, or the measurement."""
    START = "start"
    """The tried variant's runner starts beside the old one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work on one variant; at most one at a time.

    Attributes:
        shadow: What to do with a variant that is to become a shadow.
        ask: The technician who waits for a local installation.
        path: The bundle file of a local installation.
        overruled: What a local installation is preferred to: manifests, each within its rollout.
        sweeps: Times that space was made for it.
        listening: The manifest's topic is subscribed to.
        silent_from: When the broker, once asked for the manifest, will have been silent for too long.
        unheard: It was: the broker does not have the manifest.
        heard_at: When something last moved.
        deadline: When the trial or measurement has taken too long.
        reused: Chunks of its files that were found on disk.
        done: Chunks of its files that are here.
        max_bytes: Most bytes that it may take over the network; ``None`` for no limit.
        ways: Files that come in an encoded form.
        avoid: Digests of encoded forms that proved to be useless.
        ranges: What HTTPS does for the fetch, if anything.
    """

    kind: JobKind
    model: str
    manifest: str
    sequence: int = 0
    rollout: str | None = None
    request: MeasureRequest | None = None
    shadow: ShadowRequest | None = None
    ask: int | None = None
    path: str | None = None
    overruled: tuple[tuple[str, str | None], ...] = ()
    stage: Stage = Stage.MANIFEST
    raw: bytes | None = None
    content: Manifest | None = None
    runtimes: tuple[RuntimeChoice, ...] = ()
    fetch: Fetch | None = None
    sweeps: int = 0
    listening: bool = False
    silent_from: float | None = None
    unheard: bool = False
    began_at: float = 0.0
    heard_at: float = 0.0
    deadline: float | None = None
    reused: int = 0
    done: int = 0
    fetched: int = 0
    bytes_fetched: int = 0
    max_bytes: int | None = None
    ways: tuple[Way, ...] = ()
    avoid: frozenset[str] = frozenset()
    ranges: Ranges | None = None

    @property
    def key(self) -> str:
        """What makes it the same job when it is wanted again."""
        asked = self.request or self.shadow
        return f"{self.kind}/{self.manifest}/{asked.id if asked else self.rollout or ''}"

    @property
    def total(self) -> int:
        """Chunks of all its files, of the encoded form where there is one."""
        encoded = {way.name: way.encoding.chunks for way in self.ways}
        return sum(encoded.get(entry.name, entry.chunks) for entry in self.content.files) if self.content else 0

    def origin(self, now: float) -> Origin:
        """Return who asked for it and what it has cost so far."""
        return Origin(
            sequence=self.sequence,
            rollout=self.rollout,
            chunks_fetched=self.fetched,
            chunks_reused=self.reused,
            bytes_fetched=self.bytes_fetched,
            seconds=now - self.began_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The runner of one variant, as the agent sees it.

    Attributes:
        supervisor: When it starts, whether it runs, and how often it failed.
        seen: The latest look at it; ``None`` while there is no process.
        port: The loopback port that it holds beside its socket, if any.
    """

    model: str
    manifest: str
    supervisor: SupervisorState = field(default_factory=SupervisorState)
    seen: RunnerObservation | None = None
    pid: int | None = None
    port: int | None = None

    @property
    def ready_since(self) -> float | None:
        """Since when it serves without a break."""
        return self.supervisor.ready_since

    @property
    def runs(self) -> bool:
        """There is a process."""
        return self.supervisor.started_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A candidate that answers copies of what the variant ``against`` answers.

    Attributes:
        label: How people call it.
        deadline: When it has taken too long.
        seen: The latest look at its runner; ``None`` before the first.
        progress: What it had seen when it was last asked.
    """

    model: str
    label: str
    request: ShadowRequest
    against: str
    deadline: float
    seen: RunnerObservation | None = None
    pid: int | None = None
    progress: ShadowProgress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """A root document that cannot be followed before those between it and the present one.

    Attributes:
        payload: The signed document.
        since: When the chain towards it last moved.
    """

    version: int
    payload: bytes
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What does not change while an agent runs.

    Attributes:
        first_root: The configured root document; holds until a newer one was followed.
        state_dir: Absolute path of the state directory.
        algorithms: Encodings that can be decoded here.
        time_of_day: Wall clock to seconds since local midnight; for the hours in which downloads are allowed.
    """

    settings: AgentSettings
    first_root: RootDocument
    check: VerifySignature
    state_dir: str
    algorithms: frozenset[str] = frozenset()
    time_of_day: Callable[[float], float] = _utc_time_of_day

    @property
    def jitter(self) -> float:
        """A share from 0 to 1 that differs from device to device, so that a fleet does not act in step."""
        return int.from_bytes(hashlib.sha256(self.settings.device.encode()).digest()[:4], "big") / 2**32

    @property
    def addressee(self) -> Addressee:
        """Whom a desired state must address."""
        return Addressee(fleet=self.settings.fleet, device=self.settings.device, profile=self.settings.profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent between two events.

    Attributes:
        checked: The slots were checked after the start; before that nothing is run.
        runtimes: What can be started here; ``None`` until that is known, and nothing is judged before.
        sources: Digests of the signed documents that ``documents`` came from.
        outdated: Those of them that were followed until their keys stopped counting.
        ahead: The newest root document, while the chain towards it is being followed.
        manifests: Verified manifests of the variants in the slots and under way, by digest.
        serving: Runners by manifest digest.
        shadow: The candidate that shadows what serves, if one does.
        later: Jobs that stalled or were refused, and when they may be tried again.
        swept: Nothing is left to be collected.
        asks: Technicians who wait for the installation of a manifest.
        outbox: Ids of reports not yet acknowledged, oldest first.
        counter: Reports made in this session.
        quiet: Incidents said lately: when, and how many were swallowed since.
        lost: Reports dropped from a full outbox since this was last said.
        reported: The reported state as last published.
    """

    durable: AgentState
    checked: bool = False
    runtimes: tuple[RuntimeAvailable, ...] | None = None
    connected: bool = False
    broker: str = "connecting"
    documents: Mapping[TargetKind, Desired] = field(default_factory=dict)
    sources: Mapping[TargetKind, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    ahead: Ahead | None = None
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    job: Job | None = None
    serving: Mapping[str, Serving] = field(default_factory=dict)
    shadow: Shadow | None = None
    later: Mapping[str, float] = field(default_factory=dict)
    swept: bool = False
    asks: Mapping[str, int] = field(default_factory=dict)
    outbox: tuple[str, ...] = ()
    counter: int = 0
    quiet: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    lost: int = 0
    reported: Reported | None = None
    reported_at: float = 0.0
    last_error: str | None = None


@dataclass(slots=True)
class Turn:
    """One event's way through the agent."""

    agent: Agent
    context: Context
    now: float
    wall: float
    effects: list[Effect] = field(default_factory=list)

    def do(self, *effects: Effect) -> None:
        """Have effects performed, in order, once the state is written."""
        self.effects.extend(effects)

    def change(self, **changes: Any) -> None:
        """Replace parts of the agent."""
        self.agent = replace(self.agent, **changes)

    def keep(self, durable: AgentState) -> None:
        """Replace the durable state."""
        self.agent = replace(self.agent, durable=durable)

    def set_record(self, model: str, record: ModelRecord) -> None:
        """Replace one model's record."""
        self.keep(with_model(self.agent.durable, model, record))

    def set_job(self, **changes: Any) -> Job:
        """Replace parts of the job under way, and return it."""
        assert self.agent.job is not None
        job = replace(self.agent.job, heard_at=self.now, **changes)
        self.agent = replace(self.agent, job=job)
        return job

    def fail(self, text: str) -> None:
        """Say that something went wrong, in the log and in the status."""
        self.change(last_error=text)
        self.do(Say(text, serious=True))

    @property
    def settings(self) -> AgentSettings:
        """The device's settings."""
        return self.context.settings

    @property
    def trust(self) -> Trust:
        """Whose signatures count now."""
        return Trust(root=self.agent.durable.root or self.context.first_root, check=self.context.check)

    def facts(self, *, missing_bytes: int = 0, free_bytes: int | None = None) -> Facts:
        """Return what a manifest is judged by now."""
        return Facts(
            fleet=self.settings.fleet,
            profile=self.settings.profile,
            security_epoch=self.agent.durable.security_epoch,
            runtimes=self.agent.runtimes or (),
            allowed=self.settings.runner.runtimes,
            algorithms=self._decodable(),
            missing_bytes=missing_bytes,
            free_bytes=free_bytes,
        )

    def _decodable(self) -> frozenset[str]:
        """Return the encodings that are no hindrance: in a bundle file every file lies as it is."""
        job = self.agent.job
        return self.context.algorithms if job is None or job.path is None else ALGORITHMS


def assignment_of(desired: Desired | None, model: str) -> Assignment | None:
    """Return what a desired state says about a model."""
    return next((a for a in desired.models if a.model == model), None) if desired else None
