"""The rollout as a pure state machine: ``(state, event) -> (state, actions)``.

    measuring -> deciding -> canary -> wave 1 .. n -> done
                     |          |________|____________ reverting -> reverted | aborted
                     inconclusive            (paused keeps its place)

Rules:
- Going on needs *confirmed on the device*; a device that falls silent after it was reached is a failure.
- A failure sends every touched device back to what it ran before, and the end state says why.
- What should be wanted where is a function of the state alone (:func:`wanted`); actions are the
  difference that a step makes. After a crash the shell applies :func:`wanted` again.
- Events may be repeated, late, or out of order: a device's status only ever moves forward.
"""

import dataclasses
from collections.abc import Callable, Sequence

from edgepick_host.core.member_status import changed, failed, seen, told
from edgepick_host.core.rollout_state import (
    MAX_HISTORY,
    Action,
    Decided,
    Event,
    EvidenceReady,
    Heard,
    HistoryLine,
    Observed,
    Requested,
    RequestKind,
    RolloutState,
    Say,
    Stage,
    Tick,
    WantDevice,
    Wanted,
    WantProfile,
)
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.waves import Lane, Member, MemberStatus, Plan
from edgepick_wire.messages import Report


def begin(rollout: str, model: str, plan: Plan, *, now: float, reports_seen: int = 0) -> RolloutState:
    """Return a new rollout: measuring, or deciding at once when the variant was named."""
    skip = plan.variant is not None
    state = RolloutState(
        id=rollout,
        model=model,
        plan=plan,
        stage=Stage.DECIDING if skip else Stage.MEASURING,
        waves=len(plan.schedule),
        started_at=now,
        deadline=None if skip else now + plan.measure_seconds,
        reports_seen=reports_seen,
    )
    what = f"variant {plan.variant}, without selection" if skip else "waiting for measurements"
    return _say(state, now, f"rollout of {model} {plan.version} started: {what}")


def step(state: RolloutState, event: Event) -> tuple[RolloutState, tuple[Action, ...]]:
    """Return the state after ``event`` and what is to be done; a finished rollout stays as it is."""
    if state.stage.terminal:
        return state, ()
    after = _progress(_take_in(state, event), event.now)
    return after, _difference(state, after)


def wanted(state: RolloutState) -> Wanted:
    """Return what should be wanted where, by this rollout, whatever happened on the way."""
    if state.stage is Stage.DONE:
        return _wanted_after(state)
    back = state.stage in (Stage.REVERTING, Stage.REVERTED, Stage.ABORTED, Stage.INCONCLUSIVE)
    devices = {
        m.device: m.previous if back or lane.held else lane.winner
        for lane in state.lanes
        for m in lane.members
        if m.touched
    }
    return Wanted(devices=devices, profiles={})


def mark_settled(state: RolloutState) -> RolloutState:
    """Return a finished rollout whose last wishes are published."""
    return dataclasses.replace(state, settled=True)


def _wanted_after(state: RolloutState) -> Wanted:
    leading = () if state.plan.only else state.lanes  # a part of the fleet speaks for itself alone
    profiles = {lane.profile: lane.winner for lane in leading if lane.lead and lane.active and lane.winner}
    devices: dict[str, str | None] = {}
    for lane in state.lanes:
        for member in lane.members:
            target = lane.winner if lane.active and member.status is not MemberStatus.FAILED else member.previous
            pinned = member.status is MemberStatus.DECLINED
            needs_own = member.touched or lane.profile in profiles
            if needs_own and not pinned and target != profiles.get(lane.profile):
                devices[member.device] = target
    return Wanted(devices=devices, profiles=profiles)


def _difference(before: RolloutState, after: RolloutState) -> tuple[Action, ...]:
    said = after.history[len(before.history) :] if len(after.history) > len(before.history) else ()
    if before.lanes is after.lanes and before.stage is after.stage:
        return tuple(Say(text=line.text) for line in said)
    old, new = wanted(before), wanted(after)
    devices = (WantDevice(device=d, manifest=m) for d, m in new.devices.items() if old.devices.get(d, "") != m)
    profiles = (WantProfile(profile=p, manifest=m) for p, m in new.profiles.items() if old.profiles.get(p) != m)
    return (*devices, *profiles, *(Say(text=line.text) for line in said))


# What each event does to the state.


def _take_in(state: RolloutState, event: Event) -> RolloutState:
    match event:
        case Tick():
            return state
        case EvidenceReady():
            return _on_evidence(state, event)
        case Decided():
            return _on_decided(state, event)
        case Observed():
            return _on_observed(state, event)
        case Heard():
            return _on_heard(state, event)
        case Requested():
            return _on_requested(state, event)


def _on_evidence(state: RolloutState, event: EvidenceReady) -> RolloutState:
    if state.stage is not Stage.MEASURING:
        return state
    return _say(dataclasses.replace(state, stage=Stage.DECIDING, deadline=None), event.now, event.detail)


