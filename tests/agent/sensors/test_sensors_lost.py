"""A power sensor that goes away while a run is measured: what it would have said is missing, never zero."""

import time

import pytest

from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.runner.energy import Meter
from edgepick_wire.manifest import ModelFormat
from edgepick_wire.metrics import MeasurePlan
from fakes.power_player import PowerPlayer


@pytest.fixture(params=["powercap-rapl", "hwmon-ina2xx"])
def board(request, tmp_path):
    """Provide a board whose power is played, the meter of a run on it, and the sensor's name."""
    root = tmp_path / "board"
    spec = RunnerSpec(
        model="m",
        model_path="unused",
        format=ModelFormat.TFLITE,
        runtimes=(),
        plan=MeasurePlan(max_seconds=20),
        sensors=(request.param,),
        sysfs_root=str(root),
    )
    with PowerPlayer(root, request.param) as player:
        yield player, Meter(spec), request.param


def inferences(seconds: float) -> int:
    time.sleep(seconds)
    return 10


def measured(player: PowerPlayer, meter: Meter, *, lose=lambda: None):
    """Return the energy of a run in the order of ``measure``; ``lose`` is called while the model runs."""
    meter.idle()
    meter.start()
    enough = player.played_seconds + 0.3
    while player.played_seconds < enough:  # a busy machine may keep the board from playing for a while
        inferences(0.01)
    lose()
    meter.poll()
    meter.stop(10)
    meter.sample(inferences)
    meter.idle()
    return meter.summary()


def test_a_sensor_that_stays_has_figures(board):
    """The same run with its sensor to the end has gross and idle figures."""
    player, meter, sensor = board

    energy = measured(player, meter)

    assert energy.source.startswith(sensor)
    assert energy.gross_uj > 0
    assert energy.idle_uw > 0


def test_a_sensor_lost_during_a_run_is_missing(board):
    """There is no figure at all, but the sensor's name and what became of it."""
    player, meter, sensor = board

    energy = measured(player, meter, lose=player.unplug)

    assert (energy.gross_uj, energy.net_uj, energy.idle_uw, energy.window_seconds) == (None,) * 4
    assert sensor in energy.reason
    assert "could not be read" in energy.reason
