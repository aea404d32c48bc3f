"""A rollout under every order of events that Hypothesis can think of."""

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgepick_host.core.decision import Judgement
from edgepick_host.core.explanation import Turn, explain
from edgepick_host.core.progress import progress
from edgepick_host.core.rollout import begin, step, wanted
from edgepick_host.core.rollout_state import (
    Decided,
    DeviceView,
    Event,
    EvidenceReady,
    Heard,
    Joined,
    Joiner,
    Observed,
    Requested,
    RequestKind,
    RolloutState,
    Stage,
    Tick,
    WantDevice,
    WantProfile,
)
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.waves import Lane, MemberStatus, Plan, Seat, seat
from edgepick_host.core.windows import parse_window
from edgepick_wire import codec
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import ModelState, Outcome, Phase, RefusalCode
from fleet.synthetic import fell_back, installed, refusal

NEW, OLD = digest_of(b"new"), digest_of(b"old")
DEVICES = tuple(f"d{n}" for n in range(8))
NEWCOMERS = ("n0", "n1")
WINDOW = "daily 00:00-00:01"
LANES = {"pi": DEVICES[:6], "coral": DEVICES[6:]}
SECONDS = 10.0


def lanes(rollout: str, plan: Plan, online: dict[str, bool], winners: dict[str, str | None]) -> tuple[Lane, ...]:
    return tuple(
        Lane(
            profile=profile,
            label=profile,
            stand_in=True,
            verdict=Judgement.PROMOTE if winners[profile] else Judgement.INCONCLUSIVE,
            winner=winners[profile],
            winner_label="new",
            reason="test",
            members=seat(rollout, plan, (Seat(device=d, online=online[d], previous=OLD) for d in devices)),
        )
        for profile, devices in LANES.items()
    )


