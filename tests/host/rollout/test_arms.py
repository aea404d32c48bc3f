"""A rollout that compares its first wave with those that wait: it goes on, returns, or says that it cannot tell."""

import dataclasses

import pytest

from edgepick_host.core.arms import pairs, prospects, standing
from edgepick_host.core.experiment.between import Between
from edgepick_host.core.rollout import begin, joinable, step
from edgepick_host.core.rollout_state import (
    Decided,
    DeviceView,
    EvidenceReady,
    Heard,
    Observed,
    Requested,
    RequestKind,
    RolloutState,
    Stage,
    Tick,
)
from edgepick_host.core.schedule import Share
from edgepick_host.core.waves import Member, MemberStatus, Plan, Seat, seat
from edgepick_wire import codec
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import Incident, IncidentCode, Outcome, Report, ReportKind
from fakes.lanes import promoted
from fleet.synthetic import installed

NEW, OLD = digest_of(b"new"), digest_of(b"old")
SECONDS = 1000.0


def plan(**options) -> Plan:
    """Return a plan whose arms are half of each stratum, after a canary of one."""
    rules = Between(share=0.5, seconds=SECONDS, max_excess=0.05)
    return Plan(version="1", canary=1, between=rules, soak_seconds=0, max_failures=0.5, tolerated=0.0, **options)


def started(devices: int, **options) -> RolloutState:
    """Return a rollout whose canary has confirmed, so that the arm was offered the candidate."""
    return confirmed(canary_only(devices, **options))


def canary_only(devices: int, **options) -> RolloutState:
    """Return a rollout whose canary was offered the candidate."""
    made = plan(**options)
    seats = [Seat(device=f"d{n:04}", online=True, previous=OLD) for n in range(devices)]
    lane = promoted(NEW, seat("r-1", made, seats))
    state = begin("r-1", "digits", made, now=0.0)
    for event in (EvidenceReady(now=0.0, detail="ready"), Decided(now=0.0, lanes=(lane,))):
        state, _ = step(state, event)
    return state


def confirmed(state: RolloutState) -> RolloutState:
    """Return the rollout once everyone who was offered something and is there has confirmed."""
    offered = [m.device for m in state.members if m.status is MemberStatus.OFFERED and m.online]
    return heard(state, [installed(d, NEW, Outcome.CONFIRMED, rollout="r-1") for d in offered], now=1.0)


def heard(state: RolloutState, reports, now: float) -> RolloutState:
    """Return the rollout after reports, as it would be read from the store."""
    after, _ = step(state, Heard(now=now, first=state.reports_seen, reports=tuple(reports)))
    return codec.decode_document(RolloutState, codec.encode_document(after))


def crash(device: str) -> Report:
    """Return what a device says whose model crashed in service."""
    incident = Incident(code=IncidentCode.RUNNER_CRASHED, detail="signal 11", model="digits", manifest=NEW)
    return Report(id="c-1", device=device, session=1, recorded_at=1.0, kind=ReportKind.INCIDENT, incident=incident)


def arm(state: RolloutState, *, candidate: bool) -> list[Member]:
    return [m for m in state.members if (m.wave == 1 if candidate else m.wave > 1)]


def test_a_healthy_candidate_goes_on_when_the_time_of_the_comparison_is_over():
    """Until then nobody else is touched; then the bound is kept, and the others are offered the candidate."""
    comparing = confirmed(started(200))
    before, _ = step(comparing, Tick(now=SECONDS / 2))
    after, _ = step(before, Tick(now=2 * SECONDS))

    assert all(m.status is MemberStatus.WAITING for m in arm(before, candidate=False))
    assert all(m.status is MemberStatus.OFFERED for m in arm(after, candidate=False))
    assert "99 pairs of devices: at most" in after.compared
    assert confirmed(after).stage is Stage.DONE


def test_a_candidate_that_crashes_more_often_returns_at_once():
    """Eight devices of its arm that crash while none of the others does send everything back."""
    state = confirmed(started(200))
    for n, member in enumerate(arm(state, candidate=True)[:8]):
        state = heard(state, [crash(member.device)], now=10.0 + n)

    assert state.stage is Stage.REVERTING
    assert "pairs of devices of which one failed, the candidate's was the first" in state.reason


def test_crashes_that_happen_in_both_arms_are_not_the_candidates_fault():
    """As many crashes on the other arm, of devices that run what they always ran, outweigh the candidate's."""
    state = confirmed(started(200))
    for n, (one, other) in enumerate(zip(arm(state, candidate=True), arm(state, candidate=False), strict=False)):
        if n < 20:
            state = heard(state, [crash(one.device if n % 2 else other.device)], now=10.0 + n)

    assert state.stage is Stage.WAVE
    assert "99 pairs of devices, in 20 of them one failed first, in 10 the candidate's" in standing(state)