def _on_decided(state: RolloutState, event: Decided) -> RolloutState:
    if state.stage is not Stage.DECIDING:
        return state
    reaching = max((m.wave for lane in event.lanes for m in lane.members), default=0)
    state = dataclasses.replace(state, lanes=event.lanes, waves=max(state.waves, reaching))
    for lane in event.lanes:
        state = _say(state, event.now, f"{lane.label}: {lane.verdict}: {lane.reason}")
    peopled = [lane for lane in event.lanes if lane.members]
    if peopled and all(lane.keeps_best for lane in peopled):
        return _end(state, Stage.DONE, event.now, "every stratum runs its best variant already")
    if not any(lane.active for lane in event.lanes):
        return _end(state, Stage.INCONCLUSIVE, event.now, "no stratum has a variant to roll out")
    return _offer(dataclasses.replace(state, stage=Stage.CANARY), CANARY, event.now)


def _on_observed(state: RolloutState, event: Observed) -> RolloutState:
    views = {v.device: v for v in event.views}
    return _each_member(
        state, lambda lane, m: seen(state, lane, m, views[m.device]) if m.device in views else m, event.now
    )


def _on_heard(state: RolloutState, event: Heard) -> RolloutState:
    fresh = event.reports[max(state.reports_seen - event.first, 0) :]
    if event.first > state.reports_seen:
        return state  # a gap: the shell will come again with what is missing
    by_device: dict[str, list[Report]] = {}
    for report in fresh:
        by_device.setdefault(report.device, []).append(report)
    seen = max(state.reports_seen, event.first + len(event.reports))
    state = dataclasses.replace(state, reports_seen=seen)
    return _each_member(state, lambda lane, m: told(state, lane, m, by_device.get(m.device, ())), event.now)


def _on_requested(state: RolloutState, event: Requested) -> RolloutState:
    if state.request_seen == event.id:
        return state
    state = dataclasses.replace(state, request_seen=event.id)
    if event.kind is RequestKind.ABORT:
        return _abort(state, event.now)
    if event.kind is RequestKind.PAUSE and state.stage not in (Stage.PAUSED, Stage.REVERTING):
        return _pause(state, event.now)
    if event.kind is RequestKind.RESUME and state.stage is Stage.PAUSED:
        return _resume(state, event.now)
    return _say(state, event.now, f"{event.kind} changes nothing while {state.stage}")


def _abort(state: RolloutState, now: float) -> RolloutState:
    if state.stage is Stage.REVERTING:
        return dataclasses.replace(state, ending=Stage.ABORTED)
    return _return(state, Stage.ABORTED, now, "aborted by the operator")


def _pause(state: RolloutState, now: float) -> RolloutState:
    remaining = None if state.deadline is None else max(state.deadline - now, 0.0)
    paused = dataclasses.replace(state, stage=Stage.PAUSED, paused_from=state.stage, remaining=remaining, deadline=None)
    return _say(paused, now, f"paused in {_where(state)}")


def _resume(state: RolloutState, now: float) -> RolloutState:
    deadline = None if state.remaining is None else now + state.remaining
    resumed = dataclasses.replace(
        state, stage=state.paused_from or Stage.CANARY, paused_from=None, remaining=None, deadline=deadline
    )
    return _say(resumed, now, f"resumed {_where(resumed)}")


def _each_member(state: RolloutState, change: Callable[[Lane, Member], Member], now: float) -> RolloutState:
    lanes = tuple(_with_members(lane, tuple(change(lane, m) for m in lane.members)) for lane in state.lanes)
    if all(a is b for a, b in zip(lanes, state.lanes, strict=True)):
        return state
    after = dataclasses.replace(state, lanes=lanes)
    for old, new in zip(state.members, after.members, strict=True):
        if new.status is MemberStatus.FAILED and old.status is not MemberStatus.FAILED:
            after = _say(after, now, f"{new.device}: {new.reason}")
    return after


def _with_members(lane: Lane, members: tuple[Member, ...]) -> Lane:
    if all(a is b for a, b in zip(members, lane.members, strict=True)):
        return lane
    return dataclasses.replace(lane, members=members)


# What follows from the state by itself.


def _progress(state: RolloutState, now: float) -> RolloutState:
    """Return the state after everything that is due at ``now`` has happened."""
    while True:
        after = _due(state, now)
        if after is state:
            return state
        state = after


def _due(state: RolloutState, now: float) -> RolloutState:
    late = state.deadline is not None and now >= state.deadline
    if state.stage is Stage.MEASURING and late:
        return _on_evidence(state, EvidenceReady(now=now, detail="the time for measuring is over"))
    if state.stage in (Stage.CANARY, Stage.WAVE, Stage.PAUSED) and (harm := _harm(state)):
        return _return(state, Stage.REVERTED, now, harm)
    if state.stage in (Stage.CANARY, Stage.WAVE):
        return _next(_expire(state, now) if late else state, now, late=late)
    if state.stage is Stage.REVERTING and (late or all(m.returned for m in state.members if m.touched)):
        return _returned(state, now)
    return state