class RolloutMachine(RuleBasedStateMachine):
    @initialize(
        plan=st.builds(
            Plan,
            version=st.just("1"),
            canary=st.integers(1, 3),
            waves=st.sampled_from([(1.0,), (0.5, 1.0), (0.25, 0.5, 1.0)]),
            max_failures=st.sampled_from([0.0, 0.4]),
            min_confirmed=st.sampled_from([1.0, 0.5]),
            wave_seconds=st.just(SECONDS),
            soak_seconds=st.sampled_from([0.0, 3.0]),
            steps=st.sampled_from([(), ("exponential:2",), ("2", "device in (d1, d5)", "100%")]),
            window=st.sampled_from(["", "", WINDOW]),
            phase_seconds=st.sampled_from([{}, {"fetch": 4.0, "accept": 6.0}]),
        ),
        online=st.fixed_dictionaries({d: st.booleans() for d in DEVICES}),
        coral=st.sampled_from([NEW, None]),
    )
    def start(self, plan, online, coral):
        self.now = 0.0
        self.count = 0
        self.state = begin("r-1", "digits", plan, now=0.0)
        self.online = dict(online)
        self.answers: dict[str, str] = {}
        self.do(EvidenceReady(now=0.0, detail="ready"))
        self.do(Decided(now=0.0, lanes=lanes("r-1", plan, self.online, {"pi": NEW, "coral": coral})))

    def do(self, event: Event) -> None:
        before = self.state
        after, actions = step(before, event)
        self.check_step(before, after, actions)
        again, repeated = step(after, event)
        assert wanted(again) == wanted(after), "a repeated event changes what is wanted"
        assert not any(isinstance(a, WantDevice | WantProfile) for a in repeated)
        self.state = codec.decode_document(RolloutState, codec.encode_document(after))
        assert self.state == after

    def check_step(self, before: RolloutState, after: RolloutState, actions) -> None:
        if before.stage.terminal:
            assert after == before
            assert actions == ()
        order = list(MemberStatus)
        names = {m.device: m for m in after.members}
        assert len(names) == len(after.members)
        for old in before.members:
            new = names[old.device]
            forward = order.index(new.status) >= order.index(old.status)
            late = (old.status, new.status) == (MemberStatus.UNREACHABLE, MemberStatus.CONFIRMED)
            assert forward or late
        self.check_window(before, after)

    def check_window(self, before: RolloutState, after: RolloutState) -> None:
        touched = {m.device for m in before.members if m.touched}
        if after.plan.window and parse_window(after.plan.window).opens(self.now) is not None:
            assert {m.device for m in after.members if m.touched} <= touched, "offered outside of the window"

    def offered(self) -> list[str]:
        return [m.device for m in self.state.members if m.touched]

    def report(self, device: str, make) -> None:
        self.count += 1
        self.do(Heard(now=self.now, first=self.state.reports_seen, reports=(make(self.count),)))

    @precondition(lambda self: self.offered())
    @rule(data=st.data(), by_state=st.booleans())
    def confirm(self, data, by_state):
        device = data.draw(st.sampled_from(self.offered()))
        self.answers.setdefault(device, "good")
        if by_state:
            said = ModelState(model="digits", phase=Phase.CONFIRMED, active=NEW, wanted=NEW, rollout="r-1")
            self.do(Observed(now=self.now, views=(DeviceView(device=device, online=True, state=said),)))
        else:
            self.report(device, lambda n: installed(device, NEW, Outcome.CONFIRMED, rollout="r-1", number=n))

    @precondition(lambda self: self.offered())
    @rule(data=st.data(), phase=st.sampled_from([Phase.FETCHING, Phase.TRIAL, Phase.CONFIRMING]))
    def gets_somewhere(self, data, phase):
        device = data.draw(st.sampled_from(self.offered()))
        said = ModelState(model="digits", phase=phase, active=OLD, wanted=NEW, rollout="r-1")
        self.do(Observed(now=self.now, views=(DeviceView(device=device, online=True, state=said),)))

    @rule(device=st.sampled_from(NEWCOMERS), profile=st.sampled_from([*LANES, "unknown"]))
    def appears(self, device, profile):
        before = self.state
        newcomer = Seat(device=device, online=True, previous=OLD)
        self.do(Joined(now=self.now, joiners=(Joiner(profile=profile, seat=newcomer),)))
        assert wanted(before) == wanted(self.state) or before.stage is not self.state.stage

    @precondition(lambda self: self.offered())
    @rule(data=st.data(), how=st.sampled_from(["reverted", "fell-back", "refused", "state"]))
    def fail(self, data, how):
        device = data.draw(st.sampled_from(self.offered()))
        if how == "state":
            said = ModelState(model="digits", phase=Phase.REVERTED, active=OLD, wanted=NEW, rollout="r-1")
            self.do(Observed(now=self.now, views=(DeviceView(device=device, online=True, state=said),)))
        elif how == "fell-back":
            self.report(device, lambda n: fell_back(device, NEW, number=n))
        else:
            outcome = Outcome.REVERTED if how == "reverted" else Outcome.REFUSED
            self.report(device, lambda n: installed(device, NEW, outcome, rollout="r-1", number=n))

    @precondition(lambda self: self.offered())
    @rule(data=st.data())
    def pinned(self, data):
        device = data.draw(st.sampled_from(self.offered()))
        why = refusal(RefusalCode.PINNED)
        self.report(device, lambda n: installed(device, NEW, Outcome.REFUSED, rollout="r-1", number=n, why=why))

    @rule(device=st.sampled_from(DEVICES))
    def report_of_another_rollout(self, device):
        before = wanted(self.state)
        self.report(device, lambda n: installed(device, NEW, Outcome.REVERTED, rollout="r-0", number=n))
        assert wanted(self.state) == before

    @rule(device=st.sampled_from(DEVICES), online=st.booleans())
    def presence(self, device, online):
        self.online[device] = online
        self.do(Observed(now=self.now, views=(DeviceView(device=device, online=online),)))

    @rule(device=st.sampled_from(DEVICES))
    def is_home(self, device):
        said = ModelState(model="digits", phase=Phase.CONFIRMED, active=OLD, wanted=OLD)
        self.do(Observed(now=self.now, views=(DeviceView(device=device, online=True, state=said),)))

    @rule(seconds=st.sampled_from([1.0, 4.0, SECONDS + 1]))
    def time_passes(self, seconds):
        self.now += seconds
        self.do(Tick(now=self.now))

    @rule(kind=st.sampled_from(list(RequestKind)))
    def request(self, kind):
        self.count += 1
        self.do(Requested(now=self.now, id=f"q{self.count}", kind=kind))

    @invariant()
    def nobody_beyond_the_current_wave_was_touched(self):
        if hasattr(self, "state"):
            assert all(m.wave <= self.state.wave for m in self.state.members if m.touched)

    @invariant()
    def a_failed_canary_spreads_no_further(self):
        if not hasattr(self, "state"):
            return
        canary_failed = any(m.wave == CANARY and m.status is MemberStatus.FAILED for m in self.state.members)
        if canary_failed and not self.state.stage.terminal:
            assert self.state.stage is Stage.REVERTING

    @invariant()
    def every_wave_stands_on_a_confirmed_canary(self):
        if hasattr(self, "state") and self.state.wave > CANARY:
            for lane in self.state.lanes:
                beyond = any(m.touched and m.wave > CANARY for m in lane.members)
                trusted = any(
                    m.wave == CANARY and m.status in (MemberStatus.CONFIRMED, MemberStatus.FAILED) for m in lane.members
                )
                assert trusted or not beyond

    @invariant()
    def after_failure_or_abort_everybody_touched_is_wanted_back(self):
        if hasattr(self, "state") and self.state.stage in (Stage.REVERTING, Stage.REVERTED, Stage.ABORTED):
            assert dict(wanted(self.state).devices) == dict.fromkeys(self.offered(), OLD)
            assert wanted(self.state).profiles == {}
            assert self.state.reason

    @invariant()
    def done_means_confirmed_where_it_counts(self):
        if hasattr(self, "state") and self.state.stage is Stage.DONE:
            for lane in self.state.lanes:
                if lane.active:
                    assert any(m.status is MemberStatus.CONFIRMED for m in lane.members)
                    assert wanted(self.state).profiles[lane.profile] == NEW
                    assert all(m.settled for m in lane.members)
                else:
                    assert lane.profile not in wanted(self.state).profiles

    @invariant()
    def a_deadline_or_an_operator_always_ends_a_stage(self):
        if hasattr(self, "state") and self.state.stage in (Stage.CANARY, Stage.WAVE, Stage.REVERTING):
            moments = (self.state.deadline, self.state.soak_until, self.state.opens_at)
            assert any(moment is not None for moment in moments)

    @invariant()
    def nobody_is_longer_in_a_phase_than_its_limit(self):
        if hasattr(self, "state") and self.state.stage in (Stage.CANARY, Stage.WAVE) and self.state.upcoming is None:
            for member in self.state.members:
                limit = self.state.plan.phase_seconds.get(member.leg)
                if limit is not None and member.since is not None and member.status is MemberStatus.OFFERED:
                    assert self.now < member.since + limit

    @invariant()
    def looking_again_at_the_same_time_changes_nothing(self):
        if hasattr(self, "state") and not self.state.stage.terminal:
            assert progress(self.state, self.now) is self.state

    @invariant()
    def it_can_always_be_said_what_is_waited_for(self):
        if not hasattr(self, "state"):
            return
        found = explain(self.state, now=self.now)
        now = [wave for wave in found.waves if wave.turn is Turn.NOW]
        assert sum(w.devices for w in found.waves) == sum(len(x.members) for x in self.state.lanes if x.active)
        if self.state.stage in (Stage.CANARY, Stage.WAVE):
            assert [wave.wave for wave in now] in ([self.state.wave], [self.state.upcoming])
            assert now[0].waits_for
        elif self.state.stage is not Stage.PAUSED:
            assert not now
        assert found.summary

    def teardown(self):
        """Whatever happened, time alone brings every rollout to an end."""
        if not hasattr(self, "state"):
            return
        if self.state.stage is Stage.PAUSED:
            self.do(Requested(now=self.now, id="resume", kind=RequestKind.RESUME))
        for _ in range(4 * (len(DEVICES) + len(NEWCOMERS))):
            if self.state.opens_at is not None:
                self.now = self.state.opens_at
                self.do(Tick(now=self.now))
            self.now += SECONDS + 5
            self.do(Tick(now=self.now))
        assert self.state.stage.terminal


