"""The shape of a rollout: its plan, its lanes, who is in which wave. Values only; nothing happens here."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from edgepick_host.core.checks import Limit, parse_checks
from edgepick_host.core.decision import Judgement
from edgepick_host.core.experiment.between import Between
from edgepick_host.core.experiment.evidence import is_rate, share
from edgepick_host.core.gates import Policy
from edgepick_host.core.objective import DEFAULT_OBJECTIVE
from edgepick_host.core.schedule import Share, Step, check, schedule, wave_numbers
from edgepick_host.core.selector import parse_query
from edgepick_host.core.windows import parse_window
from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError


class Leg(StrEnum):
    """How far a device that was offered the winner has come, as last heard."""

    ACCEPT = "accept"
    """It has said nothing of it yet."""
    BEGIN = "begin"
    """It knows what it is to run, and has not begun."""
    FETCH = "fetch"
    TRIAL = "trial"
    CONFIRM = "confirm"
    """It serves, and its health gate has not spoken."""
    MEASURE = "measure"
    """It has confirmed; the figures that it has to keep have not come."""

    @property
    def words(self) -> str:
        """For people."""
        return _STANDINGS[self]


_STANDINGS = {
    Leg.ACCEPT: "nothing was heard of it",
    Leg.BEGIN: "it had not begun",
    Leg.FETCH: "it was still fetching",
    Leg.TRIAL: "its trial had not ended",
    Leg.CONFIRM: "it served, but had not confirmed",
    Leg.MEASURE: "it had confirmed, but its figures had not come",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a rollout proceeds.

    Attributes:
        version: Version whose variants are the candidates.
        variant: Roll this one out without selection; ``None`` lets the reports decide.
        profiles: Kinds of device; empty for all that the version was published for.
        canary: Devices per stratum that go first.
        waves: Cumulative shares of each stratum, rising, the last one 1.0.
        steps: The waves as a person writes them, which may be more than shares; takes the place of ``waves``.
        only: Query that a device has to match to be in the rollout; empty for every device.
        window: When devices may be offered something new; empty for always.
        checks: Limits on figures that each device measures once more after the installation; empty for none.
        phase_seconds: Longest stay of a device in a phase of its installation, where that is limited by itself.
        max_failures: Share of a stratum's devices in one wave that may fail; more returns everything.
            In the canary any failure does.
        tolerated: Share of devices on which a healthy variant fails. Once more are shown to, over all waves and at
            every look, everything returns; 0 for no such watch, else at least a millionth.
        between: Compare the devices of the first wave with those that wait, before the second; ``None`` for no such
            comparison. Its share is the first wave.
        max_slower: Relative growth of what devices measure after the installation that is borne, likewise.
        min_confirmed: Share of a wave that must have confirmed before the next; the rest has the
            deadline's time.
        wave_seconds: Deadline of the canary, of each wave and of a return.
        soak_seconds: How long a wave must stay healthy after it has confirmed, before the next.
        measure_seconds: Longest wait for measurements.
        objective: As a person writes it.
        policy: How strict the selection is.
        max_bytes: Most bytes over the network that installing the winner may take on a device; one that would
            need more refuses, and counts as failed. ``None`` for no limit.
    """

    version: str
    variant: str | None = None
    profiles: tuple[str, ...] = ()
    canary: int = 1
    waves: tuple[float, ...] = (0.25, 0.5, 1.0)
    steps: tuple[str, ...] = ()
    only: str = ""
    window: str = ""
    checks: str = ""
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    max_failures: float = 0.10
    tolerated: float = 0.005
    max_slower: float = 0.05
    between: Between | None = None
    min_confirmed: float = 1.0
    wave_seconds: float = 600.0
    soak_seconds: float = 5.0
    measure_seconds: float = 600.0
    objective: str = str(DEFAULT_OBJECTIVE)
    policy: Policy = field(default_factory=Policy)
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse a plan that reaches nobody, or in no order."""
        if self.canary < 1:
            raise MalformedError(f"canary {self.canary}: at least one device goes first")
        check(self.schedule)
        parse_query(self.only)
        parse_checks(self.checks)
        if self.window:
            parse_window(self.window)
        if not set(self.phase_seconds) <= set(Leg) or min(self.phase_seconds.values(), default=1.0) <= 0:
            raise MalformedError(f"a phase deadline is a positive time for one of {', '.join(Leg)}")
        if not (0 <= self.max_failures < 1 and 0 < self.min_confirmed <= 1):
            raise MalformedError("max_failures must be 0 to below 1, min_confirmed above 0 to 1")
        self._check_watch()
        self._check_finite()
        if self.wave_seconds <= 0 or self.measure_seconds < 0 or self.soak_seconds < 0:
            raise MalformedError("deadlines must be positive")
        if self.max_bytes is not None and self.max_bytes < 0:
            raise MalformedError("max_bytes must not be negative")

    def _check_watch(self) -> None:
        watched = is_rate(self.tolerated) and share(self.tolerated) < Fraction(1, 2)
        if not (watched or self.tolerated == 0):
            raise MalformedError(
                f"tolerated failures are 0 (no watch), or 0.0001 % (0.000001) to below 50 %; found {self.tolerated!r}"
            )
        if not self.max_slower >= 0:
            raise MalformedError(f"max_slower is 0 or more; found {self.max_slower!r}")
        if self.between is not None and not all(isinstance(step, Share) for step in self._steps):
            raise MalformedError("arms are drawn by lot, so a comparison between devices needs waves that are shares")

    def _check_finite(self) -> None:
        numbers = {
            "deadline": self.wave_seconds,
            "soak": self.soak_seconds,
            "measure deadline": self.measure_seconds,
            "max_slower": self.max_slower,
            **{f"deadline of phase {phase}": seconds for phase, seconds in self.phase_seconds.items()},
        }
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise MalformedError(f"{name} {number} is not a finite number")

    @property
    def schedule(self) -> tuple[Step, ...]:
        """The waves, one step each; a growth stands for as many as it takes."""
        if self.between is None:
            return self._steps
        arm = Share(share=self.between.share)
        return (arm, *(s for s in self._steps if isinstance(s, Share) and s.share > arm.share))

    @property
    def _steps(self) -> tuple[Step, ...]:
        return schedule(self.steps) if self.steps else tuple(Share(share=share) for share in self.waves)


class MemberStatus(StrEnum):
    """Where a device stands in the rollout; a later one here never goes back to an earlier one."""

    WAITING = "waiting"
    """Not touched."""
    OFFERED = "offered"
    """It is wanted there; nothing final was heard."""
    CONFIRMED = "confirmed"
    """The device confirmed that it runs and is healthy."""
    UNREACHABLE = "unreachable"
    """Was offline from the offer to the deadline; counts neither way."""
    DECLINED = "declined"
    """A technician pinned another variant there; counts neither way."""
    FAILED = "failed"
    """Reverted, refused, fell back, or fell silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device in a lane.

    Attributes:
        device: Its id.
        wave: 0 for the canary, then the number of its wave.
        previous: Manifest that it ran before, to go back to; ``None`` if it ran none.
        status: Where it stands.
        online: As last heard.
        reached: It was online at some time since the offer, so its silence means something; where arms are compared,
            since the offer to the other arm too.
        returned: It is back on ``previous`` (or has nothing to go back to).
        leg: How far it has come with the winner, without counters, which would have every chunk stored.
        since: When it was first known to be there, by the host's clock; ``None`` before it was reached.
        limits: What its figures after the installation have to keep, before it counts as confirmed.
        checked: They came, and keep it.
        grown: Log ratio of the first of these figures to what it was before.
        struck: When it failed first, in either arm of a comparison between devices, by the host's clock.
        reason: Why it failed or declined.
    """

    device: str
    wave: int
    previous: str | None
    status: MemberStatus = MemberStatus.WAITING
    online: bool = False
    reached: bool = False
    returned: bool = False
    leg: Leg = Leg.ACCEPT
    since: float | None = None
    limits: tuple[Limit, ...] = ()
    checked: bool = False
    grown: float | None = None
    struck: float | None = None
    reason: str = ""

    @property
    def touched(self) -> bool:
        """Whether the winner was ever wanted there."""
        return self.status is not MemberStatus.WAITING

    @property
    def settled(self) -> bool:
        """Whether nothing more is awaited from it."""
        return self.status not in (MemberStatus.WAITING, MemberStatus.OFFERED)

    @property
    def counts(self) -> bool:
        """Whether it is in the denominator: it got the offer and could answer."""
        return self.status in (MemberStatus.OFFERED, MemberStatus.CONFIRMED, MemberStatus.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One stratum of a rollout.

    Attributes:
        profile: Declared kind of its devices.
        label: The stratum, for people.
        stand_in: Its figures come from machines that stand in for the board.
        verdict: What the selection said.
        winner: Manifest to roll out; ``None`` leaves the devices as they are.
        winner_label: The same for people.
        reason: Why, as a sentence.
        decision: Id of the decision record.
        lead: Its winner becomes what every device of the profile should run.
        keeps_best: It has no winner because its devices run the best already.
        held: Taken out of the rollout, and why.
        joined: Devices that appeared after it had been decided, and were taken into the last wave.
        members: Its devices.
    """

    profile: str
    label: str
    stand_in: bool | None
    verdict: Judgement
    winner: str | None
    winner_label: str | None
    reason: str
    decision: str | None = None
    lead: bool = True
    keeps_best: bool = False
    held: str = ""
    joined: int = 0
    members: tuple[Member, ...] = ()

    @property
    def active(self) -> bool:
        """Whether it takes part."""
        return self.winner is not None and not self.held


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A device before it is given its wave; ``facts`` is what a query may ask of it, ``limits`` what it has to keep."""

    device: str
    online: bool
    previous: str | None
    facts: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()


def seat(rollout: str, plan: Plan, seats: Iterable[Seat]) -> tuple[Member, ...]:
    """Return the members of a lane, in the order in which they are reached.

    The order is by a hash of rollout and device, so it is fair over rollouts and the same at every
    reading; only the canary prefers devices that are online.
    """
    fair = sorted(seats, key=lambda s: _hash(rollout, s.device))
    first = sorted(fair, key=lambda s: not s.online)[: plan.canary]
    chosen = frozenset(s.device for s in first)
    order = [*first, *(s for s in fair if s.device not in chosen)]
    numbers = wave_numbers(plan.schedule, plan.canary, [s.facts for s in order])
    return tuple(_member(s, wave) for s, wave in zip(order, numbers, strict=True))


def count(members: Sequence[Member], status: MemberStatus) -> int:
    """Return how many have this status."""
    return sum(m.status is status for m in members)


def _hash(rollout: str, device: str) -> bytes:
    return hashlib.sha256(f"{rollout}\0{device}".encode()).digest()


def _member(s: Seat, wave: int) -> Member:
    return Member(device=s.device, wave=wave, previous=s.previous, online=s.online, limits=s.limits)
