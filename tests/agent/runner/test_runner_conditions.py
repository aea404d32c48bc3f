"""Noise and throttling: by readings of the board as the kernel lays them out, and in real runs on changing trees."""

import os
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent import app, instruments
from edgepick_agent.core.board_state import BoardReading
from edgepick_agent.core.conditions import OwnUse, conditions, verdict, with_passes
from edgepick_agent.core.passes import Passes
from edgepick_agent.core.profile import BoardSample
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_agent.core.summarise import drift
from edgepick_agent.runner import process
from edgepick_agent.runner.watch import Watch
from edgepick_wire.metrics import LatencySummary, MeasurePlan, Verdict
from fakes import runtime_models as models
from fakes import sensor_trees as trees

PLAN = MeasurePlan(min_runs=60, min_seconds=1.0, max_seconds=10.0)
STEADY = LatencySummary(runs=100, mean_ns=100, stdev_ns=1, min_ns=99, max_ns=110, p50_ns=100, p90_ns=105)
OWN = OwnUse(seconds=2.0, cpu_seconds=1.96, preemptions=3)
QUIET = BoardReading(cpus=2, load_1min=0.3, cpu_pressure_us=0, busy_seconds=1000.0, steal_seconds=5.0)


def judged(*, busy=1.96, stolen=0.0, own=OWN, cpus=2, how_long=2.0, change=None):
    before = replace(QUIET, cpus=cpus)
    after = replace(before, busy_seconds=1000.0 + busy, steal_seconds=5.0 + stolen)
    found = conditions(before, after, machine="m", stand_in=False, own=own)
    return verdict(found, STEADY, PLAN, seconds=how_long, cpus=cpus, drift=change)


def test_a_machine_that_only_measures_is_not_noisy():
    """The runner's own CPU time, a few ticks of the system and a few preemptions leave the run valid."""
    assert judged(busy=2.05) == (Verdict.VALID, ())


@pytest.mark.parametrize("cpus", [2, 4])
def test_load_on_another_core_is_noisy(cpus):
    """One process spinning on the other core takes no CPU from the runner, and is seen all the same."""
    how, reasons = judged(busy=1.96 + 2.0, cpus=cpus)

    assert how is Verdict.NOISY
    assert reasons == (f"other processes kept 1.00 of {cpus} CPUs busy during the run",)


def test_one_busy_core_among_many_is_not_noise():
    """On sixty-four cores a few that others use are no reason."""
    assert judged(busy=1.96 + 4.0, cpus=64)[0] is Verdict.VALID


def test_a_few_ticks_say_nothing():
    """In a run of 50 ms four ticks of 10 ms look like most of a CPU, and are not held against it."""
    own = OwnUse(seconds=0.05, cpu_seconds=0.05, preemptions=0)

    assert judged(busy=0.05 + 0.04, own=own, how_long=0.05)[0] is not Verdict.NOISY


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stolen": 0.2}, "the hypervisor gave 5% of the CPU time"),
        ({"own": replace(OWN, preemptions=90), "busy": 2.1}, "took the CPU from the runner 45 times a second"),
        ({"change": 0.12}, "latency rose by 12% from begin to end"),
        ({"change": -0.3}, "latency fell by 30% from begin to end"),
    ],
)
def test_each_other_disturbance_is_named(changes, said):
    """Steal time, preemptions and drift each turn the verdict down, with the figure."""
    how, reasons = judged(**changes)

    assert how is (Verdict.DEGRADED if "change" in changes else Verdict.NOISY)
    assert said in "; ".join(reasons)


def test_what_the_runner_does_to_itself_is_no_noise():
    """More threads than CPUs preempt each other, wait for a CPU and raise the load average of the next start."""
    own = OwnUse(seconds=2.0, cpu_seconds=3.96, preemptions=900)
    before = replace(QUIET, load_1min=4.2)
    after = replace(before, busy_seconds=1000.0 + 4.0, cpu_pressure_us=1_900_000)

    found = conditions(before, after, machine="m", stand_in=False, own=own)

    assert verdict(found, STEADY, PLAN, seconds=2.0, cpus=2) == (Verdict.VALID, ())


def test_what_was_seen_during_the_run_counts():
    """A clock that fell in the middle and came back, and the hottest moment, are in the conditions."""
    ends = replace(QUIET, frequency_khz=1_500_000, temperature_mc=50_000)
    during = [BoardSample(at_ns=1, temperature_mc=71_000, frequency_khz=600_000)]

    found = conditions(ends, ends, machine="m", stand_in=False, own=OWN, during=during)
    how, reasons = verdict(found, STEADY, PLAN, seconds=2.0, cpus=2)

    assert (found.hottest_mc, found.slowest_khz) == (71_000, 600_000)
    assert how is Verdict.DEGRADED
    assert "fell from 1500 to 600 MHz" in reasons[0]