TestRolloutMachine = RolloutMachine.TestCase
TestRolloutMachine.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)


def test_a_rollout_that_was_not_decided_touches_nobody():
    """While measuring and deciding nothing is wanted anywhere; the deadline of measuring leads to deciding."""
    state = begin("r-1", "digits", Plan(version="1", measure_seconds=5), now=0.0)

    measuring, actions = step(state, Tick(now=4.9))
    deciding, _ = step(state, Tick(now=5.0))

    assert measuring == state
    assert actions == ()
    assert deciding.stage is Stage.DECIDING
    assert wanted(deciding).devices == {}


def test_reports_that_were_taken_in_are_not_taken_in_again():
    """A report before the rollout's beginning, or one already counted, changes nothing when it is replayed."""
    plan = Plan(version="1", wave_seconds=SECONDS)
    state = begin("r-1", "digits", plan, now=0.0, reports_seen=3)
    state, _ = step(state, EvidenceReady(now=0.0))
    state, _ = step(
        state, Decided(now=0.0, lanes=lanes("r-1", plan, dict.fromkeys(DEVICES, True), dict.fromkeys(LANES, NEW)))
    )
    old = tuple(fell_back(d, NEW, number=n) for n, d in enumerate(DEVICES[:3]))

    after, _ = step(state, Heard(now=1.0, first=0, reports=old))
    gap, _ = step(state, Heard(now=1.0, first=9, reports=old))

    assert after.members == state.members
    assert gap == state


