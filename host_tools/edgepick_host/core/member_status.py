"""What a device says, as its status in a rollout. A status only ever moves forward."""

import dataclasses
import math
from collections.abc import Iterable

from edgepick_host.core.checks import breach, grown, request_id
from edgepick_host.core.rollout_state import DeviceView, RolloutState, Stage
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.waves import Lane, Leg, Member, MemberStatus
from edgepick_wire.messages import (
    IncidentCode,
    MeasuredVariant,
    ModelState,
    Outcome,
    Phase,
    Refusal,
    RefusalCode,
    Report,
)

CRASHES = frozenset(
    (
        IncidentCode.RUNNER_CRASHED,
        IncidentCode.RUNNER_HUNG,
        IncidentCode.RUNNER_OVER_MEMORY,
        IncidentCode.RUNNER_BAD_ANSWERS,
        IncidentCode.FELL_BACK,
    )
)
"""What counts as a failure in the field, whichever variant ran."""
_LEGS = {Phase.FETCHING: Leg.FETCH, Phase.TRIAL: Leg.TRIAL, Phase.CONFIRMING: Leg.CONFIRM}


def seen(state: RolloutState, lane: Lane, member: Member, view: DeviceView, now: float) -> Member:
    """Return the member after its device was seen so."""
    member = changed(member, online=view.online)
    if view.online:
        member = reached(member, now)
    if view.online and _in_arm(state, member):
        member = changed(member, reached=True)
    if view.state is None:
        return member
    home = view.state.active == member.previous and view.state.wanted != lane.winner
    if member.touched and home and state.stage is Stage.REVERTING:
        member = changed(member, returned=True)
    return _stated(state, lane, member, view.state, now)


def reached(member: Member, now: float) -> Member:
    """Return the member as one that could answer, if it was offered anything: its silence means something now."""
    if member.status is not MemberStatus.OFFERED or member.reached:
        return member
    return changed(member, reached=True, since=now)


def _stated(state: RolloutState, lane: Lane, member: Member, said: ModelState, now: float) -> Member:
    ours = said.wanted == lane.winner and said.rollout == state.id
    if ours and said.phase in (Phase.REVERTED, Phase.REFUSED):
        return _lost(member, said.phase, said.refusal)
    if said.phase is Phase.CONFIRMED and said.active is not None and said.active == lane.winner:
        return _confirmed(member, now)
    leg = _LEGS.get(said.phase, Leg.BEGIN)
    if not ours or member.status is not MemberStatus.OFFERED or member.leg is leg:
        return member
    return changed(member, reached=True, leg=leg, since=now)


def due(state: RolloutState, member: Member) -> float:
    """Return when a device has been too long in the phase in which it is; infinity if that has no limit of its own."""
    limit = state.plan.phase_seconds.get(member.leg)
    if limit is None or member.since is None or member.status is not MemberStatus.OFFERED:
        return math.inf
    return member.since + limit


def told(state: RolloutState, lane: Lane, member: Member, reports: Iterable[Report], now: float) -> Member:
    """Return the member after its device's reports."""
    for report in reports:
        install, incident, figures = report.install, report.incident, report.measurement
        if incident and incident.code in CRASHES and _in_arm(state, member):
            member = struck(member, now)
        if install and install.rollout == state.id and install.manifest == lane.winner:
            done = install.outcome is Outcome.CONFIRMED
            member = _confirmed(member, now) if done else _lost(member, install.outcome, install.refusal)
        elif incident and incident.code is IncidentCode.FELL_BACK and incident.manifest == lane.winner:
            member = failed(member, f"fell back: {incident.detail}")
        elif figures and figures.request == request_id(state.id) and figures.manifest == lane.winner:
            member = _measured(member, figures)
    return member


def _in_arm(state: RolloutState, member: Member) -> bool:
    return state.plan.between is not None and state.wave > CANARY and member.wave > CANARY


def fallen_silent(state: RolloutState, member: Member, now: float) -> Member:
    """Return the member as one that failed, if it is in an arm, answered since the candidate was offered, and is away.

    Which arm it is in makes no difference: otherwise the devices that are away on any day would speak against one arm.
    """
    gone = _in_arm(state, member) and member.reached and not member.online
    return struck(member, now) if gone else member


def struck(member: Member, now: float) -> Member:
    """Return the member as one that failed, which may only be its first failure."""
    return member if member.struck is not None else changed(member, struck=now)


def _measured(member: Member, figures: MeasuredVariant) -> Member:
    # Also of a device that fails for it: to leave it out would have the others speak for it.
    member = changed(member, grown=grown(member.limits, figures))
    if why := breach(member.limits, figures):
        return failed(member, why)
    waited = member.leg is Leg.MEASURE and member.status in (MemberStatus.OFFERED, MemberStatus.UNREACHABLE)
    return changed(member, checked=True, status=MemberStatus.CONFIRMED if waited else member.status)


def _confirmed(member: Member, now: float) -> Member:
    """Return the member as confirmed, or as one whose figures are awaited."""
    if member.status not in (MemberStatus.OFFERED, MemberStatus.UNREACHABLE):
        return member
    if not member.limits or member.checked:
        return changed(member, status=MemberStatus.CONFIRMED, reached=True)
    return member if member.leg is Leg.MEASURE else changed(member, leg=Leg.MEASURE, since=now, reached=True)


def _lost(member: Member, how: str, refusal: Refusal | None) -> Member:
    if refusal is not None and refusal.code is RefusalCode.PINNED:
        touched = member.status is MemberStatus.OFFERED
        return changed(member, status=MemberStatus.DECLINED, reason=refusal.detail) if touched else member
    why = f"{refusal.code}: {refusal.detail}" if refusal else "no reason given"
    return failed(member, f"{how}: {why}")


def failed(member: Member, reason: str) -> Member:
    """Return the member as failed, if it was touched at all."""
    if not member.touched or member.status is MemberStatus.FAILED:
        return member
    return changed(member, status=MemberStatus.FAILED, reached=True, reason=reason)


def changed(member: Member, **changes: object) -> Member:
    """Return the member with ``changes``; the same object if there are none."""
    if all(getattr(member, name) == value for name, value in changes.items()):
        return member
    return dataclasses.replace(member, **changes)  # type: ignore[arg-type]