def _harm(state: RolloutState) -> str:
    """Return why everything must return, or nothing."""
    for lane in state.lanes:
        for wave in range(state.wave + 1):
            members = [m for m in lane.members if m.wave == wave and m.counts]
            failed = [m for m in members if m.status is MemberStatus.FAILED]
            limit = 0.0 if wave == CANARY else state.plan.max_failures
            if failed and len(failed) > limit * len(members):
                where = "the canary" if wave == CANARY else f"wave {wave}"
                why = "; ".join(f"{m.device} {m.reason}" for m in failed[:3])
                return f"{lane.label}: {len(failed)} of {len(members)} devices failed in {where} ({why})"
    return ""


def _expire(state: RolloutState, now: float) -> RolloutState:
    def silent(_lane: Lane, member: Member) -> Member:
        if member.status is not MemberStatus.OFFERED:
            return member
        if member.reached:
            return failed(member, f"not confirmed before the deadline: {member.standing or 'nothing was heard of it'}")
        return changed(member, status=MemberStatus.UNREACHABLE)

    return dataclasses.replace(_each_member(state, silent, now), deadline=None)


def _next(state: RolloutState, now: float, *, late: bool) -> RolloutState:
    if _harm(state) or not _complete(state, late=late):
        return state
    if state.stage is Stage.CANARY and (without := _without_canary(state)):
        return _another_canary(state, without, now)
    if state.soak_until is None and _anyone_in_wave(state):
        return dataclasses.replace(state, soak_until=now + state.plan.soak_seconds)
    if state.soak_until is not None and now < state.soak_until:
        return state
    if state.wave >= state.waves:
        return _end(state, Stage.DONE, now, "confirmed on every device that answered")
    return _offer(dataclasses.replace(state, stage=Stage.WAVE), state.wave + 1, now)


def _complete(state: RolloutState, *, late: bool) -> bool:
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
        state = _say(state, now, f"{lane.label}: left as it is: {lane.held}")
    if not any(lane.active for lane in lanes):
        return _end(state, Stage.INCONCLUSIVE, now, "no canary device answered")
    return _offer(state, CANARY, now)


def _with_substitute(lane: Lane) -> Lane:
    """Return the lane with its next online device as canary, or held if there is none."""
    following = next((m for m in lane.members if m.status is MemberStatus.WAITING and m.online), None)
    if following is None:
        return dataclasses.replace(lane, held="no canary device answered before the deadline")
    members = tuple(changed(m, wave=CANARY) if m is following else m for m in lane.members)
    return dataclasses.replace(lane, members=members)


def _offer(state: RolloutState, wave: int, now: float) -> RolloutState:
    def offered(lane: Lane, member: Member) -> Member:
        if lane.active and member.wave == wave and member.status is MemberStatus.WAITING:
            return changed(member, status=MemberStatus.OFFERED, reached=member.online)
        return member

    after = dataclasses.replace(
        _each_member(state, offered, now), wave=wave, deadline=now + state.plan.wave_seconds, soak_until=None
    )
    devices = sum(m.status is MemberStatus.OFFERED for m in after.members)
    return _say(after, now, f"{_where(after)}: offered to {devices} device(s)") if devices else after


def _return(state: RolloutState, ending: Stage, now: float, reason: str) -> RolloutState:
    def back(_lane: Lane, member: Member) -> Member:
        stays = member.previous is None or member.status is MemberStatus.DECLINED
        return changed(member, returned=stays) if member.touched else member

    returning = dataclasses.replace(
        _each_member(state, back, now),
        stage=Stage.REVERTING,
        ending=ending,
        reason=reason,
        deadline=now + state.plan.wave_seconds,
        paused_from=None,
        remaining=None,
    )
    return _say(returning, now, f"returning every touched device: {reason}")


def _returned(state: RolloutState, now: float) -> RolloutState:
    away = [m.device for m in state.members if m.touched and not m.returned]
    note = f"; not heard back from {', '.join(away)}, which return when they are heard" if away else ""
    return _end(state, state.ending or Stage.REVERTED, now, f"{state.reason}{note}")


def _end(state: RolloutState, stage: Stage, now: float, reason: str) -> RolloutState:
    ended = dataclasses.replace(state, stage=stage, deadline=None, reason=reason)
    return _say(ended, now, f"{stage}: {reason}")


def _where(state: RolloutState) -> str:
    return f"wave {state.wave} of {state.waves}" if state.stage is Stage.WAVE else state.stage.value


def _say(state: RolloutState, now: float, text: str) -> RolloutState:
    if not text or len(state.history) >= MAX_HISTORY:
        return state
    return dataclasses.replace(state, history=(*state.history, HistoryLine(at=now, text=text)))
