"""Fixtures that every part may use: a real broker on a free port."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from fakes.free_ports import free_port
from fakes.processes import ended

if TYPE_CHECKING:
    from fakes.postgresql import PostgreSql

pytest_plugins = ["figures"]

settings.register_profile("edgepick", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgepick")  # a busy machine is no failure

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So started by a shell in the background; the processes that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


START_SECONDS, STOP_SECONDS = 60, 30
"""Of a broker on a busy machine; one that is killed instead of stopped would not write down what it keeps."""


@dataclass
class Broker:
    """A broker process of our own; ``kind`` is "mosquitto" or "amqtt"."""

    port: int
    folder: Path
    kind: str
    extra: str = ""
    process: subprocess.Popen | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = (self.folder / "broker.log").open("ab")
        self.process = subprocess.Popen(self._command(), stdout=log, stderr=log, cwd=self.folder)
        log.close()
        self._wait()

    def _command(self) -> list[str]:
        if self.kind == "mosquitto":
            config = self.folder / "mosquitto.conf"
            anonymous = "" if "allow_anonymous" in self.extra else "allow_anonymous true\n"
            config.write_text(f"listener {self.port} 127.0.0.1\n{anonymous}{self.extra}\n")
            return [mosquitto() or "mosquitto", "-c", str(config)]
        return [sys.executable, "-m", "edgepick_host.demo.embedded_broker", "--port", str(self.port)]

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"the broker ended: {(self.folder / 'broker.log').read_text()[-2000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("the broker did not start")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            ended(self.process, STOP_SECONDS)
        self.process = None


def mosquitto() -> str | None:
    """Return the mosquitto program, also where Debian puts it outside a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def running_broker(folder: Path) -> Iterator[Broker]:
    """Yield a broker that runs: mosquitto where it is installed, the embedded one otherwise."""
    folder.mkdir()
    running = Broker(port=free_port(), folder=folder, kind="mosquitto" if mosquitto() else "amqtt")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Provide a running broker."""
    yield from running_broker(tmp_path / "broker")


@pytest.fixture(scope="session")
def session_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Provide a running broker for tests that share a fleet."""
    yield from running_broker(tmp_path_factory.mktemp("session") / "broker")


@pytest.fixture(scope="session")
def postgresql() -> Iterator["PostgreSql"]:
    """Provide a running PostgreSQL server; skips where none is installed."""
    from fakes.postgresql import programs, running_server

    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    with running_server(folder, free_port()) as server:
        yield server


@pytest.fixture
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no coverage measured in processes that a test starts: that loads modules, and takes memory, of its own."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)
