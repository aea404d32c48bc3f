"""What every launcher promises: real processes, and the scripted ones that the bench uses."""

import time
from pathlib import Path

import pytest

import edgepick_host.demo
from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.adapters.runner_process import Launcher
from edgepick_agent.core.runner_spec import RunnerMode, RunnerSpec
from edgepick_agent.ports import RunnerState
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import MeasurePlan
from fakes.runner_launcher import ScriptedLauncher

MODEL = Path(edgepick_host.demo.__file__).parent / "data" / "digits.tflite"


@pytest.fixture(params=["processes", "scripted"])
def launcher(request, tmp_path):
    return Launcher(None, tmp_path, SystemClock()) if request.param == "processes" else ScriptedLauncher()


def spec(tmp_path: Path) -> RunnerSpec:
    return RunnerSpec(
        model="digits",
        model_path=str(MODEL),
        format=ModelFormat.TFLITE,
        runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
        plan=MeasurePlan(warmup_runs=1, warmup_seconds=0.0, min_runs=3, min_seconds=0.0, max_seconds=10.0),
        socket_path=str(tmp_path / "r.sock"),
    )


def wait(process, *states: RunnerState):
    deadline = time.monotonic() + 60
    while (seen := process.observe()).state not in states:
        assert time.monotonic() < deadline, seen
        time.sleep(0.01)
    return seen


def test_a_measuring_runner_ends_with_a_result(launcher, tmp_path):
    """It exits by itself, and then its result is there."""
    process = launcher.start(spec(tmp_path), RunnerMode.MEASURE)

    seen = wait(process, RunnerState.EXITED)
    result = process.result()
    process.stop()

    assert seen.exit_code == 0
    assert result is not None
    assert result.measurement is not None


def test_a_retired_runner_ends_by_itself(launcher, tmp_path):
    """Told to retire, a runner to which nobody is connected ends without being stopped."""
    process = launcher.start(spec(tmp_path), RunnerMode.SERVE)
    wait(process, RunnerState.READY)

    process.front()
    process.leave_port()
    process.retire()
    seen = wait(process, RunnerState.EXITED)
    process.stop()
    launcher.close()

    assert seen.state is RunnerState.EXITED


def test_a_serving_runner_becomes_ready_and_goes_when_told(launcher, tmp_path):
    """Ready, with its memory told; after stop it is gone, and stopping again is harmless."""
    process = launcher.start(spec(tmp_path), RunnerMode.SERVE)

    ready = wait(process, RunnerState.READY)
    result = process.result()
    process.stop()
    process.stop()

    assert ready.rss_bytes is not None
    assert result is None
    assert process.pid > 0
    assert process.observe().state is RunnerState.EXITED
