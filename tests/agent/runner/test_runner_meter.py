"""Energy on simulated sensors whose integral is known, the watchdog, and the timed loops."""

import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepick_agent import instruments
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.ports import SensorKind
from edgepick_agent.runner import energy, timing
from edgepick_agent.runner.energy import Meter, Sampler
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import MeasurePlan
from fakes.runtime import FakeSession, spin

SPEC = RunnerSpec(
    model="m",
    model_path="unused",
    format=ModelFormat.TFLITE,
    runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
    plan=MeasurePlan(max_seconds=5),
)
FEED = [{"a": np.zeros((1, 4), np.float32)}]
IDLE_UW, BUSY_UW = 2e6, 5e6


class SetTime:
    """Stands in for the time module: it stands still until something sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Rig:
    """A board of 2 W idle and 5 W busy, seen by a counter or by an instantaneous sensor."""

    source, scope = "rig", "board"

    def __init__(self, kind: SensorKind, time: SetTime, period_seconds: float = 0.001) -> None:
        self.kind = kind
        self.period_seconds = period_seconds
        self.power = IDLE_UW
        self.broken = False
        self.failing = 0
        self.lasting = 0.0
        self.reads = 0
        self.time, self._since, self._energy = time, time.now, 0.0

    def work(self, power_uw: float) -> None:
        """Draw another power from now on."""
        self._settle()
        self.power = power_uw

    def _settle(self) -> None:
        self._energy += self.power * (self.time.now - self._since)
        self._since = self.time.now

    def read(self) -> float | None:
        self.reads += 1
        self.time.sleep(self.lasting)
        self._settle()
        self.failing -= 1
        if self.broken or self.failing >= 0:
            return None
        return self._energy if self.kind is SensorKind.ENERGY else self.power


@pytest.fixture
def clock(monkeypatch) -> SetTime:
    """Provide the time that the meter sees."""
    made = SetTime()
    monkeypatch.setattr(energy, "time", made)
    return made


def meter_on(monkeypatch, rig: Rig) -> Meter:
    monkeypatch.setattr(instruments, "find_sensors", lambda _names, _root: ((rig,), ""))
    return Meter(SPEC)


def test_a_counter_gives_gross_and_net_energy(monkeypatch, clock):
    """Read at both ends: 5 W over the window is gross, and less the 2 W idle is net."""
    rig = Rig(SensorKind.ENERGY, clock)
    meter = meter_on(monkeypatch, rig)

    meter.idle()
    rig.work(BUSY_UW)
    meter.start()
    clock.sleep(2.0)
    meter.poll()
    clock.sleep(2.0)
    meter.stop(10)
    rig.work(IDLE_UW)
    meter.idle()
    found = meter.summary()

    assert found.window_seconds == pytest.approx(4.0)
    assert found.gross_uj == pytest.approx(2_000_000)
    assert found.net_uj == pytest.approx(1_200_000)
    assert found.idle_uw == pytest.approx(IDLE_UW)


@pytest.mark.parametrize(("power_uw", "gross_uj"), [(BUSY_UW, 1_000_000), (0.0, None)])
def test_a_pass_at_a_fixed_rate_has_the_energy_that_was_counted(monkeypatch, clock, power_uw, gross_uj):
    """Ten inferences in 2 s at 5 W are 1 J each; a counter that stood still tells nothing."""
    rig = Rig(SensorKind.ENERGY, clock)
    meter = meter_on(monkeypatch, rig)
    rig.work(power_uw)

    meter.start()
    clock.sleep(2.0)

    assert meter.spent(10) == (None if gross_uj is None else pytest.approx(gross_uj))


@pytest.fixture
def samplers(monkeypatch) -> list[Sampler]:
    """Provide the samplers that are made; they sample when the test says, not from their thread."""
    made: list[Sampler] = []
    monkeypatch.setattr(Sampler, "_loop", lambda _self: None)
    monkeypatch.setattr(energy, "Sampler", lambda sensor: made.append(Sampler(sensor)) or made[-1])
    return made


def test_a_sampled_power_curve_integrates_to_its_energy(monkeypatch, clock, samplers):
    """In a pass of its own a power that swings by 2 W around 5 W gives its exact integral within 1 %."""
    rig = Rig(SensorKind.POWER, clock, period_seconds=0.02)
    meter = meter_on(monkeypatch, rig)
    begin = clock.now

    def run_for(seconds: float) -> int:
        for _ in range(round(seconds / rig.period_seconds)):
            clock.sleep(rig.period_seconds)
            rig.work(5e6 + 2e6 * math.sin(2 * math.pi * (clock.now - begin)))
            samplers[-1]._take()
        return 100

    rig.work(5e6)
    meter.sample(run_for)
    found = meter.summary()

    assert found.window_seconds == pytest.approx(4.0)
    assert found.gross_uj == pytest.approx(5e6 * 4.0 / 100, rel=0.01)


def test_an_instantaneous_sensor_is_never_read_during_the_latency_pass(monkeypatch, clock):
    """Between start and stop it is left alone: sampling would slow down what is being timed."""
    rig = Rig(SensorKind.POWER, clock)
    meter = meter_on(monkeypatch, rig)

    meter.start()
    meter.poll()
    meter.stop(5)

    assert rig.reads == 0


def test_sampling_is_no_faster_than_the_sensor_refreshes():
    """The thread waits one period between two reads."""
    rig = Rig(SensorKind.POWER, SetTime(), period_seconds=3600)

    with Sampler(rig):
        spin(0.01)

    assert rig.reads == 1


def test_a_sensor_too_slow_for_the_plan_is_not_used(monkeypatch, clock):
    """Two hundred periods do not fit into the plan's maximum: not measured, with both figures."""
    meter = meter_on(monkeypatch, Rig(SensorKind.POWER, clock, period_seconds=1.0))

    meter.idle()
    meter.sample(lambda _seconds: pytest.fail("it must not be sampled"))

    assert meter.summary().reason == "rig needs a window of 200 s, the plan allows 5 s"


