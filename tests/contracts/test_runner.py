"""What every runner promises: the real process, and the script that the agent's tests use."""

import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_agent import app
from edgepick_agent.core.runner_spec import GoldenFile, RunnerMode, RunnerSpec
from edgepick_agent.ports import RunnerState
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import MeasurePlan
from fakes.clock import FakeClock
from fakes.odd_python import odd_python
from fakes.runner_launcher import Script, ScriptedLauncher
from fakes.runtime_models import DIGITS, digits_golden

PATIENCE_SECONDS = 60.0
PLAN = MeasurePlan(warmup_runs=1, warmup_seconds=0, min_runs=5, min_seconds=0, max_seconds=20)


def base(golden: Path) -> RunnerSpec:
    return RunnerSpec(
        model="digits",
        version="1",
        model_path=str(DIGITS),
        format=ModelFormat.TFLITE,
        runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
        golden=GoldenFile(path=str(golden), min_agreement=0.9, max_mean_abs_error=0.01),
        plan=PLAN,
        limits=RunLimits(start_seconds=PATIENCE_SECONDS),
        sysfs_root=str(golden.parent),
    )


class Real:
    """The launcher of the agent, with models that behave as a script says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launcher = app.launcher(None, folder / "work", FakeClock())

    def start(self, script: Script, mode: RunnerMode):
        wrong = script.measure == "fails"
        spec = base(digits_golden(self.folder / "golden.npz", samples=8, wrong=wrong))
        if script.measure == "cannot":
            (self.folder / "broken.tflite").write_bytes(b"not a model at all")
            spec = replace(spec, model_path=str(self.folder / "broken.tflite"))
        if "swells" in {script.measure, script.serve}:
            spec = replace(spec, limits=replace(spec.limits, peak_rss_bytes=1 << 20))
        if "crashes" in {script.measure, script.serve}:
            python = odd_python(self.folder / "odd", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
            return app.launcher(python, self.folder / "crashing", FakeClock()).start(spec, mode)
        return self.launcher.start(spec, mode)


class Scripted:
    """The launcher of the agent's tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launcher = ScriptedLauncher()

    def start(self, script: Script, mode: RunnerMode):
        self.launcher.scripts = {"1": script}
        return self.launcher.start(base(self.folder / "golden.npz"), mode)


@pytest.fixture(params=[Real, Scripted], ids=["real", "scripted"])
def start(request, tmp_path):
    made, started = request.param(tmp_path), []

    def start(script: Script, mode: RunnerMode):
        started.append(made.start(script, mode))
        return started[-1]

    yield start
    for process in started:
        process.stop(grace_seconds=0)


def wait_for(process, *wanted: RunnerState, states: list[RunnerState] | None = None):
    """Return the first look in a wanted state; ``states`` takes those of all looks."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        seen = process.observe()
        if states is not None:
            states.append(seen.state)
        if seen.state in wanted:
            return seen
        time.sleep(0.005)
    raise AssertionError(f"never {wanted}")


def test_a_server_starts_and_becomes_ready(start):
    """Starting first, then ready, with its memory; there is never a result."""
    process, states = start(Script(), RunnerMode.SERVE), []

    ready = wait_for(process, RunnerState.READY, states=states)

    assert set(states[:-1]) <= {RunnerState.STARTING}
    assert process.pid > 0
    assert ready.rss_bytes > 0
    assert process.result() is None


def test_a_measurement_ends_with_a_result(start):
    """It exits with 0, and the result holds a measurement by the plan with passed golden inputs."""
    process = start(Script(), RunnerMode.MEASURE)
    ended = wait_for(process, RunnerState.EXITED)

    result = process.result()

    assert ended.exit_code == 0
    assert result.failure is None
    assert (result.measurement.plan, result.measurement.golden.passed) == (PLAN, True)


def test_wrong_answers_are_in_the_result(start):
    """A model that answers wrongly gives a measurement whose golden result did not pass."""
    process = start(Script(measure="fails"), RunnerMode.MEASURE)
    wait_for(process, RunnerState.EXITED)

    assert not process.result().measurement.golden.passed


def test_a_model_that_cannot_run_is_a_failure(start):
    """No measurement, but a code and a sentence."""
    process = start(Script(measure="cannot"), RunnerMode.MEASURE)
    wait_for(process, RunnerState.EXITED)

    result = process.result()

    assert result.measurement is None
    assert result.failure.code == "model-load"
    assert result.failure.detail


@pytest.mark.parametrize("mode", list(RunnerMode))
def test_a_crash_is_an_exit_without_result(start, mode):
    """A signal shows as a negative exit code and in words; memory and result are gone."""
    process = start(Script(measure="crashes", serve="crashes", shadow="crashes"), mode)
    seen = wait_for(process, RunnerState.EXITED)

    assert seen.exit_code == -signal.SIGSEGV
    assert "SIGSEGV" in seen.detail
    assert seen.rss_bytes is None
    assert process.result() is None


def test_too_much_memory_is_seen(start):
    """Over its cap, a server is seen as such while it is alive."""
    process = start(Script(serve="swells"), RunnerMode.SERVE)

    seen = wait_for(process, RunnerState.OVER_MEMORY, RunnerState.EXITED)

    assert seen.state is RunnerState.OVER_MEMORY
    assert seen.detail


@pytest.mark.parametrize("mode", list(RunnerMode))
def test_stopping_twice_is_stopping(start, mode):
    """After stop() it has exited; a second stop() does nothing."""
    process = start(Script(), mode)

    process.stop(grace_seconds=0)
    process.stop()

    assert process.observe().state is RunnerState.EXITED


def test_runners_are_told_apart(start):
    """Two of one model are two processes; ending one leaves the other."""
    one, other = start(Script(), RunnerMode.SERVE), start(Script(), RunnerMode.SERVE)
    wait_for(other, RunnerState.READY)

    one.stop(grace_seconds=0)

    assert one.pid != other.pid
    assert other.observe().state is RunnerState.READY
