"""The values of a rollout: its state as it is stored, the events it takes, the actions it asks for."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepick_host.core.schedule import CANARY
from edgepick_host.core.waves import Lane, Member, Plan, Seat
from edgepick_wire.enums import StrEnum
from edgepick_wire.messages import ModelState, Report

ROLLOUT_SCHEMA = 1
MAX_HISTORY = 200
"""Lines of history that a rollout keeps; the decision records stay for ever."""


class Stage(StrEnum):
    """Where a rollout stands."""

    MEASURING = "measuring"
    DECIDING = "deciding"
    CANARY = "canary"
    WAVE = "wave"
    PAUSED = "paused"
    REVERTING = "reverting"
    DONE = "done"
    REVERTED = "reverted"
    ABORTED = "aborted"
    INCONCLUSIVE = "inconclusive"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return self in (Stage.DONE, Stage.REVERTED, Stage.ABORTED, Stage.INCONCLUSIVE)


class RequestKind(StrEnum):
    """What an operator may ask of a running rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """Something that happened, in words."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState:
    """Everything about a rollout, as it is stored.

    Attributes:
        id: Its name.
        model: The model.
        plan: How it proceeds.
        stage: Where it stands.
        wave: Number of the current wave, 0 for the canary.
        waves: Number of the last wave.
        started_at: Seconds since the epoch.
        deadline: When the present stage ends at the latest.
        soak_until: The present wave has confirmed and must stay healthy until then.
        upcoming: Wave that is to be offered as soon as the maintenance window opens.
        opens_at: When that is.
        compare_until: When the comparison between the arms ends, once it has begun.
        compared: What it came to.
        phase_due: Not before then is a device too long in one phase of its installation.
        after: Rollout of the same model that has to end first.
        lanes: One per stratum, once decided.
        reason: Why it ended, or why it is returning.
        paused_from: Stage to resume.
        remaining: Seconds left to the deadline when it was paused.
        paused_at: When that was.
        ending: How it ends when everything has returned.
        reports_seen: Number of the model's reports that were taken in.
        request_seen: Id of the last request that was taken in.
        settled: Everything that its end demands has been published.
        history: What happened, oldest first.
    """

    schema: int = ROLLOUT_SCHEMA
    id: str
    model: str
    plan: Plan
    stage: Stage
    wave: int = CANARY
    waves: int
    started_at: float
    deadline: float | None
    soak_until: float | None = None
    upcoming: int | None = None
    opens_at: float | None = None
    compare_until: float | None = None
    compared: str = ""
    phase_due: float | None = None
    after: str = ""
    lanes: tuple[Lane, ...] = ()
    reason: str = ""
    paused_from: Stage | None = None
    remaining: float | None = None
    paused_at: float | None = None
    ending: Stage | None = None
    reports_seen: int = 0
    request_seen: str = ""
    settled: bool = False
    history: tuple[HistoryLine, ...] = ()

    @property
    def members(self) -> tuple[Member, ...]:
        """Every device of every lane."""
        return tuple(m for lane in self.lanes for m in lane.members)

    @property
    def strata(self) -> int:
        """How many strata share the error rates: those that have something to roll out."""
        return max(1, sum(lane.winner is not None for lane in self.lanes))


# Events. Each carries the time, so that a step reads no clock.


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed."""

    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReady:
    """Every device that can be asked has measured every candidate."""

    now: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The selection has spoken for every stratum."""

    now: float
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device as last heard: online or not, and what it says about the model."""

    device: str
    online: bool
    state: ModelState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Devices as last heard; may repeat what is known."""

    now: float
    views: tuple[DeviceView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Reports about the model, ``first`` being the number of the first; known ones are skipped."""

    now: float
    first: int
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """An operator asked for something."""

    now: float
    id: str
    kind: RequestKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Joiner:
    """A device that was first heard after the lanes were decided."""

    profile: str
    seat: Seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Devices have appeared that the rollout is about; may repeat what is known."""

    now: float
    joiners: tuple[Joiner, ...]


Event = Tick | EvidenceReady | Decided | Observed | Heard | Requested | Joined


# Actions.


@dataclass(frozen=True, slots=True, kw_only=True)
class WantDevice:
    """One device should run ``manifest``; ``None`` leaves what it runs alone."""

    device: str
    manifest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantProfile:
    """Every device of this profile should run ``manifest``, those included that come later."""

    profile: str
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Something a person should hear."""

    text: str


Action = WantDevice | WantProfile | Say


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a rollout wants, as a level: devices by id, profiles by name."""

    devices: Mapping[str, str | None]
    profiles: Mapping[str, str]
