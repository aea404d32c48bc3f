"""A rollout as a person looks at it: counts instead of ten thousand devices, and these by the page.

Who looks at a rollout reads what is here again every other second; what is sent does not grow with the fleet.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from edgepick_host.core.explanation import Explanation
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.waves import Lane, Member, MemberStatus
from edgepick_host.ports import Store
from edgepick_host.service import campaigns

EXAMPLES = 20
"""Devices of a stratum that are told with the rollout, of those that have something to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveCount:
    """One wave of one stratum.

    Attributes:
        step: How the plan describes it; the canary's is the number of its devices.
        statuses: How many devices stand where.
    """

    wave: int
    step: str
    devices: int
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """One stratum.

    Attributes:
        lane: The stratum without its devices.
        waves: Its waves, those included that nobody is in.
        examples: The first devices that failed, declined, or have another reason to be told.
        spoken: How many such devices there are.
    """

    lane: Lane
    waves: tuple[WaveCount, ...]
    examples: tuple[Member, ...]
    spoken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A rollout.

    Attributes:
        rollout: Everything about it but its strata.
        lanes: These.
        explanation: What it waits for, what it watches, and how near that is to stopping it.
    """

    rollout: RolloutState
    lanes: tuple[LaneView, ...]
    explanation: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPage:
    """Some devices of a rollout, by name, and how many match in all."""

    total: int
    members: tuple[Member, ...]


def view(store: Store, state: RolloutState, *, now: float) -> RolloutView:
    """Return a rollout with counts instead of devices."""
    return RolloutView(
        rollout=dataclasses.replace(state, lanes=()),
        lanes=tuple(_lane(state, lane) for lane in state.lanes),
        explanation=campaigns.explained(store, state, now=now),
    )


def members(
    state: RolloutState, *, status: MemberStatus | None, wave: int | None, after: str, limit: int
) -> MemberPage:
    """Return the devices with this status in this wave whose names come after ``after``, by name."""
    matching = [m for m in state.members if status in (None, m.status) and wave in (None, m.wave)]
    following = sorted((m for m in matching if m.device > after), key=lambda m: m.device)
    return MemberPage(total=len(matching), members=tuple(following[:limit]))


def _lane(state: RolloutState, lane: Lane) -> LaneView:
    spoken = [m for m in lane.members if m.reason]
    return LaneView(
        lane=dataclasses.replace(lane, members=()),
        waves=tuple(_waves(state, lane)),
        examples=tuple(spoken[:EXAMPLES]),
        spoken=len(spoken),
    )


def _waves(state: RolloutState, lane: Lane) -> Iterator[WaveCount]:
    counts = Counter((m.wave, m.status.value) for m in lane.members)
    steps = [str(step) for step in state.plan.schedule]
    for wave in range(max([state.waves, *(w for w, _ in counts)]) + 1):
        statuses = {status: n for (w, status), n in counts.items() if w == wave}
        step = f"{state.plan.canary} first" if wave == CANARY else steps[min(wave, len(steps)) - 1]
        yield WaveCount(wave=wave, step=step, devices=sum(statuses.values()), statuses=statuses)
