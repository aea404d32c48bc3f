"""A host and devices as people have them: every command a process of its own, a real broker between them."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgepick_host.demo
from edgepick_agent.adapters.control_socket import ask_agent
from edgepick_agent.core import places
from edgepick_agent.core.control import CONTROL_SOCKET, AgentStatus, Command, ControlRequest, RunnerStatus
from edgepick_agent.errors import UnreachableError
from edgepick_host.adapters.store_sql import SqlStore
from edgepick_wire import codec
from edgepick_wire.messages import Incident, ModelState, Phase, Report

DATA = Path(edgepick_host.demo.__file__).parent / "data"
FLEET = "plant"
PROFILE = "generic-linux"
MODEL = "digits"
DEADLINE_SECONDS = 60.0
BRISK = "confirm_seconds = 0.2\nhealth_interval_seconds = 0.1\nmax_failures = 2\nbackoff_seconds = 0.1"
"""How runners are looked after where a test waits for it."""
SHIPPED = ""
"""As agents are shipped."""
LOOK_SECONDS = 0.02


def until(condition: Callable[[], Any], what: str, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
    """Return the first true value of ``condition``."""
    end = time.monotonic() + deadline_seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"not within {deadline_seconds:g} s: {what}")


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def run(module: str, *arguments: object, folder: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Return how a command ended; whatever it was, it showed nobody a stack trace."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=False,
        cwd=folder,
        env=clean_environment(folder, environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert not any(words in said for words in ("this is a bug", "defect of edgepick")), said
    return Ran(done.returncode, done.stdout, done.stderr)


def clean_environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without settings of edgepick, and with another home."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("EDGEPICK_")}
    return {**ours, "HOME": str(folder), **(more or {})}


class Host:
    """The operator's folder: keys, settings, database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        assert self("keys", "init", "--fleet", FLEET).code == 0

    def __call__(self, *arguments: object, **environment: str) -> Ran:
        return run("edgepick_host", *arguments, folder=self.folder, environment=environment)

    def ask(self, *arguments: object) -> Ran:
        """Run a command that talks to the broker."""
        return self(*arguments, "--broker", self.url)

    def publish(self, variants: Path, *options: object) -> dict[str, Any]:
        """Publish, and return what the command says that it did."""
        done = self.ask("publish", variants, "--json", *options)
        assert done.code == 0, done.err
        return dict(done.json())

    @property
    def root(self) -> Path:
        return self.folder / "keys" / "root.signed"

    def store(self) -> closing[SqlStore]:
        return closing(SqlStore(f"sqlite:///{self.folder / 'edgepick.db'}"))

    def reports(self, device: str) -> list[Report]:
        """Return what the host has kept of a device."""
        with self.store() as store:
            return list(store.reports(device=device))

    def incidents(self, device: str) -> list[Incident]:
        return [report.incident for report in self.reports(device) if report.incident]

    @contextmanager
    def service(self) -> Iterator[None]:
        """Have the host service run."""
        log = self.folder / "service.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgepick_host", "serve", "--broker", self.url],
                cwd=self.folder,
                env=clean_environment(self.folder),
                stdout=said,
                stderr=said,
            )
        try:
            yield
        finally:
            process.terminate()
            code = process.wait(DEADLINE_SECONDS)
        assert code == 0, log.read_text()
        assert "Traceback" not in log.read_text()

    def said(self) -> str:
        """Return what the service has said so far."""
        return (self.folder / "service.log").read_text()