@given(st.integers(-40, 60), st.integers(50, 300))
def test_drift_is_the_slope_whatever_the_outliers(percent, runs):
    """A straight line is told as its rise relative to the middle; some runs that are much slower move that little."""
    line = [1_000_000 + percent * 10_000 * i // (runs - 1) for i in range(runs)]
    spiked = [x * 20 if i % 25 == 7 else x for i, x in enumerate(line)]
    size = runs // 10

    expected = percent / 100 * (size * 9) / (runs - 1) / (1 + percent / 200)

    assert drift(line) == pytest.approx(expected, abs=0.05)
    assert drift(spiked) == pytest.approx(expected, abs=0.08)


def test_few_runs_have_no_drift():
    """Below fifty runs there is none to tell."""
    assert drift([1] * 49) is None


def test_the_board_counts_cpu_time_as_the_kernel_does(tmp_path):
    """User, nice, system and interrupts are work, steal is apart; idle, waiting and guests are not counted again."""
    root = trees.plant(tmp_path, {"proc/stat": "cpu  1000 200 300 9000 400 50 50 70 900 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"})

    reading = instruments.board(root).read()

    assert (reading.busy_seconds, reading.steal_seconds) == (16.0, 0.7)


def test_pressure_is_read_for_each_resource(tmp_path):
    """CPU, memory and input-output pressure are the totals of their "some" lines."""
    lines = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"
    tree = {f"proc/pressure/{name}": lines.format(i) for i, name in enumerate(("cpu", "memory", "io"), 1)}

    reading = instruments.board(trees.plant(tmp_path, tree)).read()

    assert (reading.cpu_pressure_us, reading.memory_pressure_us, reading.io_pressure_us) == (1, 2, 3)


def test_the_runner_counts_its_own_use():
    """Spinning for CPU time shows up in what this process used."""
    before, _ = process.own_use()
    while process.own_use()[0] < before + 0.02:
        pass

    assert process.own_use()[0] >= before + 0.02


class CpuPlayer:
    """Plays /proc/stat: a number of CPUs' worth of work until the moment at which it is read, however late that is."""

    def __init__(self, root, cpus_busy: float) -> None:
        self._path = root / "proc/stat"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(self._path)
        self._busy = cpus_busy
        self._since = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        last = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)  # the reader that the loop waits for
        self._thread.join()
        os.close(last)

    def _loop(self):
        while not self._stop.wait(0.005):
            with suppress(BrokenPipeError), self._path.open("w") as file:
                ticks = int((time.monotonic() - self._since) * self._busy * 100)
                file.write(f"cpu  {1000 + ticks} 0 0 99999 0 0 0 0 0 0\n")


def profiled(root, **options):
    plan = MeasurePlan(warmup_runs=1, warmup_seconds=0, min_runs=60, min_seconds=0.4, max_seconds=20)
    return app.benchmark(ProfileRequest(model=str(models.DIGITS), plan=plan, sysfs_root=str(root), **options))


@pytest.mark.parametrize(("busy", "noisy"), [(3.0, True), (0.0, False)])
def test_a_real_run_sees_load_on_other_cores(tmp_path, busy, noisy):
    """With other cores at work during the runs the verdict says "noisy" and why; without, there is no such reason."""
    with CpuPlayer(tmp_path, busy):
        found = profiled(tmp_path)

    assert any("other processes kept" in reason for reason in found.reasons) is noisy
    assert (found.conditions.foreign_cpus > 1) is noisy
    if noisy:
        assert found.verdict is Verdict.NOISY


THROTTLING_PI = {
    **trees.RASPBERRY_PI_5,
    "usr/bin/vcgencmd": (
        '#!/bin/sh\n[ "$1" = get_throttled ] || { echo "error"; exit 1; }\n'
        'seen="$(dirname "$0")/../seen"\n'
        'if [ -e "$seen" ]; then echo throttled=0x40004; else : > "$seen"; echo throttled=0x0; fi\n'
    ),
}
"""A stand-in for a Raspberry Pi 5 that begins to throttle after the first look at it."""


def test_throttling_during_a_real_run_makes_it_invalid(tmp_path):
    """The firmware's word is clean before and throttled after: the profile is invalid, and names it."""
    found = profiled(trees.plant(tmp_path, THROTTLING_PI))

    assert found.verdict is Verdict.INVALID
    assert found.conditions.throttled is True
    assert "throttled: throttled" in found.reasons


LATE_PI = {
    **trees.RASPBERRY_PI_5,
    "usr/bin/vcgencmd": (
        '#!/bin/sh\n[ "$1" = get_throttled ] || { echo "error"; exit 1; }\n'
        'asked="$(dirname "$0")/../asked"\necho x >> "$asked"\n'
        'if [ "$(wc -l < "$asked")" -lt 3 ]; then echo throttled=0x0; else echo throttled=0x40004; fi\n'
    ),
}
"""A stand-in for a Raspberry Pi 5 that begins to throttle after the timed runs."""


