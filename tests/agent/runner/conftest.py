"""Fixtures for real runner processes: a launcher, specifications, and a small HTTP client."""

import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepick_agent import app
from edgepick_agent.adapters.runner_look import connect
from edgepick_agent.core.runner_spec import GoldenFile, RunnerMode, RunnerSpec
from edgepick_agent.ports import RunnerState
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import MeasurePlan
from fakes.runtime_models import DIGITS, digits_golden

PATIENCE_SECONDS = 60.0
QUICK = MeasurePlan(warmup_runs=2, warmup_seconds=0, min_runs=60, min_seconds=0.05, max_seconds=20)


class SystemClock:
    """The real clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        return time.time()


class UnixHttp(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_SECONDS)
        connect(self.sock, self._path)


def ask(path: Path, method: str, url: str, body: object = None, headers: dict | None = None) -> tuple[int, dict]:
    """Return status and JSON of one request over a Unix socket."""
    connection = UnixHttp(path)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, url, data, headers or {})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def until(condition: Callable[[], object], what: str):
    """Return the first true value of ``condition``; fails when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"never: {what}")


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


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


def wait_for(process, state: RunnerState):
    """Return the first observation in ``state``; fails at once if it exits instead."""

    def look():
        seen = process.observe()
        if seen.state is RunnerState.EXITED and state is not RunnerState.EXITED:
            raise AssertionError(f"exited instead of {state}: {seen.detail}")
        return seen if seen.state is state else None

    return until(look, f"runner {state}")


@pytest.fixture
def start(tmp_path: Path):
    """Provide what starts runners."""
    started = Started(tmp_path / "work")
    yield started
    for process in started.processes:
        process.stop(grace_seconds=0)
    started.launcher.close()
    assert all(is_gone(process.pid) for process in started.processes)
