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
- Outside of the maintenance window nobody new is offered anything; a return waits for nothing.
"""

import dataclasses

from edgepick_host.core.arms import prospects
from edgepick_host.core.checks import typical
from edgepick_host.core.member_status import changed, seen, told
from edgepick_host.core.progress import evidence, progress, resting
from edgepick_host.core.rollout_moves import each_member, end, go_back, offer, say, where
from edgepick_host.core.rollout_state import (
    Action,
    Decided,
    Event,
    EvidenceReady,
    Heard,
    Joined,
    Joiner,
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


def begin(rollout: str, model: str, plan: Plan, *, now: float, reports_seen: int = 0, after: str = "") -> RolloutState:
    """Return a new rollout: measuring, or deciding at once when the variant was named.

    Where it has to wait for the end of rollout ``after``, its time for measuring begins with its first step.
    """
    skip = plan.variant is not None
    state = RolloutState(
        id=rollout,
        model=model,
        plan=plan,
        stage=Stage.DECIDING if skip else Stage.MEASURING,
        waves=len(plan.schedule),
        started_at=now,
        deadline=None if skip or after else now + plan.measure_seconds,
        after=after,
        reports_seen=reports_seen,
    )
    what = f"variant {plan.variant}, without selection" if skip else "waiting for measurements"
    turn = f"; it waits for {after} to end" if after else ""
    return say(state, now, f"rollout of {model} {plan.version} started: {what}{turn}")


def step(state: RolloutState, event: Event) -> tuple[RolloutState, tuple[Action, ...]]:
    """Return the state after ``event`` and what is to be done; a finished rollout stays as it is."""
    if state.stage.terminal:
        return state, ()
    taken = _take_in(state, event)
    if taken is state and resting(state, event.now):
        return state, ()
    after = progress(taken, event.now)
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
        case EvidenceReady():
            state = _on_evidence(state, event)
        case Decided():
            state = _on_decided(state, event)
        case Observed():
            state = _on_observed(state, event)
        case Heard():
            state = _on_heard(state, event)
        case Requested():
            state = _on_requested(state, event)
        case Joined():
            state = _on_joined(state, event)
        case Tick():
            pass
    return state


def _on_evidence(state: RolloutState, event: EvidenceReady) -> RolloutState:
    if state.stage is not Stage.MEASURING:
        return state
    return evidence(state, event.now, event.detail)


def _on_decided(state: RolloutState, event: Decided) -> RolloutState:
    if state.stage is not Stage.DECIDING:
        return state
    reaching = max((m.wave for lane in event.lanes for m in lane.members), default=0)
    state = dataclasses.replace(state, lanes=event.lanes, waves=max(state.waves, reaching))
    for lane in event.lanes:
        state = say(state, event.now, f"{lane.label}: {lane.verdict}: {lane.reason}")
    peopled = [lane for lane in event.lanes if lane.members]
    if peopled and all(lane.keeps_best for lane in peopled):
        return end(state, Stage.DONE, event.now, "every stratum runs its best variant already")
    if not any(lane.active for lane in event.lanes):
        return end(state, Stage.INCONCLUSIVE, event.now, "no stratum has a variant to roll out")
    for text in prospects(state.plan, event.lanes):
        state = say(state, event.now, text)
    return offer(dataclasses.replace(state, stage=Stage.CANARY), CANARY, event.now)


def _on_observed(state: RolloutState, event: Observed) -> RolloutState:
    views = {v.device: v for v in event.views}
    if not views:
        return state

    def observed(lane: Lane, member: Member) -> Member:
        view = views.get(member.device)
        return member if view is None else seen(state, lane, member, view, event.now)

    return each_member(state, observed, event.now)


def _on_joined(state: RolloutState, event: Joined) -> RolloutState:
    """Return the state with new devices in the last wave, unless that has begun: then their profile serves them."""
    known = {m.device for m in state.members} if joinable(state) else set()
    fresh = [j for j in event.joiners if j.seat.device not in known] if joinable(state) else []
    lanes = tuple(_with_joiners(lane, fresh, state.waves) for lane in state.lanes)
    came = sum(len(new.members) - len(old.members) for new, old in zip(lanes, state.lanes, strict=True))
    if not came:
        return state
    return say(dataclasses.replace(state, lanes=lanes), event.now, f"{came} new device(s) joined the last wave")


def joinable(state: RolloutState) -> bool:
    """Return whether a device that appears now is still taken in; between arms that were drawn, nobody is."""
    return (
        state.plan.between is None
        and bool(state.lanes)
        and not state.stage.terminal
        and state.wave < state.waves
        and state.ending is None
    )


def _with_joiners(lane: Lane, joiners: list[Joiner], wave: int) -> Lane:
    seats = {j.seat.device: j.seat for j in joiners if j.profile == lane.profile} if lane.lead and lane.active else {}
    kept = typical([m.limits for m in lane.members]) if seats else ()
    members = (
        Member(device=s.device, wave=wave, previous=s.previous, online=s.online, limits=s.limits or kept)
        for s in seats.values()
    )
    if not seats:
        return lane
    return dataclasses.replace(lane, members=(*lane.members, *members), joined=lane.joined + len(seats))


def _on_heard(state: RolloutState, event: Heard) -> RolloutState:
    fresh = event.reports[max(state.reports_seen - event.first, 0) :]
    if event.first > state.reports_seen:
        return state  # a gap: the shell will come again with what is missing
    by_device: dict[str, list[Report]] = {}
    for report in fresh:
        by_device.setdefault(report.device, []).append(report)
    counted = max(state.reports_seen, event.first + len(event.reports))
    state = dataclasses.replace(state, reports_seen=counted)
    return each_member(state, lambda lane, m: told(state, lane, m, by_device.get(m.device, ()), event.now), event.now)


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
    return say(state, event.now, f"{event.kind} changes nothing while {state.stage}")


def _abort(state: RolloutState, now: float) -> RolloutState:
    if state.stage is Stage.REVERTING:
        return dataclasses.replace(state, ending=Stage.ABORTED)
    return go_back(state, Stage.ABORTED, now, "aborted by the operator")


def _pause(state: RolloutState, now: float) -> RolloutState:
    remaining = None if state.deadline is None else max(state.deadline - now, 0.0)
    paused = dataclasses.replace(
        state, stage=Stage.PAUSED, paused_from=state.stage, remaining=remaining, deadline=None, paused_at=now
    )
    return say(paused, now, f"paused in {where(state)}")


def _resume(state: RolloutState, now: float) -> RolloutState:
    """Return the state with the time that was left: for the stage, and for each device in its phase."""
    deadline = None if state.remaining is None else now + state.remaining
    away = 0.0 if state.paused_at is None else now - state.paused_at

    def later(_lane: Lane, member: Member) -> Member:
        return member if member.since is None or not away else changed(member, since=member.since + away)

    moved = dataclasses.replace(each_member(state, later, now), phase_due=_later(state.phase_due, away))
    moved = dataclasses.replace(moved, compare_until=_later(state.compare_until, away))
    resumed = dataclasses.replace(
        moved,
        stage=state.paused_from or Stage.CANARY,
        paused_from=None,
        remaining=None,
        paused_at=None,
        deadline=deadline,
    )
    return say(resumed, now, f"resumed {where(resumed)}")


def _later(moment: float | None, seconds: float) -> float | None:
    return None if moment is None else moment + seconds
