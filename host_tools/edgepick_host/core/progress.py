"""What follows from a rollout's state and the time by itself: what is due, and what is not yet complete. Pure."""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

from edgepick_host.core.arms import compare, comparing, excess_harm
from edgepick_host.core.experiment.harm import alarm
from edgepick_host.core.member_status import changed, due, failed, fallen_silent
from edgepick_host.core.rollout_moves import each_member, earlier, end, go_back, offer, say
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.watches import harm_rules, watched
from edgepick_host.core.waves import Lane, Member, MemberStatus

OFFERING = (Stage.CANARY, Stage.WAVE)
"""Stages in which devices are offered the winner."""


def progress(state: RolloutState, now: float) -> RolloutState:
    """Return the state after everything that is due at ``now`` has happened."""
    while True:
        after = _due(state, now)
        if after is state:
            return state
        state = after


def resting(state: RolloutState, now: float) -> bool:
    """Return whether time alone changes nothing yet in a state that :func:`progress` has returned."""
    moments = (state.deadline, state.soak_until, state.opens_at, state.phase_due, state.compare_until)
    unset = state.stage is Stage.MEASURING and state.deadline is None
    return not unset and all(moment is None or now < moment for moment in moments)


def _due(state: RolloutState, now: float) -> RolloutState:
    late = state.deadline is not None and now >= state.deadline
    if state.stage is Stage.MEASURING:
        return _measuring(state, now, late=late)
    if state.stage in (*OFFERING, Stage.PAUSED) and (found := harm(state) or excess_harm(state)):
        return go_back(state, Stage.REVERTED, now, found)
    if state.stage in OFFERING and state.upcoming is not None:
        return offer(state, state.upcoming, now)
    if state.stage in OFFERING:
        state = _stuck(state, now)
        return _next(_expire(state, now) if late else state, now, late=late)
    if state.stage is Stage.REVERTING and (late or all(m.returned for m in state.members if m.touched)):
        return _returned(state, now)
    return state


def evidence(state: RolloutState, now: float, detail: str) -> RolloutState:
    """Return the state in which the measurements are judged."""
    return say(dataclasses.replace(state, stage=Stage.DECIDING, deadline=None), now, detail)


def _measuring(state: RolloutState, now: float, *, late: bool) -> RolloutState:
    if state.deadline is None:  # it has waited for another rollout to end; its time begins now
        return dataclasses.replace(state, deadline=now + state.plan.measure_seconds)
    return evidence(state, now, "the time for measuring is over") if late else state


def harm(state: RolloutState) -> str:
    """Return why everything must return, or nothing: too many failed in one wave, or harm is shown over all of them."""
    rules = harm_rules(state.plan)
    for lane in state.lanes:
        counted = Counter(m.wave for m in lane.members if m.wave <= state.wave and m.counts)
        lost = Counter(m.wave for m in lane.members if m.status is MemberStatus.FAILED)
        for wave in sorted(lost):
            limit = 0.0 if wave == CANARY else state.plan.max_failures
            if lost[wave] > limit * counted[wave]:
                return _harm_words(lane, wave, lost[wave], counted[wave])
        if rules is not None and (shown := alarm(watched(state, lane), rules, strata=state.strata)):
            return f"{lane.label}: {shown}{_examples(lane, sorted(lost))}"
    return ""


def _harm_words(lane: Lane, wave: int, lost: int, counted: int) -> str:
    place = "the canary" if wave == CANARY else f"wave {wave}"
    return f"{lane.label}: {lost} of {counted} devices failed in {place}{_examples(lane, [wave])}"


def _examples(lane: Lane, waves: Sequence[int]) -> str:
    members = [m for m in lane.members if m.wave in waves and m.status is MemberStatus.FAILED]
    return f" ({'; '.join(f'{m.device} {m.reason}' for m in members[:3])})" if members else ""


