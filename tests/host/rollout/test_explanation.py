"""What is said of a rollout while it goes on."""

from dataclasses import replace

from edgepick_host.cli import rollout_text
from edgepick_host.core.checks import Limit
from edgepick_host.core.constraints import Bounded
from edgepick_host.core.experiment.between import Between
from edgepick_host.core.experiment.harm import alarm
from edgepick_host.core.explanation import Turn, explain
from edgepick_host.core.rollout import begin, step
from edgepick_host.core.rollout_state import Decided, DeviceView, Observed, Requested, RequestKind, RolloutState, Tick
from edgepick_host.core.watches import harm_rules, watched, watches
from edgepick_host.core.waves import MemberStatus, Plan, Seat, seat
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import ModelState, Phase
from fakes.lanes import promoted

NEW, OLD = digest_of(b"new"), digest_of(b"old")


def offered(plan: Plan, *, limits: tuple[Limit, ...] = ()) -> RolloutState:
    """Return a rollout of twenty devices whose canary has been offered; one in four is offline."""
    seats = [Seat(device=f"d{n:02}", online=n % 4 > 0, previous=OLD, limits=limits) for n in range(20)]
    lane = promoted(NEW, seat("r-1", plan, seats), label="pi, litert/xnnpack", winner_label="1 new")
    return step(begin("r-1", "digits", plan, now=0.0), Decided(now=0.0, lanes=(lane,)))[0]


def says(state: RolloutState, phase: Phase, now: float = 1.0) -> RolloutState:
    """Return the rollout after every touched device that is online has said so."""
    active = NEW if phase is Phase.CONFIRMED else OLD
    said = ModelState(model="digits", phase=phase, active=active, wanted=NEW, rollout="r-1")
    views = tuple(DeviceView(device=m.device, online=True, state=said) for m in state.members if m.touched and m.online)
    return step(state, Observed(now=now, views=views))[0]


PLAN = Plan(version="1", variant="new", steps=("50%", "100%"), soak_seconds=60, phase_seconds={"fetch": 30})


def test_the_canary_says_where_it_is_and_what_would_stop_it():
    """The phase of each device with its own limit, the deadline in words, and that one failure is enough."""
    found = explain(says(offered(PLAN), Phase.FETCHING), now=2.0)

    assert [wave.turn for wave in found.waves] == [Turn.NOW, Turn.AHEAD, Turn.AHEAD]
    assert "1 device(s): it was still fetching" in found.waves[0].waits_for[0]
    assert "at most 30 s in this phase" in found.waves[0].waits_for[0]
    assert "in 9 min 58 s" in found.waves[0].waits_for[-1]
    assert found.waves[0].stopped_by == ("any device of it that fails",)


def test_a_wave_ahead_says_what_comes_before_it():
    """It needs the one before to confirm and to stay healthy, and says how many failures it would bear."""
    waves = explain(offered(PLAN), now=0.0).waves

    assert waves[1].waits_for == ("the canary: every device that answers has confirmed, and stays healthy for 60 s",)
    assert waves[2].stopped_by == ("pi, litert/xnnpack: more than 1 of 10 devices that fail; 0 have",)


def test_soaking_and_offline_devices_are_told():
    """While a wave stays healthy the time is told; devices that are offline are counted, and that they do not count."""
    soaking = says(offered(PLAN), Phase.CONFIRMED)
    wave, _ = step(soaking, Tick(now=61.0))
    away = sum(m.wave == 1 and not m.online for m in wave.members)

    told = explain(wave, now=61.0).waves[1].waits_for

    assert "stay healthy until 1970-01-01 00:01:01 UTC, in 1 min 0 s" in explain(soaking, now=1.0).waves[0].waits_for[0]
    assert away > 0
    assert any(line.startswith(f"{away} offline device(s), which count neither way") for line in told)


def test_a_window_and_figures_that_are_awaited_are_told():
    """The next wave says when the window opens; a device that has confirmed says what is still missing."""
    limit = Limit(figure=Bounded.TAIL, most=1e6)
    plan = replace(PLAN, window="daily 00:00-00:01", checks="p95 <= 1 ms")
    confirmed = says(offered(plan, limits=(limit,)), Phase.CONFIRMED)
    waiting = says(offered(replace(plan, checks="", soak_seconds=0)), Phase.CONFIRMED, 100.0)

    assert "it had confirmed, but its figures had not come" in explain(confirmed, now=2.0).waves[0].waits_for[0]
    assert "opens Fri 1970-01-02 00:00 UTC, in 23 h 58 min" in explain(waiting, now=101.0).waves[1].waits_for[0]
    assert explain(confirmed, now=2.0).waves[1].waits_for[-1] == "the maintenance window: daily 00:00-00:01"


