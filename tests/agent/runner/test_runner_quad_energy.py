"""Energy in quads, on a simulated board whose power is known: the coin's order, what is missing, and for how long."""

import numpy as np
import pytest

from edgepick_agent import instruments
from edgepick_agent.core.runner_spec import Beside, RunnerSpec
from edgepick_agent.ports import SensorKind
from edgepick_agent.runner import energy, timing
from edgepick_agent.runner.energy import Meter
from edgepick_agent.runner.quads import Side, run_quads
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import MeasurePlan
from edgepick_wire.pairing import Order, PairOrder
from fakes.runtime import FakeSession

IDLE_UW, INCUMBENT_UW, CANDIDATE_UW = 2e6, 5e6, 4e6
INFERENCE_SECONDS = 0.01
PAIR = PairOrder(against="a" * 64, key="r-1", quads=6, block_runs=2, dropped_runs=0)
FEEDS = [{"a": np.zeros((1, 4), np.float32)}]


class Time:
    """The time of this board: it stands still until something sleeps or computes."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return round(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Board:
    """A counter that knows what each model draws; it counts nothing while it is broken."""

    source, scope, kind = "board", "board", SensorKind.ENERGY

    def __init__(self, time: Time) -> None:
        self.time, self.period_seconds = time, 0.001
        self.broken_from = float("inf")
        self._total, self._since = 0.0, time.now

    def pass_time(self, seconds: float, power_uw: float) -> None:
        self._total += IDLE_UW * (self.time.now - self._since) + power_uw * seconds
        self.time.now += seconds
        self._since = self.time.now

    def read(self) -> float | None:
        self.pass_time(0, 0)
        return None if self.time.now >= self.broken_from else self._total


@pytest.fixture
def board(monkeypatch) -> Board:
    """Provide the board, and its time to all that look at the clock."""
    made = Board(Time())
    for module in (energy, timing):
        monkeypatch.setattr(module, "time", made.time)
    monkeypatch.setattr("edgepick_agent.runner.quads.time", made.time)
    monkeypatch.setattr(instruments, "find_sensors", lambda _names, _root: ((made,), ""))
    return made


def spec(max_seconds: float, root: str) -> RunnerSpec:
    """Return a specification of which only the plan matters."""
    return RunnerSpec(
        model="m",
        model_path="unused",
        format=ModelFormat.TFLITE,
        runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
        plan=MeasurePlan(warmup_runs=1, warmup_seconds=0, max_seconds=max_seconds),
        sysfs_root=root,
    )


def side(board: Board, power_uw: float) -> Side:
    """Return a model that takes 10 ms and draws this much meanwhile."""

    def infer(values: np.ndarray) -> np.ndarray:
        board.pass_time(INFERENCE_SECONDS, power_uw)
        return values

    return Side(session=FakeSession(infer), feeds=FEEDS)


def quads_on(board: Board, root, max_seconds: float = 60.0):
    """Return the quads of a run with idle power measured before and after."""
    asked = spec(max_seconds, str(root))
    beside = Beside(model_path="", format=ModelFormat.TFLITE, runtimes=asked.runtimes, device="pi-1", pair=PAIR)
    meter = Meter(asked)
    meter.idle()
    meter.idle()
    sides = side(board, INCUMBENT_UW), side(board, CANDIDATE_UW)
    return run_quads(asked, beside, *sides, meter=meter, beat=lambda: None).quads


def test_each_block_carries_the_net_energy_of_its_model(board, tmp_path):
    """3 W and 2 W above idle for 10 ms are 30 and 20 mJ, in the order of the coin, both orders being there."""
    found = quads_on(board, tmp_path)

    incumbent, candidate = (INFERENCE_SECONDS * (p - IDLE_UW) for p in (INCUMBENT_UW, CANDIDATE_UW))
    expected = {"a": incumbent, "b": candidate}
    assert {quad.order for quad in found} == {Order.ABBA, Order.BAAB}
    for quad in found:
        assert quad.energy_uj == pytest.approx([expected[which] for which in quad.order.value], rel=1e-6)
        assert quad.latency_ns == pytest.approx([INFERENCE_SECONDS * 1e9] * 4)


def test_a_sensor_that_fails_midway_leaves_the_later_quads_without_energy(board, tmp_path):
    """What was read stays, what was not is missing, and no latency is lost."""
    board.broken_from = 102.9

    found = quads_on(board, tmp_path)

    told = [bool(quad.energy_uj) for quad in found]
    assert told[0]
    assert not told[-1]
    assert told == sorted(told, reverse=True)
    assert all(len(quad.latency_ns) == 4 for quad in found)


def test_the_energy_of_quads_takes_no_longer_than_the_plan(board, tmp_path):
    """When the longest time is over, the quads that are left keep their latency and have no energy."""
    found = quads_on(board, tmp_path, max_seconds=2.0)

    assert [bool(quad.energy_uj) for quad in found] == [True, True, True, False, False, False]


def test_a_sensor_too_slow_for_four_blocks_is_not_asked(board, tmp_path):
    """Where four windows are longer than the plan's longest time, no quad begins what it could not end."""
    board.period_seconds = 0.1

    assert not any(quad.energy_uj for quad in quads_on(board, tmp_path, max_seconds=60.0))


def test_idle_power_that_cannot_be_told_leaves_energy_out(board, tmp_path):
    """Without idle power there is no net energy, and gross is not put in its place."""
    meter = Meter(spec(60.0, str(tmp_path)))

    assert meter.block(lambda seconds: board.pass_time(seconds, INCUMBENT_UW) or 10) is None
