"""What the profiler reports as energy, against the integral of a power curve that is played in real time."""

import pytest

from edgepick_agent import app
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_wire.metrics import MeasurePlan
from fakes.power_player import BUSY_WATTS, PowerPlayer
from fakes.runtime_models import DIGITS

TOLERANCE = 0.02
LONGEST_GAP_SECONDS = 0.1
"""A sensor that says one thing for longer may lose a window: the failed read that is shown becomes a tenth of all."""
LONGEST_EDGE_SECONDS = 0.01
"""A counter that stands still where a window begins or ends is short of that much of its half second."""
LEAST_LOAD_WATTS = BUSY_WATTS / 3
"""A model that is kept from its CPU for longer adds little, and in bursts that a sampler meets at their beginnings."""
ATTEMPTS = 6
PLAN = MeasurePlan(warmup_runs=5, warmup_seconds=0.2, min_runs=60, min_seconds=2.5, max_seconds=20)


def profiled(root, sensor):
    """Return the profile of the demo model on the played board, and the player."""
    with PowerPlayer(root, sensor) as player:
        found = app.benchmark(ProfileRequest(model=str(DIGITS), plan=PLAN, sensors=(sensor,), sysfs_root=str(root)))
    return found, player


def stretch(phase):
    return phase.start_ns / 1e9, (phase.start_ns + phase.duration_ns) / 1e9


def played(root, sensor, load):
    """Return a profile and what really flowed; tried again where the player or the model was kept waiting."""
    for attempt in range(ATTEMPTS):
        found, player = profiled(root / str(attempt), sensor)
        first_idle, last_idle = (stretch(p) for p in found.phases if p.name == "idle")
        loaded = next(stretch(p) for p in found.phases if p.name == load)
        edges = max(player.gap_at(moment) for moment in (*first_idle, *loaded, *last_idle))
        idle, seconds = (player.watts(*first_idle) + player.watts(*last_idle)) / 2, loaded[1] - loaded[0]
        if (
            edges < LONGEST_EDGE_SECONDS
            and player.longest_gap(first_idle[0], last_idle[1]) < LONGEST_GAP_SECONDS
            and player.watts(*loaded) - idle > LEAST_LOAD_WATTS
        ):
            return found.energy, player.joules(*loaded), idle, seconds
    return pytest.skip(f"this machine kept the player or the model waiting in each of {ATTEMPTS} attempts")


@pytest.mark.parametrize(("sensor", "load"), [("powercap-rapl", "timed runs"), ("hwmon-ina2xx", "energy")])
def test_energy_is_the_curves_integral(tmp_path, sensor, load):
    """Gross, idle and net energy are within 2 % of the curve: by a counter that wraps, by a sensor whose reads fail."""
    found, joules, idle_watts, seconds = played(tmp_path, sensor, load)

    assert found.source.startswith(sensor)
    assert found.window_seconds == pytest.approx(seconds, rel=0.01)
    assert found.gross_uj * found.inferences == pytest.approx(joules * 1e6, rel=TOLERANCE)
    assert found.idle_uw == pytest.approx(idle_watts * 1e6, rel=TOLERANCE)
    assert found.net_uj * found.inferences == pytest.approx((joules - idle_watts * seconds) * 1e6, rel=TOLERANCE)
    assert found.net_uj < 0.8 * found.gross_uj