def test_a_paused_rollout_keeps_the_time_that_was_left():
    """Resuming after a long pause gives the stage the seconds it had left, not a missed deadline."""
    plan = Plan(version="1", wave_seconds=SECONDS)
    state, _ = step(begin("r-1", "digits", plan, now=0.0), EvidenceReady(now=0.0))
    state, _ = step(
        state, Decided(now=0.0, lanes=lanes("r-1", plan, dict.fromkeys(DEVICES, True), dict.fromkeys(LANES, NEW)))
    )
    state, _ = step(state, Requested(now=4.0, id="p", kind=RequestKind.PAUSE))

    paused, _ = step(state, Tick(now=1000.0))
    resumed, _ = step(paused, Requested(now=1000.0, id="r", kind=RequestKind.RESUME))

    assert paused.stage is Stage.PAUSED
    assert resumed.stage is Stage.CANARY
    assert resumed.deadline == 1006.0


def test_strata_of_one_profile_keep_what_suits_each():
    """Where two strata of a profile differ, the profile gets the larger one's winner and the other its own."""
    plan = Plan(version="1", wave_seconds=SECONDS, soak_seconds=0.0, waves=(1.0,))
    big, small = lanes("r-1", plan, dict.fromkeys(DEVICES, True), {"pi": NEW, "coral": None})
    small = dataclasses.replace(small, profile="pi", lead=False)
    state, _ = step(begin("r-1", "digits", plan, now=0.0), EvidenceReady(now=0.0))
    state, _ = step(state, Decided(now=0.0, lanes=(big, small)))
    said = ModelState(model="digits", phase=Phase.CONFIRMED, active=NEW, wanted=NEW, rollout="r-1")
    for _ in range(3):
        views = tuple(DeviceView(device=m.device, online=True, state=said) for m in state.members if m.touched)
        state, _ = step(state, Observed(now=1.0, views=views))

    assert state.stage is Stage.DONE
    assert wanted(state).profiles == {"pi": NEW}
    assert wanted(state).devices == dict.fromkeys(LANES["coral"], OLD)


def running(plan: Plan) -> RolloutState:
    """Return a rollout that has just offered its canary, all devices being online."""
    state, _ = step(begin("r-1", "digits", plan, now=0.0), EvidenceReady(now=0.0))
    return step(
        state, Decided(now=0.0, lanes=lanes("r-1", plan, dict.fromkeys(DEVICES, True), {"pi": NEW, "coral": None}))
    )[0]


def canary_of(state: RolloutState) -> str:
    return next(m.device for m in state.lanes[0].members if m.wave == CANARY)


def test_a_device_stuck_in_a_phase_is_named_with_the_phase_and_its_limit():
    """Each phase has its own time, which begins when the device is heard in it, and a pause does not count."""
    state = running(Plan(version="1", wave_seconds=1000, phase_seconds={"fetch": 60, "trial": 5}))
    device = canary_of(state)
    said = ModelState(model="digits", phase=Phase.FETCHING, active=OLD, wanted=NEW, rollout="r-1")
    state, _ = step(state, Observed(now=100.0, views=(DeviceView(device=device, online=True, state=said),)))
    state, _ = step(state, Requested(now=120.0, id="p", kind=RequestKind.PAUSE))
    state, _ = step(state, Requested(now=500.0, id="r", kind=RequestKind.RESUME))

    within, _ = step(state, Tick(now=539.9))
    over, _ = step(state, Tick(now=540.0))

    assert within.stage is Stage.CANARY
    assert over.stage is Stage.REVERTING
    assert f"{device} too long in phase fetch: it was still fetching after 60 s" in over.reason


