"""What is read of a board before and after a run, and which verdict follows from it."""

from dataclasses import replace

import pytest

from edgepick_agent import instruments
from edgepick_agent.core.board_state import BoardReading
from edgepick_agent.core.conditions import conditions, throttle_reasons, verdict
from edgepick_wire.metrics import LatencySummary, MeasurePlan, Verdict
from fakes import sensor_trees as trees

PLAN = MeasurePlan(min_runs=60, min_seconds=1.0, max_seconds=10.0)
STEADY = LatencySummary(runs=100, mean_ns=100, stdev_ns=1, min_ns=99, max_ns=110, p50_ns=100, p90_ns=105)
QUIET = BoardReading(frequency_khz=1_500_000, load_1min=0.1, cpu_pressure_us=1000, cooling={"cpu": 3}, firmware_flags=0)


def judged(before: BoardReading, after: BoardReading, latency: LatencySummary = STEADY, seconds: float = 1.0):
    found = conditions(before, after, machine="m", stand_in=False)
    return verdict(found, latency, PLAN, seconds=seconds, cpus=2)


def test_a_raspberry_pi_is_read_from_its_tree(tmp_path):
    """Model, memory, temperature, clock, governor, load, pressure and firmware flags are the tree's."""
    board = instruments.board(trees.plant(tmp_path, trees.RASPBERRY_PI_5))

    reading = board.read()

    assert board.machine() == "Raspberry Pi 5 Model B Rev 1.0"
    assert board.memory_bytes() == 8245328 * 1024
    assert replace(reading, cpus=1) == BoardReading(
        temperature_mc=52300,
        frequency_khz=2_400_000,
        governor="ondemand",
        firmware_flags=0,
        load_1min=0.52,
        cpu_pressure_us=123456,
    )


def test_a_fan_is_no_throttling(tmp_path):
    """A cooling device that turns a fan leaves the clock alone."""
    reading = instruments.board(trees.plant(tmp_path, trees.RASPBERRY_PI_5)).read()

    assert throttle_reasons(reading, reading) == ()


def test_everything_about_a_board_is_optional(tmp_path):
    """An empty tree gives a reading without values, and the machine's architecture as its name."""
    board = instruments.board(tmp_path)

    assert replace(board.read(), cpus=1) == BoardReading()
    assert board.memory_bytes() is None
    assert board.machine()


