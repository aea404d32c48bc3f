"""What each wave of a rollout waits for, and what would stop it, in words. Pure."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from edgepick_host.core.arms import ARM, standing
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.watches import Watch, watches
from edgepick_host.core.waves import Lane, Leg, Member, MemberStatus, Plan
from edgepick_host.core.windows import parse_window
from edgepick_wire.enums import StrEnum

NAMED = 5
"""Devices that a line names; the JSON of the rollout has them all."""


class Turn(StrEnum):
    """Where a wave stands."""

    BEHIND = "behind"
    NOW = "now"
    AHEAD = "ahead"
    NEVER = "never"
    """The rollout ended, or is ending, before it came to this wave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveStory:
    """One wave.

    Attributes:
        wave: Its number; 0 for the canary.
        devices: In it, over all strata that take part.
        statuses: How many of them stand where.
        waits_for: What has to happen before the next wave begins.
        stopped_by: What would send every touched device back.
    """

    wave: int
    name: str
    turn: Turn
    devices: int
    statuses: dict[str, int]
    waits_for: tuple[str, ...] = ()
    stopped_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A rollout as it stands.

    Attributes:
        summary: In a sentence.
        waits_for: What the rollout as a whole waits for; the waves say the rest.
        watches: How near each watch over it is to sending everything back.
        compared: What a comparison between devices came to, or how it stands.
    """

    rollout: str
    model: str
    stage: Stage
    summary: str
    waits_for: tuple[str, ...]
    waves: tuple[WaveStory, ...]
    watches: tuple[Watch, ...] = ()
    compared: str = ""


def explain(state: RolloutState, *, now: float, measuring: Sequence[str] = ()) -> Explanation:
    """Return what a rollout waits for.

    Args:
        state: The rollout.
        now: Seconds since the epoch.
        measuring: Who still has to measure what, in words, while it is measuring.
    """
    return Explanation(
        rollout=state.id,
        model=state.model,
        stage=state.stage,
        summary=_summary(state),
        waits_for=tuple(_rollout_waits(state, now, measuring)),
        waves=tuple(_story(state, wave, now) for wave in range(state.waves + 1))
        if any(lane.active for lane in state.lanes)
        else (),
        watches=watches(state),
        compared=standing(state),
    )


def _summary(state: RolloutState) -> str:
    what = f"{state.model} {state.plan.version}"
    if state.stage.terminal:
        return f"{what}: {state.stage}, because {state.reason}"
    if state.stage is Stage.REVERTING:
        return f"{what}: every touched device returns, because {state.reason}"
    return {
        Stage.MEASURING: f"{what}: devices measure; nothing has been decided, and nobody is touched",
        Stage.DECIDING: f"{what}: the measurements are in and are being judged",
        Stage.CANARY: f"{what}: the canary of each stratum tries it",
        Stage.WAVE: f"{what}: wave {state.wave} of {state.waves}",
        Stage.PAUSED: f"{what}: paused; nobody new is touched, and harm still sends devices back",
    }[state.stage]


def _rollout_waits(state: RolloutState, now: float, measuring: Sequence[str]) -> Iterator[str]:
    if state.stage is Stage.MEASURING and state.deadline is None:
        yield f"the end of rollout {state.after}, which has to return its devices first"
    elif state.stage is Stage.MEASURING:
        yield from measuring
        yield f"at the latest {_until(state.deadline, now)}"
    elif state.stage is Stage.PAUSED:
        yield f"an operator: edgepick rollout resume {state.id}"
    elif state.stage is Stage.REVERTING:
        away = [m for m in state.members if m.touched and not m.returned]
        yield f"{len(away)} device(s) to be back on what they ran before{_named(away)}"
        yield f"at the latest {_until(state.deadline, now)}"


def _story(state: RolloutState, wave: int, now: float) -> WaveStory:
    lanes = [lane for lane in state.lanes if lane.active]
    members = [m for lane in lanes for m in lane.members if m.wave == wave]
    turn = _turn(state, wave)
    watched = turn is not Turn.NEVER and not state.stage.terminal
    return WaveStory(
        wave=wave,
        name="canary" if wave == CANARY else f"wave {wave} of {state.waves}",
        turn=turn,
        devices=len(members),
        statuses=dict(Counter(m.status.value for m in members)),
        waits_for=tuple(_waits(state, wave, lanes, now)) if turn in (Turn.NOW, Turn.AHEAD) else (),
        stopped_by=tuple(_stops(state.plan, lanes, wave)) if watched else (),
    )


def _turn(state: RolloutState, wave: int) -> Turn:
    offered = wave < state.wave or (wave == state.wave and state.upcoming != wave)
    if state.stage.terminal or state.stage is Stage.REVERTING:
        return Turn.BEHIND if offered else Turn.NEVER
    if wave == (state.wave if state.upcoming is None else state.upcoming):
        return Turn.NOW
    return Turn.BEHIND if offered else Turn.AHEAD


def _waits(state: RolloutState, wave: int, lanes: Sequence[Lane], now: float) -> Iterator[str]:
    if state.upcoming == wave and state.opens_at is not None:
        when = parse_window(state.plan.window).text(state.opens_at)
        yield f"the maintenance window ({state.plan.window}), which opens {when}, {_in(state.opens_at, now)}"
        return
    if _turn(state, wave) is Turn.AHEAD:
        yield from _ahead(state.plan, wave, [m for lane in lanes for m in lane.members if m.wave == wave])
        return
    offered = [m for lane in lanes for m in lane.members if m.wave <= wave and m.status is MemberStatus.OFFERED]
    for leg in Leg:
        stuck = [m for m in offered if m.reached and m.leg is leg]
        if stuck:
            limit = state.plan.phase_seconds.get(leg)
            most = f"; at most {limit:g} s in this phase" if limit is not None else ""
            yield f"{len(stuck)} device(s): {leg.words}{_named(stuck)}{most}"
    silent = [m for m in offered if not m.reached]
    if silent:
        yield f"{len(silent)} offline device(s), which count neither way if they stay so{_named(silent)}"
    if state.deadline is not None and offered:
        yield f"at the latest {_until(state.deadline, now)}"
    yield from _in_time(state, now)


def _in_time(state: RolloutState, now: float) -> Iterator[str]:
    if state.soak_until is not None:
        yield f"it has to stay healthy until {_moment(state.soak_until)}, {_in(state.soak_until, now)}"
    if state.compare_until is not None:
        yield f"the comparison with devices that wait, until {_until(state.compare_until, now)}"


def _ahead(plan: Plan, wave: int, members: Sequence[Member]) -> Iterator[str]:
    if not members:
        yield "nobody: every device that it would reach is in an earlier wave"
        return
    if plan.between is not None and wave == ARM + 1:
        yield f"the comparison: that at most {plan.between.max_excess:.1%} more devices fail than of those that wait"
    before = "the canary" if wave == CANARY + 1 else f"wave {wave - 1}"
    everyone = wave == CANARY + 1 or plan.min_confirmed == 1
    share = "every device" if everyone else f"{plan.min_confirmed:.0%} of the devices"
    kept = f", and kept {plan.checks}" if plan.checks else ""
    yield f"{before}: {share} that answers has confirmed{kept}, and stays healthy for {plan.soak_seconds:g} s"
    if plan.window:
        yield f"the maintenance window: {plan.window}"


def _stops(plan: Plan, lanes: Sequence[Lane], wave: int) -> Iterator[str]:
    if wave == CANARY:
        yield "any device of it that fails"
        return
    for lane in lanes:
        members = [m for m in lane.members if m.wave == wave]
        if members:
            bearable = math.floor(plan.max_failures * len(members) + 1e-9)
            lost = sum(m.status is MemberStatus.FAILED for m in members)
            yield f"{lane.label}: more than {bearable} of {len(members)} devices that fail; {lost} have"
    if plan.between is not None and wave == ARM:
        yield "its devices being shown to fail sooner than those they are compared with"


def _named(members: Sequence[Member]) -> str:
    names = ", ".join(m.device for m in members[:NAMED])
    return f" ({names}{', ...' if len(members) > NAMED else ''})" if members else ""


def _until(moment: float | None, now: float) -> str:
    return "never" if moment is None else f"{_moment(moment)}, {_in(moment, now)}"


def _moment(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _in(moment: float, now: float) -> str:
    left = max(0, round(moment - now))
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    return f"in {hours} h {minutes} min" if hours else f"in {minutes} min {seconds} s" if minutes else f"in {seconds} s"