def test_throttling_in_a_later_pass_makes_a_real_run_invalid(tmp_path):
    """The firmware is asked before, after the timed runs and after the last pass; the last answer counts."""
    root = trees.plant(tmp_path, LATE_PI)

    found = profiled(root, passes=Passes(rate_per_s=500))

    assert (root / "usr/asked").read_text().count("x") == 3
    assert found.verdict is Verdict.INVALID
    assert "throttled: throttled" in found.reasons


@pytest.fixture
def watched(spec, tmp_path):
    """Provide a watch of a small board, and a function that changes what is to be seen there."""
    tree = {
        "proc/stat": "cpu  1000 0 0 9000 0 0 0 0 0 0\n",
        "sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0\n",
        "sys/class/thermal/cooling_device0/cur_state": "0\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    }
    trees.plant(tmp_path, tree)
    watch = Watch(replace(spec, sysfs_root=str(tmp_path)))
    watch.start()
    return watch, lambda change: trees.plant(tmp_path, tree | change)


@pytest.mark.parametrize("later", [False, True])
def test_a_clock_held_down_in_between_only_is_seen(watched, later):
    """A cooling device that is in use in the middle, of the timed runs or of a later pass, throttles the run."""
    watch, change = watched
    if later:
        watch.stop()

    change({"sys/class/thermal/cooling_device0/cur_state": "2\n"})
    watch.glance()
    change({})
    if not later:
        watch.stop()
    watch.end()

    found = watch.conditions()
    assert (found.throttled, found.throttle_reasons) == (True, ("thermal-cpufreq-0 (cooling_device0) is cooling",))
    assert watch.during[0].cooling_now == ("thermal-cpufreq-0 (cooling_device0)",)


def test_the_pauses_of_a_later_pass_are_no_fallen_clock(watched):
    """A clock that falls after the timed runs is seen, and says nothing against their latencies."""
    watch, change = watched
    watch.stop()

    change({"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "600000\n"})
    watch.glance()
    watch.end()

    assert watch.during[0].frequency_khz == 600_000
    assert watch.conditions().slowest_khz == 1_500_000


def test_others_at_work_during_a_later_pass_are_noise(watched):
    """CPU time that others use after the timed runs, while energy is measured, makes the run noisy."""
    watch, change = watched
    watch.stop()
    quiet = watch.conditions()

    change({"proc/stat": "cpu  3000 0 0 9000 0 0 0 0 0 0\n"})
    watch.end()

    found = watch.conditions()
    assert quiet.foreign_cpus == 0.0
    assert verdict(found, STEADY, PLAN, seconds=2.0, cpus=2)[0] is Verdict.NOISY


def test_a_little_work_of_others_later_changes_nothing():
    """What would not make a run noisy by itself does not join what is said of the timed runs."""
    timed = conditions(QUIET, QUIET, machine="m", stand_in=False, own=OWN)

    assert with_passes(timed, replace(timed, foreign_cpus=0.15), 2) == timed
    assert with_passes(timed, replace(timed, foreign_cpus=0.5), 2).foreign_cpus == 0.5


@pytest.mark.parametrize(
    ("timed", "whole", "told"),
    [(False, False, False), (True, None, True), (False, True, True), (None, False, False), (False, None, None)],
)
def test_passes_that_cannot_tell_are_not_taken_for_cool_ones(timed, whole, told):
    """The whole span holds the timed runs: what it cannot tell nobody can, unless these throttled by themselves."""
    found = conditions(QUIET, QUIET, machine="m", stand_in=False, own=OWN)

    both = with_passes(replace(found, throttled=timed), replace(found, throttled=whole), 2)

    assert both.throttled is told


def test_one_throttled_start_spoils_a_profile(tmp_path):
    """Of two starts the first sees the throttling begin; the whole is invalid, and says in how many starts."""
    found = profiled(trees.plant(tmp_path, THROTTLING_PI), restarts=2, passes=Passes(rate_per_s=500))

    assert found.verdict is Verdict.INVALID
    assert [r.verdict for r in found.restarts] == [Verdict.INVALID] * 2
    assert any(reason.startswith("in 2 of 2 starts: throttled") for reason in found.reasons)


def test_glances_are_bounded(spec, tmp_path):
    """A look in between keeps temperature and clock, and a long run keeps no more than so many."""
    watch = Watch(replace(spec, sysfs_root=str(trees.plant(tmp_path, trees.RASPBERRY_PI_5))))

    watch.start()
    for _ in range(700):
        watch.glance()
    watch.stop()

    assert len(watch.during) == 600
    assert (watch.during[0].temperature_mc, watch.during[0].frequency_khz) == (52300, 2_400_000)
    assert watch.conditions().preemptions is not None