def test_a_sensor_that_fails_during_the_run_is_not_measured(monkeypatch, clock):
    """Reads that fail are missing, never zero, and without them there is no energy."""
    rig = Rig(SensorKind.ENERGY, clock)
    meter = meter_on(monkeypatch, rig)
    rig.broken = True

    meter.idle()
    meter.start()
    meter.stop(10)

    assert meter.summary().reason == "rig could not be read during the run"


def test_a_sampled_window_with_too_many_failures_is_not_believed(clock, samplers):
    """More than a tenth of the reads missing leaves no window."""
    rig = Rig(SensorKind.POWER, clock)
    with energy.Sampler(rig) as sampler:
        for i in range(20):
            clock.sleep(0.001)
            rig.broken = i >= 16
            sampler._take()

    assert sampler.window(1) is None


@pytest.mark.parametrize("edges", [{"first"}, {"last"}, {"first", "last"}])
def test_a_failed_read_at_an_edge_costs_no_window(monkeypatch, clock, samplers, edges):
    """The window is as long as the pass, and its power there that of the nearest read."""
    rig = Rig(SensorKind.POWER, clock, period_seconds=0.01)
    meter = meter_on(monkeypatch, rig)
    rig.work(BUSY_UW)

    def run_for(seconds: float) -> int:
        steps = round(seconds / rig.period_seconds)
        for step in range(steps):
            clock.sleep(rig.period_seconds)
            rig.broken = "last" in edges and step == steps - 1
            samplers[-1]._take()
        return 100

    rig.broken = "first" in edges
    meter.sample(run_for)
    found = meter.summary()

    assert found.window_seconds == pytest.approx(2.0)
    assert found.gross_uj == pytest.approx(BUSY_UW * 2.0 / 100)


def sample(meter: Meter, rig: Rig, samplers: list[Sampler], *, hangs: int = 0) -> None:
    """Make the pass of a sensor at 5 W; as many of its reads hang for fifteen periods and fail."""
    rig.work(BUSY_UW)

    def run_for(seconds: float) -> int:
        end, hanging = rig.time.now + seconds, iter([True] * hangs)
        while rig.time.now + rig.period_seconds / 2 < end:
            rig.time.sleep(rig.period_seconds)
            rig.broken = next(hanging, False)
            rig.lasting = 15 * rig.period_seconds * rig.broken
            samplers[-1]._take()
        return 100

    meter.sample(run_for)


@pytest.mark.parametrize(("hangs", "told"), [(1, True), (2, False)])
def test_time_in_which_reads_hang_is_not_seen(monkeypatch, clock, samplers, hangs, told):
    """A read that fails costs what it lasted: one of 8 % of the window is forgiven, two of them are not."""
    rig = Rig(SensorKind.POWER, clock, period_seconds=0.01)
    meter = meter_on(monkeypatch, rig)

    sample(meter, rig, samplers, hangs=hangs)

    assert (meter.summary().gross_uj is not None) is told


