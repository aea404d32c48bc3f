"""The values of a simulated device: its state, what happens to it, what it does about that."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_wire.messages import Desired, MeasureRequest, ModelState, Phase, Presence
from edgepick_wire.topics import DeviceTopic


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a device needs to know of a manifest whose signature was checked.

    Attributes:
        variant: Name of the variant, by which the scenario describes it.
        size: Bytes of all files of the bundle.
        chunks: Chunks of them.
    """

    variant: str
    size: int
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a device is at, until ``due``: an order to measure, or else one phase of an installation.

    Attributes:
        sequence: Sequence of the desired state that asked for it.
        began: When the installation began.
    """

    model: str
    manifest: str
    due: float
    began: float
    sequence: int = 0
    rollout: str | None = None
    order: MeasureRequest | None = None
    phase: Phase = Phase.FETCHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """A variant that is going to crash, and when."""

    model: str
    manifest: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """Everything that changes about a device.

    Attributes:
        online: It hears and speaks.
        session: Of its agent.
        counter: Reports filed so far.
        host_session: Of the host that it last heard of.
        own: Desired state of its own.
        common: Desired state of its profile.
        models: Model -> where it stands.
        known: Manifest digest -> what it is, once obtained and verified.
        asked: Manifests that were asked for and have not come.
        refused: Manifests that no release key had signed.
        done: Orders to measure that were carried out.
        gave_up: Model, manifest and rollout of installations that failed here.
        task: What it is at.
        crash: What is going to crash.
        outbox: Report id -> its bytes, until acknowledged.
        resend_at: When they are sent again.
        resend_pause: Seconds after that until the next time.
        flood_at: When it sends its next flood.
        vanish_at: When it is gone for good.
        waking: When the shell was asked to call again.
        served: Manifests that it has served, in order; for whoever judges the host.
    """

    online: bool = False
    session: int = 1
    counter: int = 0
    host_session: int = 0
    own: Desired | None = None
    common: Desired | None = None
    models: Mapping[str, ModelState] = field(default_factory=dict)
    known: Mapping[str, Known] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    gave_up: frozenset[tuple[str, str, str | None]] = frozenset()
    task: Task | None = None
    crash: Crash | None = None
    outbox: Mapping[str, bytes] = field(default_factory=dict)
    resend_at: float | None = None
    resend_pause: float = 0.0
    flood_at: float | None = None
    vanish_at: float | None = None
    waking: float | None = None
    served: tuple[str, ...] = ()

    @property
    def holding(self) -> Desired | None:
        """The desired state that holds: of both, the one with the higher sequence."""
        return max((d for d in (self.own, self.common) if d), key=lambda d: d.sequence, default=None)

    @property
    def next_due(self) -> float | None:
        """The next moment at which something happens by itself."""
        task = self.task.due if self.task else None
        crash = self.crash.at if self.crash else None
        dates = (task, crash, self.resend_at, self.flood_at, self.vanish_at)
        return min((d for d in dates if d is not None), default=None)


# Events. Each carries the time, so that a step reads no clock.


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """The device is connected, for the first time or again."""

    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A desired state arrived; its signature, fleet and address were found right."""

    now: float
    desired: Desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The host has stored these reports."""

    now: float
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSeen:
    """The host said whether it is there."""

    now: float
    presence: Presence


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained:
    """A manifest that was asked for: what it is, or ``None`` if its signature is wrong."""

    now: float
    manifest: str
    known: Known | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The moment has come that was asked for."""

    now: float


Event = Booted | Told | Acknowledged | HostSeen | Obtained | Due


# Actions.


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Publish on one of the device's own topics."""

    kind: DeviceTopic
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtain:
    """Fetch a signed manifest."""

    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """Call again at this moment."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanish:
    """Be gone without a word, so that the broker sends the last will."""


Action = Send | Obtain | Wake | Vanish
