"""The fixed rate, the trace and ONNX Runtime's events, without a model."""

import dataclasses
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from edgepick_agent.adapters import operators_onnx
from edgepick_agent.adapters.operators_onnx import table
from edgepick_agent.core.passes import Passes, too_rare
from edgepick_agent.core.profile import BoardSample, OperatorTable, OperatorTime, Phase
from edgepick_agent.core.samples import pack_samples, unpack_samples
from edgepick_agent.core.trace import Traced, trace
from edgepick_agent.errors import RunError
from edgepick_agent.runner import passes
from edgepick_agent.runner.measure import measure
from edgepick_agent.runner.timing import Watchdog
from edgepick_wire.metrics import MeasurePlan
from fakes.runtime import FakeSession, spin

FEED = [{"a": np.zeros((1, 4), np.float32)}]


class SetTime:
    """Time that only sleeping and inferences move on."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return round(self.now * 1e9)

    perf_counter_ns = monotonic_ns

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> SetTime:
    made = SetTime()
    monkeypatch.setattr(passes, "time", made)
    return made


def session(clock: SetTime, durations):
    """Return a session whose inferences take the given times in turn."""
    todo = iter(durations)

    def run(array):
        clock.sleep(next(todo))
        return array

    return FakeSession(run)


def test_one_inference_per_period(clock):
    """At 10/s thirty inferences of 20 ms take three seconds, a fifth of them busy, and none is late."""
    plan = MeasurePlan(min_runs=30, min_seconds=1.0, max_seconds=10)

    found = passes.at_rate(session(clock, [0.02] * 30), FEED, plan, 10, int)

    assert found.seconds == pytest.approx(3.0)
    assert list(found.samples_ns) == pytest.approx([20_000_000] * 30, abs=2)
    assert found.late == 0
    summary = passes.fixed_rate(found, 10, None)
    assert (summary.latency.runs, summary.duty_cycle) == (30, pytest.approx(0.2))


def test_a_slow_inference_makes_later_ones_late_but_not_rarer(clock):
    """One that takes three periods delays the next two, which catch up; the rate goes on by its own clock."""
    plan = MeasurePlan(min_runs=10, min_seconds=0.0, max_seconds=10)

    found = passes.at_rate(session(clock, [0.01, 0.35, *[0.01] * 8]), FEED, plan, 10, int)

    assert found.seconds == pytest.approx(1.0)
    assert found.late == 3


def test_an_overloaded_rate_ends_with_the_plans_time(clock):
    """Inferences longer than the period are all late, and the maximum time ends the pass."""
    plan = MeasurePlan(min_runs=1000, min_seconds=0.0, max_seconds=2.0)

    found = passes.at_rate(session(clock, [0.5] * 100), FEED, plan, 10, int)

    assert len(found.samples_ns) == 5
    assert found.late == 4
    assert passes.fixed_rate(found, 10, None).duty_cycle == pytest.approx(1.0)


def test_a_slow_rate_keeps_the_watchdog_quiet():
    """Waiting for the next inference is no silence, even where it is longer than an inference may take."""
    expired = threading.Event()
    plan = MeasurePlan(min_runs=2, min_seconds=0.0, max_seconds=20)
    assert too_rare(0.8, plan) is None

    with Watchdog(0.8, expired.set) as dog:
        passes.at_rate(FakeSession(), FEED, plan, 0.8, dog.beat)

    assert not expired.is_set()


def test_the_counter_is_polled_in_a_long_pass(clock):
    """While it waits for the next inference a counter is read about once a second, lest it wraps unseen."""
    polls: list[float] = []
    plan = MeasurePlan(min_runs=50, min_seconds=0.0, max_seconds=60)

    passes.at_rate(session(clock, [0.01] * 50), FEED, plan, 5, int, between=lambda: polls.append(clock.now))

    assert 7 <= len(polls) <= 9


def test_the_counter_is_polled_in_a_long_pause_and_never_just_before_a_run(clock):
    """At one run a minute it is read about once a second too, but not in the last moment before an inference."""
    polls: list[float] = []
    plan = MeasurePlan(min_runs=5, min_seconds=0.0, max_seconds=360)

    passes.at_rate(session(clock, [0.01] * 5), FEED, plan, 1 / 60, int, between=lambda: polls.append(clock.now))

    assert 5 * 30 <= len(polls) <= 5 * 60
    assert all(60 - (polled - 50) % 60 > 0.4 for polled in polls)


def test_a_pass_at_a_rate_keeps_to_the_plans_time(clock):
    """With the pause before the first, as many runs are made as periods fit into the longest time."""
    plan = MeasurePlan(min_runs=60, min_seconds=0.0, max_seconds=60)

    found = passes.at_rate(session(clock, [0.01] * 60), FEED, plan, 0.25, int)

    assert (len(found.samples_ns), found.seconds) == (14, pytest.approx(56.0))


@pytest.mark.parametrize(("rate", "seconds"), [(0.5, 12), (0.1, 60), (6 / 3600, 3600), (7 / 3600, 3086)])
def test_a_rate_is_too_rare_below_five_runs(rate, seconds):
    """Five runs and a pause before them are the least; what does not fit says how long it takes and how long it has."""
    plan = MeasurePlan(max_seconds=seconds)

    assert too_rare(rate, plan) is None
    assert f"take {6 / rate:g} s, the plan allows" in (too_rare(rate, replace(plan, max_seconds=0.99 * seconds)) or "")


def test_a_runner_refuses_a_rate_that_its_plan_cannot_hold(spec):
    """A specification from wherever is refused before anything is loaded, and nothing waits for a day to pass."""
    rare = replace(spec, model_path="/nowhere", passes=Passes(rate_per_s=1 / 86400))

    with pytest.raises(RunError, match="one every 86400 s"):
        measure(rare, lambda: None)


def test_traced_inferences_follow_one_another():
    """Begins rise, and each begins after the one before has ended; there are no more than so many."""
    found = passes.traced(FakeSession(lambda a: (spin(0.0002), a)[1]), FEED, int)

    begins, durations = found[::2], found[1::2]
    assert 1 <= len(begins) <= passes.MOST_TRACED
    assert all(b + d <= c for b, d, c in zip(begins, durations, begins[1:], strict=False))


def test_phases_nest_in_time():
    """A phase has its begin and length by the monotonic clock, also when it fails."""
    line, before = passes.Timeline(), time.monotonic_ns()

    with line.phase("good"):
        pass
    with pytest.raises(ValueError, match="no"), line.phase("bad"):
        raise ValueError("no")

    assert [p.name for p in line.phases] == ["good", "bad"]
    assert before <= line.phases[0].start_ns <= line.phases[1].start_ns
    assert all(p.duration_ns >= 0 for p in line.phases)


def test_samples_travel_as_they_are():
    """Packing and unpacking gives the same 64-bit integers, little-endian on every machine."""
    samples = [0, 1, 2**40, 123_456_789]

    assert list(unpack_samples(pack_samples(samples))) == samples
    assert pack_samples([1]) == b"\x01\0\0\0\0\0\0\0"
    assert list(unpack_samples(b"")) == []


def test_a_trace_counts_from_its_first_phase():
    """Times are microseconds from the first phase; temperature and clock are counters; operators have a track."""
    start = Traced(
        phases=[Phase(name="load", start_ns=5_000_000, duration_ns=2_000)],
        inferences_ns=[5_010_000, 500],
        during=[BoardSample(at_ns=5_020_000, temperature_mc=48_500, frequency_khz=1_500_000)],
        operators=OperatorTable(
            method="m",
            operators=(
                OperatorTime(name="a", kind="CONV", provider="cpu", mean_ns=300),
                OperatorTime(name="b", kind="IF", provider=""),
                OperatorTime(name="c", kind="ADD", provider="cpu", mean_ns=100),
            ),
        ),
    )

    events = [e for e in trace([start], title="t")["traceEvents"] if e["ph"] != "M"]

    assert [(e["name"], e["ph"], e["ts"], e.get("dur")) for e in events] == [
        ("load", "X", 0.0, 2.0),
        ("inference", "X", 10.0, 0.5),
        ("temperature, degrees C", "C", 20.0, None),
        ("CPU clock, MHz", "C", 20.0, None),
        ("a", "X", 10.0, 0.3),
        ("c", "X", 10.3, 0.1),
    ]


def event(name, ts, dur=0, category="Node", **arguments):
    return {"cat": category, "name": name, "ph": "X", "ts": ts, "dur": dur, "args": arguments}


def test_the_profilers_warm_up_is_left_out():
    """The first five inferences do not count, and runs that were interrupted do not move a node's time."""
    events = []
    for run in range(55):
        begin = 1000 * run
        node = event("conv_kernel_time", begin + 1, 900 if run % 10 < 2 else 30 + run % 2, op_name="Conv", provider="P")
        events += [event("model_run", begin, 990, "Session"), node]

    found = table(events, 55)

    assert (found.runs, found.reason) == (50, None)
    ((conv,),) = [found.operators]
    assert dataclasses.replace(conv, mean_ns=None) == OperatorTime(name="conv", kind="Conv", provider="P")
    assert 30_000 < conv.mean_ns <= 31_000


