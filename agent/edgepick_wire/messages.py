"""Everything that host and device say to each other, apart from manifests and chunks.

Times are seconds since the epoch by the sender's clock, for people only: nothing is decided by them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import check_digest, check_name
from edgepick_wire.metrics import Measurement, MeasurePlan
from edgepick_wire.pairing import PairOrder
from edgepick_wire.shadow import ShadowRequest, ShadowSummary

PROTOCOL = 1


class TargetKind(StrEnum):
    """Whom a desired state addresses."""

    DEVICE = "device"
    PROFILE = "profile"


class RefusalCode(StrEnum):
    """Why a device said no."""

    BAD_SIGNATURE = "bad-signature"
    OLDER_SEQUENCE = "older-sequence"
    LOWER_EPOCH = "lower-epoch"
    WRONG_FLEET = "wrong-fleet"
    WRONG_DEVICE = "wrong-device"
    WRONG_PROFILE = "wrong-profile"
    UNKNOWN_REQUIREMENT = "unknown-requirement"
    NO_RUNTIME = "no-runtime"
    NO_SPACE = "no-space"
    NO_BUDGET = "no-budget"
    """It would take more bytes over the network than the assignment allows."""
    NO_MEMORY = "no-memory"
    """Beside what serves it would take more memory than the limit of this kind of device; for shadows only."""
    DIGEST_MISMATCH = "digest-mismatch"
    MALFORMED = "malformed"
    NOT_STARTED = "not-started"
    """The device could not start its process, by no fault of the variant; tried again later without being asked."""
    TRIAL_FAILED = "trial-failed"
    RUNNER_FAILED = "runner-failed"
    PINNED = "pinned"


class Phase(StrEnum):
    """Where a model stands on a device."""

    EMPTY = "empty"
    """No variant is installed."""
    FETCHING = "fetching"
    TRIAL = "trial"
    """Installed in the idle slot; being tried on its golden inputs."""
    CONFIRMING = "confirming"
    """Active, not yet confirmed by the health gate."""
    CONFIRMED = "confirmed"
    """Active and healthy."""
    REVERTED = "reverted"
    """The wanted variant failed here; the previous one is active again."""
    REFUSED = "refused"
    """The wanted variant was refused; what was active before still is."""


class Outcome(StrEnum):
    """How an installation ended."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    REVERTED = "reverted"


class IncidentCode(StrEnum):
    """Something a person should know that is not the end of an installation."""

    RUNNER_CRASHED = "runner-crashed"
    RUNNER_HUNG = "runner-hung"
    RUNNER_OVER_MEMORY = "runner-over-memory"
    RUNNER_BAD_ANSWERS = "runner-bad-answers"
    RUNNER_RESTARTED = "runner-restarted"
    RUNNER_NOT_STARTED = "runner-not-started"
    """The device could not start a process, by no fault of the variant; tried again."""
    FELL_BACK = "fell-back"
    DESIRED_REFUSED = "desired-refused"
    MEASUREMENT_FAILED = "measurement-failed"
    CHUNK_CORRUPT = "chunk-corrupt"
    CHUNK_MISSING = "chunk-missing"
    STORAGE_FULL = "storage-full"


