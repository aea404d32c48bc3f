"""The moves of a rollout: each takes a state and returns the one after it. When to make them is not decided here."""

import dataclasses
import math
from collections.abc import Callable

from edgepick_host.core.member_status import changed, due, reached, struck
from edgepick_host.core.rollout_state import MAX_HISTORY, HistoryLine, RolloutState, Stage
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.waves import Lane, Member, MemberStatus
from edgepick_host.core.windows import parse_window


def say(state: RolloutState, now: float, text: str) -> RolloutState:
    """Return the state with a line of history, as long as there is room for it."""
    if not text or len(state.history) >= MAX_HISTORY:
        return state
    return dataclasses.replace(state, history=(*state.history, HistoryLine(at=now, text=text)))


def where(state: RolloutState) -> str:
    """Return the stage in words."""
    return f"wave {state.wave} of {state.waves}" if state.stage is Stage.WAVE else state.stage.value


def each_member(state: RolloutState, change: Callable[[Lane, Member], Member], now: float) -> RolloutState:
    """Return the state after ``change`` to every device; the same object if nothing changed."""

    def stamped(lane: Lane, member: Member) -> Member:
        after = change(lane, member)
        fresh = after.status is MemberStatus.FAILED and member.status is not MemberStatus.FAILED
        return struck(after, now) if fresh and state.plan.between is not None else after

    lanes = tuple(_with_members(lane, tuple(stamped(lane, m) for m in lane.members)) for lane in state.lanes)
    pairs = zip(lanes, state.lanes, strict=True)
    moved = [
        (old, new)
        for lane, before in pairs
        if lane is not before
        for old, new in zip(before.members, lane.members, strict=True)
        if old is not new
    ]
    if not moved:
        return state
    first = min((due(state, new) for _, new in moved), default=math.inf)
    after = dataclasses.replace(state, lanes=lanes, phase_due=earlier(state.phase_due, first))
    for old, new in moved:
        if new.status is MemberStatus.FAILED and old.status is not MemberStatus.FAILED:
            after = say(after, now, f"{new.device}: {new.reason}")
    return after


def earlier(known: float | None, other: float) -> float | None:
    """Return the earlier of two moments; ``None`` and infinity stand for never."""
    if other == math.inf:
        return known
    return other if known is None else min(known, other)


def _with_members(lane: Lane, members: tuple[Member, ...]) -> Lane:
    if all(a is b for a, b in zip(members, lane.members, strict=True)):
        return lane
    return dataclasses.replace(lane, members=members)


def offer(state: RolloutState, wave: int, now: float) -> RolloutState:
    """Return the state with ``wave`` offered, or waiting for the maintenance window if anybody would be."""
    opens = parse_window(state.plan.window).opens(now) if state.plan.window and _anyone_waits(state, wave) else None
    if opens is not None:
        return _wait(state, wave, opens, now)

    def offered(lane: Lane, member: Member) -> Member:
        if not (lane.active and member.wave >= wave and member.status is MemberStatus.WAITING):
            return member
        if member.wave > wave:  # its silence means something from now on, if it is what others are compared with
            return changed(member, reached=member.online) if state.plan.between is not None else member
        member = changed(member, status=MemberStatus.OFFERED, reached=False)
        return reached(member, now) if member.online else member

    stage = Stage.CANARY if wave == CANARY else Stage.WAVE
    after = dataclasses.replace(
        each_member(dataclasses.replace(state, stage=stage, wave=wave), offered, now),
        deadline=now + state.plan.wave_seconds,
        soak_until=None,
        upcoming=None,
        opens_at=None,
    )
    devices = sum(m.status is MemberStatus.OFFERED for m in after.members)
    return say(after, now, f"{where(after)}: offered to {devices} device(s)") if devices else after


def _anyone_waits(state: RolloutState, wave: int) -> bool:
    active = (lane for lane in state.lanes if lane.active)
    return any(m.wave == wave and m.status is MemberStatus.WAITING for lane in active for m in lane.members)


def _wait(state: RolloutState, wave: int, opens: float, now: float) -> RolloutState:
    if (state.upcoming, state.opens_at) == (wave, opens):
        return state
    waiting = dataclasses.replace(state, upcoming=wave, opens_at=opens, deadline=None, soak_until=None)
    until = parse_window(state.plan.window).text(opens)
    what = "the canary" if wave == CANARY else f"wave {wave} of {state.waves}"
    return say(waiting, now, f"{what} waits for the maintenance window until {until}")


def go_back(state: RolloutState, ending: Stage, now: float, reason: str) -> RolloutState:
    """Return the state in which every touched device is wanted where it was; no window holds that back."""

    def back(_lane: Lane, member: Member) -> Member:
        stays = member.previous is None or member.status is MemberStatus.DECLINED
        return changed(member, returned=stays) if member.touched else member

    returning = dataclasses.replace(
        each_member(state, back, now),
        stage=Stage.REVERTING,
        ending=ending,
        reason=reason,
        deadline=now + state.plan.wave_seconds,
        upcoming=None,
        opens_at=None,
        paused_from=None,
        remaining=None,
        paused_at=None,
    )
    return say(returning, now, f"returning every touched device: {reason}")


def end(state: RolloutState, stage: Stage, now: float, reason: str) -> RolloutState:
    """Return the state at its end."""
    ended = dataclasses.replace(state, stage=stage, deadline=None, upcoming=None, opens_at=None, reason=reason)
    return say(ended, now, f"{stage}: {reason}")