def _expire(state: RolloutState, now: float) -> RolloutState:
    def silent(_lane: Lane, member: Member) -> Member:
        if member.status is not MemberStatus.OFFERED:
            return fallen_silent(state, member, now)
        if member.reached:
            return failed(member, f"not confirmed before the deadline: {member.leg.words}")
        return changed(member, status=MemberStatus.UNREACHABLE)

    return dataclasses.replace(each_member(state, silent, now), deadline=None)


def _stuck(state: RolloutState, now: float) -> RolloutState:
    """Return the state in which devices that were too long in one phase have failed."""
    if state.phase_due is None or now < state.phase_due:
        return state

    def overdue(_lane: Lane, member: Member) -> Member:
        if now < due(state, member):
            return fallen_silent(state, member, now)
        limit = state.plan.phase_seconds[member.leg]
        return failed(member, f"too long in phase {member.leg}: {member.leg.words} after {limit:g} s")

    after = each_member(state, overdue, now)
    first = min((due(after, m) for m in after.members), default=math.inf)
    return dataclasses.replace(after, phase_due=earlier(None, first))


def _next(state: RolloutState, now: float, *, late: bool) -> RolloutState:
    if harm(state) or not complete(state, late=late):
        return state
    if state.stage is Stage.CANARY and (without := _without_canary(state)):
        return _another_canary(state, without, now)
    if state.soak_until is None and _anyone_in_wave(state):
        return dataclasses.replace(state, soak_until=now + state.plan.soak_seconds)
    if state.soak_until is not None and now < state.soak_until:
        return state
    if state.wave >= state.waves:
        return end(state, Stage.DONE, now, "confirmed on every device that answered")
    return compare(state, now) if comparing(state) else offer(state, state.wave + 1, now)


def complete(state: RolloutState, *, late: bool) -> bool:
    """Return whether the present wave needs no more answers."""
    members = [m for lane in state.lanes if lane.active for m in lane.members if m.wave <= state.wave]
    if late or all(m.settled for m in members):
        return all(m.settled for m in members)
    if state.stage is Stage.CANARY or state.wave >= state.waves:
        return False
    counted = [m for m in members if m.wave == state.wave and m.counts]
    confirmed = sum(m.status is MemberStatus.CONFIRMED for m in counted)
    return state.plan.min_confirmed < 1 and confirmed >= state.plan.min_confirmed * max(len(counted), 1)


def _anyone_in_wave(state: RolloutState) -> bool:
    return any(m.wave == state.wave and m.counts for lane in state.lanes if lane.active for m in lane.members)


def _without_canary(state: RolloutState) -> list[Lane]:
    """Return the lanes of which no canary confirmed: nothing is known there."""
    return [
        lane
        for lane in state.lanes
        if lane.active and not any(m.status is MemberStatus.CONFIRMED for m in lane.members)
    ]


def _another_canary(state: RolloutState, without: Sequence[Lane], now: float) -> RolloutState:
    lanes = tuple(_with_substitute(lane) if lane in without else lane for lane in state.lanes)
    newly_held = [new for old, new in zip(state.lanes, lanes, strict=True) if new.held and not old.held]
    state = dataclasses.replace(state, lanes=lanes)
    for lane in newly_held:
        state = say(state, now, f"{lane.label}: left as it is: {lane.held}")
    if not any(lane.active for lane in lanes):
        return end(state, Stage.INCONCLUSIVE, now, "no canary device answered")
    return offer(state, CANARY, now)


def _with_substitute(lane: Lane) -> Lane:
    """Return the lane with its next online device as canary, or held if there is none."""
    following = next((m for m in lane.members if m.status is MemberStatus.WAITING and m.online), None)
    if following is None:
        return dataclasses.replace(lane, held="no canary device answered before the deadline")
    members = tuple(changed(m, wave=CANARY) if m is following else m for m in lane.members)
    return dataclasses.replace(lane, members=members)


def _returned(state: RolloutState, now: float) -> RolloutState:
    away = [m.device for m in state.members if m.touched and not m.returned]
    note = f"; not heard back from {', '.join(away)}, which return when they are heard" if away else ""
    return end(state, state.ending or Stage.REVERTED, now, f"{state.reason}{note}")