class Device:
    """A device's folder, and the agent in it."""

    def __init__(
        self, folder: Path, host: Host, name: str = "pi-1", *, state: Path | None = None, broker: str = ""
    ) -> None:
        self.folder = folder
        self.name = name
        self.state = state or folder / f"state-{name}"
        self.config = folder / f"{name}.toml"
        self.process: subprocess.Popen[bytes] | None = None
        self.within: tuple[str, ...] = ()
        """Words before the agent's command: what it is started in."""
        self.environment: dict[str, str] = {}
        """What the agent finds in its environment besides ours."""
        self._port = int(host.url.rpartition(":")[2])
        self._root = host.root
        self.configure(broker=broker)

    def configure(self, *, broker: str = "", runner: str = "", pace: str = BRISK) -> None:
        """Write the configuration: everything that waits, waits briefly, unless another pace is asked for."""
        self.config.write_text(
            f'device = "{self.name}"\nfleet = "{FLEET}"\nprofile = "{PROFILE}"\nstate_dir = "{self.state}"\n'
            f'root_document = "{self._root}"\nstand_in = true\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self._port}\nreconnect_max_seconds = 1.0\n{broker}\n'
            f"[fetch]\ntimeout_seconds = 0.5\nretries = 10\n[runner]\n{pace}\n{runner}\n"
        )

    def __call__(self, *arguments: object) -> Ran:
        return run("edgepick_agent", *arguments, "--config", self.config, folder=self.folder)

    def start(self) -> "Device":
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.within, sys.executable, "-m", "edgepick_agent", "run", "--config", str(self.config)],
                env=clean_environment(self.folder, self.environment),
                stdout=log,
                stderr=log,
            )
        until(self._up, "the agent answers")
        return self

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            self.status()
        except UnreachableError:
            return False
        return True

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def status(self) -> AgentStatus:
        found = ask_agent(self.state / CONTROL_SOCKET, ControlRequest(command=Command.STATUS)).status
        assert found is not None
        return found

    def model(self) -> ModelState | None:
        models = self.status().models
        return models[0] if models else None

    def active(self) -> str | None:
        model = self.model()
        return model.active if model else None

    def confirmed(self, manifest: str) -> bool:
        model = self.model()
        return model is not None and (model.phase, model.active) == (Phase.CONFIRMED, manifest)

    def runner(self) -> RunnerStatus | None:
        """Return the runner that serves, if one is ready."""
        ready = [r for r in self.status().runners if r.state == "ready" and r.pid is not None]
        return ready[0] if len(ready) == 1 else None

    def waiting_reports(self) -> list[Report]:
        """Return the reports on disk that the host has not acknowledged, oldest first."""
        return [codec.decode(Report, file.read_bytes()) for file in sorted((self.state / "outbox").glob("*.json"))]

    def stored(self, manifest: str, name: str = "model.tflite") -> Path:
        return self.state / places.bundle_file(manifest, name)

    def answers(self, samples: int = 8) -> float:
        """Return the share of samples that the serving variant recognises, asked as an application does."""
        archive = np.load(DATA / "evaluation.npz")
        right = [self._ask(x) == y for x, y in zip(archive["x"][:samples], archive["y"][:samples], strict=True)]
        return sum(right) / samples

    def _ask(self, sample: np.ndarray) -> int:
        path = self.state / places.model_socket(MODEL)
        name = _http(path, "GET", f"/v2/models/{MODEL}")["inputs"][0]["name"]
        tensor = {
            "name": name,
            "shape": [1, *sample.shape],
            "datatype": "FP32",
            "data": sample.astype(np.float32).ravel().tolist(),
        }
        answer = _http(path, "POST", f"/v2/models/{MODEL}/infer", {"inputs": [tensor]})
        return int(np.argmax(answer["outputs"][0]["data"]))

    def family(self) -> set[int]:
        """Return the process ids of the agent's children."""
        listed = Path(f"/proc/{self.pid}/task").glob("*/children")
        return {int(pid) for file in listed for pid in file.read_text().split()}

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End the agent as systemd does; it ends well, takes its runners along, and never showed a stack trace."""
        if self.process is None or self.process.poll() is not None:
            return
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_SECONDS)
        assert (code, "Traceback" in self.log()) == (0, False), self.log()
        until(lambda: not any(map(alive, family)), "the runners end with their agent")

    def end(self) -> None:
        """End the agent whatever happened before."""
        if self.process is not None and self.process.poll() is None:
            self.kill()


def alive(pid: int) -> bool:
    """Return whether a process is there and is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _http(path: Path, method: str, url: str, body: object = None) -> Any:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(path))
        connection.request(method, url, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())
    finally:
        connection.close()


def retire(devices: Iterable[Device]) -> None:
    """Stop devices as systemd does; whatever goes wrong with it, all of them have ended."""
    with ExitStack() as ends:
        for device in devices:
            ends.callback(device.end)
            ends.callback(device.stop)


@contextmanager
def planted(folder: Path, url: str, variants: Path) -> Iterator[tuple[Host, Device]]:
    """Provide a host whose service runs, and a device that has confirmed version 1."""
    host = Host(folder, url)
    made = host.publish(
        variants, "--version", "1", "--epoch", "2", "--no-measure", "--variant", "static_wi8_ai8-tflite"
    )
    device = Device(folder, host)
    with host.service():
        try:
            device.start()
            until(lambda: device.confirmed(made["variants"][0]["manifest"]), "version 1 is confirmed")
            yield host, device
            device.stop()
        finally:
            device.end()