@pytest.mark.parametrize("fails", [True, False])
def test_a_read_that_outlasts_the_work_is_no_part_of_its_window(monkeypatch, clock, samplers, fails):
    """A read that is under way when the work ends tells nothing of it, be it late with idle power or a failure."""
    rig = Rig(SensorKind.POWER, clock, period_seconds=0.01)
    meter = meter_on(monkeypatch, rig)

    def read_late(sampler: Sampler) -> None:
        sampler._stop.wait()
        rig.work(IDLE_UW)
        rig.lasting, rig.broken = 0.2, fails
        sampler._take()

    monkeypatch.setattr(Sampler, "_loop", read_late)
    sample(meter, rig, samplers)
    found = meter.summary()

    assert found.window_seconds == pytest.approx(2.0)
    assert found.gross_uj == pytest.approx(BUSY_UW * 2.0 / 100)


def test_a_counter_that_does_not_answer_is_asked_again(monkeypatch, clock):
    """Two failed reads at each end of the run cost nothing; the window is that of the reads that did not fail."""
    rig = Rig(SensorKind.ENERGY, clock)
    meter = meter_on(monkeypatch, rig)
    rig.work(BUSY_UW)

    rig.failing = 2
    meter.start()
    clock.sleep(2.0)
    rig.failing = 2
    meter.stop(10)

    assert meter.summary().gross_uj == pytest.approx(1_000_000)


def test_without_a_sensor_the_reason_is_kept(monkeypatch):
    """What the search for sensors said is what the summary says."""
    monkeypatch.setattr(instruments, "find_sensors", lambda _names, _root: ((), "energy_uj is readable by root only"))
    meter = Meter(SPEC)

    meter.idle()
    meter.start()
    meter.stop(1)
    meter.sample(lambda _seconds: pytest.fail("nothing to sample"))

    assert meter.summary().reason == "energy_uj is readable by root only"


def test_a_silent_inference_wakes_the_watchdog():
    """Without a beat for the limit it calls, once."""
    called = threading.Event()

    with timing.Watchdog(0.02, called.set):
        assert called.wait(30)


def test_beats_keep_the_watchdog_quiet():
    """As long as inferences end, nothing is called, and leaving the block ends it."""
    calls: list[int] = []

    with timing.Watchdog(5.0, lambda: calls.append(1)) as dog:
        for _ in range(100):
            dog.beat()

    assert calls == []
    assert not dog._thread.is_alive()


@pytest.mark.parametrize(("runs", "seconds"), [(7, 0.0), (1, 0.03)])
def test_both_minima_are_reached(runs, seconds):
    """Timed runs end when there are enough of them and enough time has passed, no sooner."""
    plan = MeasurePlan(min_runs=runs, min_seconds=seconds, max_seconds=20)

    found = timing.timed_runs(FakeSession(), FEED, plan, beat=int, between=int, every_ns=10**12)

    assert len(found.samples_ns) >= runs
    assert found.seconds >= seconds
    assert sum(found.samples_ns) <= found.seconds * 1e9


def test_warm_up_reaches_runs_and_seconds():
    """Warm-up ends when both its minima are reached, and says how many runs that took."""
    session = FakeSession()

    runs = timing.warm_up(session, FEED, MeasurePlan(warmup_runs=12, warmup_seconds=0.01), int)

    assert runs == session.runs >= 12


def test_the_counter_is_polled_between_runs():
    """In a long window the counter is read now and then, outside of any timed run."""
    polls: list[int] = []
    plan = MeasurePlan(min_runs=50, min_seconds=0, max_seconds=20)

    timing.timed_runs(FakeSession(), FEED, plan, beat=int, between=lambda: polls.append(1), every_ns=0)

    assert len(polls) == 49


def test_feeds_take_turns():
    """Every golden input is used, one after the other."""
    seen = []
    session = FakeSession(lambda a: seen.append(a[0, 0]) or a)
    feeds = [{"a": np.full((1, 4), i, np.float32)} for i in range(3)]

    timing.timed_runs(session, feeds, MeasurePlan(min_runs=7, min_seconds=0), beat=int, between=int, every_ns=10**12)

    assert seen == [0, 1, 2, 0, 1, 2, 0]


def test_runs_for_a_time_are_counted():
    """The pass of a sensor lasts as long as asked and counts its inferences."""
    session = FakeSession()

    runs = timing.runs_for(session, FEED, 0.02, int)

    assert runs == session.runs > 0


def test_sensors_are_looked_for_below_the_specs_root(monkeypatch):
    """On a recorded tree only that tree's sensors count."""
    roots = []
    monkeypatch.setattr(instruments, "find_sensors", lambda _names, root: (roots.append(root), ((), "none"))[1])

    Meter(replace(SPEC, sysfs_root="/some/tree"))

    assert roots == [Path("/some/tree")]