class ReportKind(StrEnum):
    """Which part of a report is filled."""

    MEASUREMENT = "measurement"
    INSTALL = "install"
    INCIDENT = "incident"
    SHADOW = "shadow"
    """Only ever the answer to a shadow request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A device's "no": a code for programs, a sentence and a hint for people."""

    code: RefusalCode
    detail: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeAvailable:
    """A runtime that the device can start, with the accelerators found for it."""

    name: str
    version: str
    accelerators: tuple[str, ...] = ("cpu",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """Who and what a device is; retained, sent at every connection.

    Attributes:
        session: Counts up with every start of the agent.
        profile: The kind of device.
        memory_bytes: Physical memory.
        disk_free_bytes: Free space in the state directory.
        stand_in: It is not the board that its profile names.
        capabilities: Requirements of manifests that this agent knows.
    """

    protocol: int = PROTOCOL
    device: str
    session: int
    profile: str
    agent_version: str
    machine: str
    system: str
    python: str
    runtimes: tuple[RuntimeAvailable, ...]
    sensors: tuple[str, ...] = ()
    memory_bytes: int
    disk_free_bytes: int
    stand_in: bool = False
    capabilities: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a profile that is none."""
        check_name("profile", self.profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether session ``session`` of a device (or of the host) is online; also its last will.

    A late last will of an older session says nothing about a newer one.
    """

    session: int
    online: bool


def _check_budget(max_bytes: int | None) -> None:
    if max_bytes is not None and max_bytes < 0:
        raise MalformedError(f"max_bytes {max_bytes}: must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRequest:
    """An order to measure a variant and report; carried out once per ``id``, without changing what is active.

    ``pair`` asks for a comparison with what runs, besides the measurement; ``max_bytes`` is the most payload bytes
    that coming by the variant may take over the network, ``None`` for no limit.
    """

    id: str
    manifest: str
    plan: MeasurePlan = MeasurePlan()
    pair: PairOrder | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse a manifest that is not a digest, and less than no bytes."""
        check_name("measure request", self.id)
        check_digest(self.manifest)
        _check_budget(self.max_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a device should do about one model.

    Attributes:
        model: Name of the model.
        active: Manifest digest to run; ``None`` leaves what is active alone.
        measure: Variants to measure.
        rollout: Id of the rollout that asks for it, for the reports.
        max_bytes: Most payload bytes that installing ``active`` may take over the network; ``None`` for no limit.
        shadow: A variant to run as the shadow of what is active, if any.
    """

    model: str
    active: str | None = None
    measure: tuple[MeasureRequest, ...] = ()
    rollout: str | None = None
    max_bytes: int | None = None
    shadow: ShadowRequest | None = None

    def __post_init__(self) -> None:
        """Refuse names and digests that are none."""
        check_name("model", self.model)
        if self.active is not None:
            check_digest(self.active)
        _check_budget(self.max_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The desired state of a device, or of every device of a profile; signed by the campaign role.

    Attributes:
        sequence: Counts up over the whole fleet; of two documents that address a device, the one
            with the higher sequence holds. One below the highest seen on its topic is refused.
    """

    fleet: str
    target_kind: TargetKind
    target: str
    sequence: int
    issued_at: float
    models: tuple[Assignment, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a sequence below 1 and a model named twice."""
        if self.sequence < 1:
            raise MalformedError(f"sequence {self.sequence}: the first is 1")
        if len({m.model for m in self.models}) != len(self.models):
            raise MalformedError("one model is assigned twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """What a device says about one model.

    Attributes:
        phase: Where it stands.
        active: Manifest digest that serves, if any.
        previous: Manifest digest in the other slot, if any.
        wanted: Manifest digest that the desired state asks for, if any.
        pinned: A technician pinned the active variant.
        rollout: The rollout that ``wanted`` belongs to.
        chunks_done: Progress of a download.
        chunks_total: Its end.
        refusal: Why ``wanted`` is not what runs, if so.
    """

    model: str
    phase: Phase
    active: str | None = None
    active_label: str | None = None
    previous: str | None = None
    previous_label: str | None = None
    wanted: str | None = None
    pinned: bool = False
    rollout: str | None = None
    chunks_done: int = 0
    chunks_total: int = 0
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The reported state of a device; retained, replaced at every change.

    Attributes:
        sequence: Sequence of the desired state that it follows; 0 for none.
        security_epoch: The lowest epoch that it still accepts.
    """

    device: str
    session: int
    sequence: int
    security_epoch: int
    models: tuple[ModelState, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a model told of twice, and names and digests that are none: the host goes back to what it is told."""
        if len({m.model for m in self.models}) != len(self.models):
            raise MalformedError("one model is told of twice")
        for state in self.models:
            check_name("model", state.model)
            for digest in (state.active, state.previous, state.wanted):
                if digest is not None:
                    check_digest(digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredVariant:
    """The result of a :class:`MeasureRequest`: a measurement, or why there is none."""

    request: str
    model: str
    manifest: str
    measurement: Measurement | None
    refusal: Refusal | None = None

    def __post_init__(self) -> None:
        """Refuse a result that is neither, and a model that is none."""
        check_name("model", self.model)
        if (self.measurement is None) == (self.refusal is None):
            raise MalformedError("a measured variant has either a measurement or a refusal")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowedVariant:
    """The end of a :class:`~edgepick_wire.shadow.ShadowRequest`: what was seen, or why nothing was, or both.

    Attributes:
        detail: Why it ended before its time, in words; empty if it did not.
    """

    request: str
    model: str
    manifest: str
    summary: ShadowSummary | None = None
    refusal: Refusal | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        """Refuse a result that says nothing, and a model that is none."""
        check_name("model", self.model)
        if self.summary is None and self.refusal is None:
            raise MalformedError("a shadowed variant has a summary, a refusal, or both")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOutcome:
    """How an installation ended, and what it cost.

    Attributes:
        sequence: Sequence of the desired state that asked for it; 0 for a local installation.
        active: Manifest digest that serves now.
        chunks_fetched: Chunks received over the network, all attempts together.
        chunks_reused: Chunks found on disk, from an interrupted attempt or another bundle.
        bytes_fetched: Payload bytes received.
        seconds: From first sight to the end, time powered off not counted.
    """

    model: str
    manifest: str
    outcome: Outcome
    sequence: int
    rollout: str | None = None
    active: str | None = None
    refusal: Refusal | None = None
    chunks_fetched: int = 0
    chunks_reused: int = 0
    bytes_fetched: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a model that is none."""
        check_name("model", self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that happened; ``count`` is how often in a row."""

    code: IncidentCode
    detail: str
    model: str | None = None
    manifest: str | None = None
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse a model that is none."""
        if self.model is not None:
            check_name("model", self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An item of a device's outbox: kept until the host acknowledges ``id``; may arrive twice.

    Exactly the part that ``kind`` names is filled.
    """

    id: str
    device: str
    session: int
    recorded_at: float
    kind: ReportKind
    measurement: MeasuredVariant | None = None
    install: InstallOutcome | None = None
    incident: Incident | None = None
    shadow: ShadowedVariant | None = None

    def __post_init__(self) -> None:
        """Refuse a report whose parts do not match its kind."""
        check_name("report", self.id)
        parts = {
            ReportKind.MEASUREMENT: self.measurement,
            ReportKind.INSTALL: self.install,
            ReportKind.INCIDENT: self.incident,
            ReportKind.SHADOW: self.shadow,
        }
        filled = [kind for kind, part in parts.items() if part is not None]
        if filled != [self.kind]:
            raise MalformedError(f"a {self.kind} report fills exactly that part, found {[k.value for k in filled]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Ids of reports that the host has stored; the device drops them from its outbox."""

    ids: tuple[str, ...]