def test_a_pc_is_named_by_its_cpu(tmp_path):
    """Without a device tree the name is the CPU's."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD Ryzen Embedded V1605B\n")

    assert instruments.board(tmp_path).machine() == "AMD Ryzen Embedded V1605B"


def test_a_zone_that_is_off_is_not_cold(tmp_path):
    """Jetson shows -256 degrees for a zone whose block sleeps; the hottest real zone counts."""
    tree = {f"sys/class/thermal/thermal_zone{i}/temp": f"{t}\n" for i, t in enumerate([-256000, 41500, 43000])}

    assert instruments.board(trees.plant(tmp_path, tree)).read().temperature_mc == 43000


def test_a_clock_held_down_is_named(tmp_path):
    """A CPU cooling device in use, its transitions and over-current events are read by name."""
    tree = {
        "sys/class/thermal/cooling_device3/type": "thermal-cpufreq-0\n",
        "sys/class/thermal/cooling_device3/cur_state": "1\n",
        "sys/class/thermal/cooling_device3/stats/total_trans": "9\n",
        "sys/class/hwmon/hwmon2/oc1_event_cnt": "4\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "12\n",
    }

    reading = instruments.board(trees.plant(tmp_path, tree)).read()

    assert reading.cooling_now == ("thermal-cpufreq-0 (cooling_device3)",)
    assert reading.cooling == {
        "thermal-cpufreq-0 (cooling_device3)": 9,
        "over-current oc1": 4,
        "cpu0 core_throttle_count": 12,
    }


def test_a_quiet_run_is_valid():
    """Nothing wrong, no reason, valid."""
    assert judged(QUIET, QUIET) == (Verdict.VALID, ())


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, {"firmware_flags": 0x4}, "throttled"),
        ({"firmware_flags": 0x1}, {}, "under-voltage"),
        ({}, {"firmware_flags": 0x50000}, "under-voltage"),
        ({}, {"cooling": {"cpu": 4}}, "cpu counted up"),
        ({}, {"cooling_now": ("gpu",)}, "gpu is cooling"),
    ],
)
def test_any_sign_of_throttling_makes_a_run_invalid(before, after, named):
    """Active at either end, or new since the start: the run is not to be used, and says why."""
    how, reasons = judged(replace(QUIET, **before), replace(QUIET, **after))

    assert how is Verdict.INVALID
    assert any(named in reason for reason in reasons)


def test_throttling_long_ago_says_nothing_about_this_run():
    """A flag that was already sticky before the run, and is not active, leaves it valid."""
    sticky = replace(QUIET, firmware_flags=0x50005 & ~0x5)

    assert judged(sticky, sticky) == (Verdict.VALID, ())


@pytest.mark.parametrize(("before", "after"), [(None, 0x50000), (0x50000, None), (None, None)])
def test_a_firmware_that_did_not_answer_once_leaves_it_open_whether_it_throttled(before, after):
    """What happened since boot is compared between two answers only: one that is missing is no clean one."""
    found = conditions(
        BoardReading(firmware_flags=before), BoardReading(firmware_flags=after), machine="m", stand_in=False
    )

    assert (found.throttled, found.throttle_reasons) == (None, ())


def test_throttling_that_is_active_counts_without_another_answer():
    """Where only one of the two answers is there, what it shows as going on is throttling."""
    assert throttle_reasons(BoardReading(), BoardReading(firmware_flags=0x50004)) == ("throttled",)


@pytest.mark.parametrize(
    "counter", ["devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "class/hwmon/hwmon2/oc1_event_cnt"]
)
def test_a_counter_that_could_not_be_read_did_not_count_up(counter, tmp_path):
    """A counter whose first read fails is missing, not zero: what it counted before the run is not held against it."""
    board = instruments.board(trees.plant(tmp_path, {f"sys/{counter}": "\n"}))
    before = board.read()

    (tmp_path / "sys" / counter).write_text("12\n")
    after = board.read()

    assert (before.cooling, list(after.cooling.values())) == ({}, [12])
    assert throttle_reasons(before, after) == ()


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({"load_1min": 2.5}, {}, "load average"),
        ({}, {"cpu_pressure_us": 201_000}, "waited for a CPU"),
        ({}, {"frequency_khz": 600_000}, "fell from 1500 to 600 MHz"),
    ],
)
def test_a_disturbed_run_is_noisy_or_degraded(before, after, named):
    """A busy machine or a falling clock leaves the run usable with care, and says why."""
    how, reasons = judged(replace(QUIET, **before), replace(QUIET, **after))

    assert how is (Verdict.DEGRADED if "frequency_khz" in after else Verdict.NOISY)
    assert any(named in reason for reason in reasons)


@pytest.mark.parametrize(
    ("latency", "seconds", "named"),
    [
        (replace(STEADY, p90_ns=151), 1.0, "wide spread"),
        (replace(STEADY, runs=59), 10.0, "59 of 60 runs"),
        (STEADY, 0.5, "0.50 of 1 s"),
    ],
)
def test_too_few_or_scattered_runs_are_degraded(latency, seconds, named):
    """A wide spread, too few runs and too short a window are each named."""
    how, reasons = judged(QUIET, QUIET, latency, seconds)

    assert how is (Verdict.NOISY if named == "wide spread" else Verdict.DEGRADED)
    assert any(named in reason for reason in reasons)


def test_conditions_hold_what_was_read_at_both_ends():
    """Before and after stand side by side; what cannot be read is absent, not zero."""
    after = replace(QUIET, temperature_mc=50_000, frequency_khz=1_400_000, cpu_pressure_us=1500, governor="performance")

    found = conditions(replace(QUIET, temperature_mc=40_000), after, machine="m", stand_in=True)
    blind = conditions(BoardReading(), BoardReading(), machine="m", stand_in=False)

    assert (found.temperature_mc, found.frequency_khz) == ((40_000, 50_000), (1_500_000, 1_400_000))
    assert (found.cpu_pressure_us, found.governor, found.throttled, found.stand_in) == (500, "performance", False, True)
    assert (blind.temperature_mc, blind.throttled, blind.cpu_pressure_us) == ((), None, None)
