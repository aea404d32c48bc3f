"""Fixtures for real runner processes: a launcher, specifications."""

from pathlib import Path

import pytest

from edgepick_agent import app
from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.core.runner_spec import GoldenFile, RunnerMode, RunnerSpec
from edgepick_agent.ports import RunnerState
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import MeasurePlan
from fakes.runner_outside import PATIENCE_SECONDS, is_gone, wait_for
from fakes.runtime_models import DIGITS, digits_golden

QUICK = MeasurePlan(warmup_runs=2, warmup_seconds=0, min_runs=60, min_seconds=0.05, max_seconds=20)


@pytest.fixture
def spec(tmp_path: Path) -> RunnerSpec:
    """Provide a specification of the demo model on LiteRT."""
    return RunnerSpec(
        model="digits",
        version="1.0",
        model_path=str(DIGITS),
        format=ModelFormat.TFLITE,
        runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
        plan=QUICK,
        limits=RunLimits(start_seconds=PATIENCE_SECONDS, inference_seconds=30),
        sysfs_root=str(tmp_path / "no-board"),
    )


@pytest.fixture(scope="session")
def golden(tmp_path_factory) -> GoldenFile:
    """Provide the demo model's self-test."""
    path = digits_golden(tmp_path_factory.mktemp("golden") / "golden.npz")
    return GoldenFile(path=str(path), min_agreement=1.0, max_mean_abs_error=1e-3)


@pytest.fixture(scope="session")
def wrong_golden(tmp_path_factory) -> GoldenFile:
    """Provide a self-test that the demo model cannot pass."""
    path = digits_golden(tmp_path_factory.mktemp("golden") / "wrong.npz", wrong=True)
    return GoldenFile(path=str(path), min_agreement=0.9, max_mean_abs_error=0.01)


class Started:
    """Starts runners and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self.launcher = app.launcher(None, folder, SystemClock())
        self.processes: list = []

    def __call__(self, spec: RunnerSpec, mode: RunnerMode):
        self.processes.append(self.launcher.start(spec, mode))
        return self.processes[-1]

    def serving(self, spec: RunnerSpec):
        process = self(spec, RunnerMode.SERVE)
        wait_for(process, RunnerState.READY)
        return process

    def measured(self, spec: RunnerSpec):
        """Run to the end and return the result and how the process ended."""
        process = self(spec, RunnerMode.MEASURE)
        ended = wait_for(process, RunnerState.EXITED)
        return process.result(), ended


@pytest.fixture
def start(tmp_path: Path):
    """Provide what starts runners."""
    started = Started(tmp_path / "work")
    yield started
    for process in started.processes:
        process.stop(grace_seconds=0)
    started.launcher.close()
    assert all(is_gone(process.pid) for process in started.processes)