def test_a_wave_waits_for_the_window_and_says_until_when():
    """Outside of the window the next wave waits, the history says until when, and then it is offered."""
    state = running(Plan(version="1", window=WINDOW, soak_seconds=0, steps=("100%",)))
    said = ModelState(model="digits", phase=Phase.CONFIRMED, active=NEW, wanted=NEW, rollout="r-1")
    view = DeviceView(device=canary_of(state), online=True, state=said)

    waiting, _ = step(state, Observed(now=100.0, views=(view,)))
    later, _ = step(waiting, Tick(now=86_399.0))
    opened, actions = step(later, Tick(now=86_400.0))

    assert waiting.history[-1].text == "wave 1 of 1 waits for the maintenance window until Fri 1970-01-02 00:00 UTC"
    assert later == waiting
    assert opened.stage is Stage.WAVE
    assert sum(isinstance(a, WantDevice) for a in actions) == 5


def test_harm_is_returned_outside_of_the_window_too():
    """A device that falls back while the next wave waits sends everything back at once."""
    state = running(Plan(version="1", window=WINDOW, soak_seconds=0))
    device = canary_of(state)
    said = ModelState(model="digits", phase=Phase.CONFIRMED, active=NEW, wanted=NEW, rollout="r-1")
    state, _ = step(state, Observed(now=100.0, views=(DeviceView(device=device, online=True, state=said),)))

    after, actions = step(state, Heard(now=200.0, first=0, reports=(fell_back(device, NEW),)))

    assert state.opens_at is not None
    assert after.stage is Stage.REVERTING
    assert WantDevice(device=device, manifest=OLD) in actions


def test_a_device_that_appears_joins_the_last_wave():
    """It is offered nothing before the others of the last wave, and one that comes later is left to its profile."""
    state = running(Plan(version="1", soak_seconds=0, steps=("50%", "100%")))
    said = ModelState(model="digits", phase=Phase.CONFIRMED, active=NEW, wanted=NEW, rollout="r-1")

    def confirmed(at: RolloutState) -> RolloutState:
        views = tuple(DeviceView(device=m.device, online=True, state=said) for m in at.members if m.touched)
        return step(at, Observed(now=1.0, views=views))[0]

    def joined(at: RolloutState, name: str) -> RolloutState:
        newcomer = Joiner(profile="pi", seat=Seat(device=name, online=True, previous=None))
        return step(at, Joined(now=1.0, joiners=(newcomer,)))[0]

    first = joined(confirmed(state), "n0")
    last = joined(confirmed(first), "n1")

    assert next(m for m in first.members if m.device == "n0").wave == 2
    assert [lane.joined for lane in last.lanes] == [1, 0]
    assert last.wave == 2
    assert wanted(last).devices["n0"] == NEW
    assert "n1" not in [m.device for m in last.members]
    assert wanted(confirmed(last)).profiles == {"pi": NEW}


def test_a_rollout_that_waits_for_another_has_all_its_time():
    """Its deadline for measuring begins with its first step."""
    state = begin("r-2", "digits", Plan(version="1", measure_seconds=5), now=0.0, after="r-1")

    first, _ = step(state, Tick(now=100.0))

    assert (state.deadline, first.deadline) == (None, 105.0)
    assert "waits for r-1 to end" in state.history[0].text


def test_a_request_is_taken_in_once():
    """The same request, seen at every look, pauses once and leaves no second line of history."""
    state = begin("r-1", "digits", Plan(version="1"), now=0.0)

    paused, _ = step(state, Requested(now=1.0, id="p", kind=RequestKind.PAUSE))
    again, actions = step(paused, Requested(now=2.0, id="p", kind=RequestKind.PAUSE))

    assert paused.stage is Stage.PAUSED
    assert again == paused
    assert actions == ()