def test_what_stands_still_says_who_moves_it():
    """Paused: an operator. Waiting for another rollout: its end. Returning: the devices that are away."""
    state = offered(PLAN)
    paused, _ = step(state, Requested(now=1.0, id="p", kind=RequestKind.PAUSE))
    aborted, _ = step(state, Requested(now=1.0, id="a", kind=RequestKind.ABORT))
    queued = begin("r-2", "digits", replace(PLAN, variant=None), now=0.0, after="r-1")

    assert explain(paused, now=2.0).waits_for == ("an operator: edgepick rollout resume r-1",)
    assert explain(aborted, now=2.0).waits_for[0].startswith("1 device(s) to be back on what they ran before (d")
    assert [wave.turn for wave in explain(aborted, now=2.0).waves] == [Turn.BEHIND, Turn.NEVER, Turn.NEVER]
    assert explain(queued, now=2.0).waits_for == ("the end of rollout r-1, which has to return its devices first",)


def test_what_has_ended_is_stopped_by_nothing():
    """An ended rollout keeps what became of each wave; one that never chose anything has no waves to tell of."""
    aborted, _ = step(offered(PLAN), Requested(now=1.0, id="a", kind=RequestKind.ABORT))
    back = tuple(
        DeviceView(
            device=m.device, online=m.online, state=ModelState(model="digits", phase=Phase.CONFIRMED, active=OLD)
        )
        for m in aborted.members
        if m.touched
    )
    ended, _ = step(aborted, Observed(now=2.0, views=back))
    lanes = tuple(replace(lane, winner=None) for lane in offered(PLAN).lanes)
    nothing, _ = step(begin("r-1", "digits", PLAN, now=0.0), Decided(now=0.0, lanes=lanes))

    assert ended.stage.terminal
    assert sum(explain(ended, now=3.0).waves[0].statuses.values()) == 1
    assert [wave.stopped_by for wave in explain(ended, now=3.0).waves] == [(), (), ()]
    assert (nothing.stage.terminal, explain(nothing, now=1.0).waves) == (True, ())


def test_a_comparison_between_devices_is_told_in_numbers(capsys):
    """Until when it goes on, who failed first in how many pairs, and how near that is to stopping everything."""
    plan = replace(PLAN, steps=("100%",), between=Between(seconds=600.0), soak_seconds=0.0)
    canary = step(says(offered(plan), Phase.CONFIRMED), Tick(now=62.0))[0]
    arm = step(says(canary, Phase.CONFIRMED, now=70.0), Tick(now=800.0))[0]

    told = explain(arm, now=801.0)

    assert told.waves[1].waits_for[-1].startswith("the comparison with devices that wait, until 1970-01-01")
    assert "that at most 5.0% more devices fail" in told.waves[2].waits_for[0]
    assert told.waves[1].stopped_by[-1] == "its devices being shown to fail sooner than those they are compared with"
    assert [watch.what for watch in told.watches] == ["devices that fail", "between devices"]
    assert told.watches[1].stops_at == 10
    assert "in 0 of them one failed first" in told.compared
    rollout_text.print_explanation(told, as_json=False)
    printed = capsys.readouterr().out
    assert "  compared: pi, litert/xnnpack: 9 pairs of devices" in printed
    assert "  watches pi, litert/xnnpack, between devices: 1 of 10; 9 pairs of devices" in printed


def test_each_watch_says_how_near_it_is_to_stopping():
    """The e-values are those that the rollout itself goes by: it goes on below the threshold, and not from it on."""
    healthy = says(offered(PLAN), Phase.CONFIRMED)
    members = healthy.lanes[0].members
    lost = replace(members[0], status=MemberStatus.FAILED)
    failed = replace(healthy, lanes=(replace(healthy.lanes[0], members=(lost, *members[1:])),))

    before, after = (watches(state)[0] for state in (healthy, failed))

    assert before.e_value < 1 < after.e_value
    assert after.text.startswith("1 of 1 devices failed, 0.50% are tolerated")
    assert [harm_alarm(state) for state in (healthy, failed)] == [w.e_value >= w.stops_at for w in (before, after)]


def harm_alarm(state: RolloutState) -> bool:
    """Return whether the monitor itself says that harm is shown."""
    return bool(alarm(watched(state, state.lanes[0]), harm_rules(state.plan), strata=1))