def test_a_profile_that_stopped_early_says_so():
    """ONNX Runtime drops events without a word when its buffer is full: fewer inferences than were run are noticed."""
    events = [event("model_run", 10 * i, 5, "Session") for i in range(20)]

    assert "stopped after 15 of 50" in table(events, 55).reason
    assert "no complete inference" in table([], 55).reason


class SlowSession:
    """A session of ONNX Runtime whose inferences take eight seconds each."""

    def __init__(self, clock: SetTime) -> None:
        self._clock = clock
        self.events: list[dict] = []

    def run(self, _outputs, _feed):
        begin = round(self._clock.now * 1e6)
        self._clock.sleep(8)
        node = event("conv_kernel_time", begin + 1, 8_000_000 - 2, op_name="Conv", provider="P")
        self.events += [event("model_run", begin, 8_000_000, "Session"), node]


def test_operators_of_a_slow_model_are_timed_in_the_time_there_is(monkeypatch):
    """At eight seconds an inference, as many are profiled as begin within twenty, and the table says how many."""
    clock = SetTime()
    monkeypatch.setattr(operators_onnx, "time", clock)
    slow = SlowSession(clock)

    found = table(slow.events, operators_onnx._run(slow, FEED))

    assert clock.now == 50 + 3 * 8
    assert (found.runs, found.reason) == (2, None)
    assert found.operators[0].mean_ns == pytest.approx(8e9, rel=0.01)