def test_a_device_that_does_not_take_the_candidate_has_failed():
    """A reverted installation counts as the failure of its device, once, and later crashes do not count again."""
    state = started(200)
    first = arm(state, candidate=True)[0].device
    state = heard(state, [installed(first, NEW, Outcome.REVERTED, rollout="r-1")], now=5.0)
    state = heard(state, [crash(first)], now=9.0)

    struck = {m.device: m.struck for m in state.members if m.struck is not None}
    assert struck == {first: 5.0}


def test_a_small_fleet_is_told_beforehand_and_left_as_it_was():
    """Ten devices cannot exclude an excess of 5 %: the plan says so, and at the end everything returns, undecided."""
    state = confirmed(started(10))
    told = [line.text for line in state.history if "too few for the 5.0% that are asked" in line.text]
    after, _ = step(state, Tick(now=2 * SECONDS))

    assert len(told) == 1
    assert (after.stage, after.ending) == (Stage.REVERTING, Stage.INCONCLUSIVE)
    assert "is all that they show" in after.reason


def test_devices_of_one_arm_that_fall_silent_stop_the_comparison():
    """If the candidate's devices are the ones that are gone at the end, nothing is concluded, in plain words."""
    state = confirmed(started(200))
    gone = tuple(DeviceView(device=m.device, online=False, state=None) for m in arm(state, candidate=True)[:20])
    state, _ = step(state, Observed(now=10.0, views=gone))
    state, _ = step(state, Tick(now=2 * SECONDS))

    assert (state.stage, state.ending) == (Stage.REVERTING, Stage.INCONCLUSIVE)
    assert "the arms are not what was drawn" in state.reason


def lose(state: RolloutState, devices: int, *, now: float) -> RolloutState:
    """Return the rollout after so many devices of each arm have gone offline."""
    gone = [m.device for candidate in (True, False) for m in arm(state, candidate=candidate)[:devices]]
    state, _ = step(state, Observed(now=now, views=tuple(DeviceView(device=d, online=False) for d in gone)))
    return state


def test_devices_that_are_away_on_any_day_speak_against_neither_arm():
    """Whoever is silent at the deadline has failed, in both arms alike; so the candidate is not called harmful."""
    state = lose(started(200), 20, now=2.0)
    state = confirmed(state)
    state, _ = step(state, Tick(now=state.deadline))

    assert state.stage is Stage.WAVE
    assert sum(m.struck is not None for m in state.members) == 40
    assert "99 pairs of devices, in 0 of them one failed first" in standing(state)


def test_devices_that_nobody_has_heard_of_since_the_offer_are_left_out_on_both_sides():
    """Those that were never there are no silence of an arm: the comparison ends as without them."""
    state = lose(canary_only(240), 20, now=0.5)
    state = confirmed(confirmed(state))
    for now in (700.0, 700.0 + 2 * SECONDS):
        state, _ = step(state, Tick(now=now))

    assert "99 pairs of devices: at most 3.7% more devices fail" in state.compared
    assert state.wave == 2


def test_silence_in_one_arm_counts_like_failing_where_it_is_too_little_for_an_alarm():
    """Six devices that are gone, all with the candidate, are six failures, and the excess is not excluded."""
    state = confirmed(started(200))
    gone = tuple(DeviceView(device=m.device, online=False) for m in arm(state, candidate=True)[:6])
    state, _ = step(state, Observed(now=10.0, views=gone))
    state, _ = step(state, Tick(now=2 * SECONDS))

    assert state.ending is Stage.INCONCLUSIVE
    assert "is all that they show" in state.reason


def test_arms_that_were_drawn_never_change():
    """Nobody joins, and a device that a technician has pinned takes its pair with it instead of changing sides."""
    state = started(200)
    lane = state.lanes[0]
    away = tuple(
        dataclasses.replace(m, status=MemberStatus.DECLINED) if m.status is MemberStatus.OFFERED and n % 2 else m
        for n, m in enumerate(lane.members)
    )

    assert not joinable(state)
    assert len(pairs(lane)) == 99
    assert 45 <= len(pairs(dataclasses.replace(lane, members=away))) <= 55


def test_a_pause_stops_the_clock_of_the_comparison():
    """The time in which it was paused does not count as compared."""
    state = confirmed(started(200))
    for now, kind in ((100.0, RequestKind.PAUSE), (5000.0, RequestKind.RESUME)):
        state, _ = step(state, Requested(now=now, id=f"q-{now}", kind=kind))
    still, _ = step(state, Tick(now=5100.0))
    over, _ = step(still, Tick(now=6000.0))

    assert still.compared == ""
    assert over.compared


def test_the_arm_is_the_first_wave_and_later_shares_follow():
    """A share of 30 % comes before the plan's larger shares; its smaller ones are left out."""
    made = dataclasses.replace(plan(), between=Between(share=0.3))

    assert made.schedule == (Share(share=0.3), Share(share=0.5), Share(share=1.0))
    assert prospects(plan(), ()) == ()


def test_arms_that_are_not_drawn_by_lot_are_refused():
    """A query or a growth as wave would choose who gets the candidate."""
    with pytest.raises(MalformedError, match="drawn by lot"):
        plan(steps=("site=lab", "100%"))
