"""Starting runner processes and looking at them from outside; imported by the agent, so it stays light.

A runner gets a folder of its own below the work folder (specification, standard error, result), its
own session, no standard input, and only the two packages that it needs on its path: the folder that
holds edgepick may be another interpreter's site-packages.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import edgepick_agent
import edgepick_wire
from edgepick_agent.adapters.runner_look import HealthProbe, connect, is_stopped, memory_of
from edgepick_agent.core.runner_spec import (
    FRONT,
    LEAVE,
    RETIRE,
    SANDBOX_GAPS,
    SHADOW_FILE,
    RunnerMode,
    RunnerResult,
    RunnerSpec,
    ShadowProgress,
    measure_deadline_seconds,
)
from edgepick_agent.ports import Clock, RunnerObservation, RunnerState
from edgepick_wire import codec
from edgepick_wire.errors import WireError
from edgepick_wire.messages import RuntimeAvailable

if TYPE_CHECKING:
    from edgepick_agent.adapters.meter_process import Relay

MODULE = "edgepick_agent.runner"
MAX_LOG_BYTES = 256 * 1024
LOG_TAIL_BYTES = 4096
LEAST_SILENCE_SECONDS = 2.0
LEAST_SILENT_LOOKS = 3
"""Between two looks the whole machine may have stood still; then the third finds the runner at work again."""
PROBE_SECONDS = 60.0
LOOPBACK = "127.0.0.1"
BACKLOG = 128
"""Connections that wait while no runner takes them."""

ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""One thread for numpy's own library: each further one costs memory and none is used here."""


class Launcher:
    """Keeps :class:`edgepick_agent.ports.RunnerLauncher`.

    Start runners from a thread that lives as long as the agent: the kernel ends a runner when the
    thread that started it ends.
    """

    def __init__(self, python: str | None, work_dir: Path, clock: Clock) -> None:
        self._python = python or sys.executable
        self._work_dir = work_dir
        self._clock = clock
        self._started = 0
        self._ports: dict[str, socket.socket] = {}
        shutil.rmtree(work_dir / "runners", ignore_errors=True)

    def start(self, spec: RunnerSpec, mode: RunnerMode) -> "Process":
        """Start a runner; returns at once.

        Raises:
            OSError: The interpreter cannot be executed, or the folder cannot be written.
        """
        self._started += 1
        folder = self._work_dir / "runners" / f"{self._started}-{mode}-{spec.model}"
        folder.mkdir(parents=True)
        spec, portless = self._with_port(_complete(spec, mode, folder), mode)
        tap = _connected(spec)
        meter = self._meter(spec) if mode is RunnerMode.MEASURE else None
        spec = dataclasses.replace(
            spec, broker=None, meter_fd=meter.descriptor if meter else None, tap_fd=tap.fileno() if tap else None
        )
        path = folder / "spec.json"
        try:
            write_atomically(path, codec.encode_document(spec))
            popen = self._spawn(mode, path, folder, spec)
        except OSError:
            _end_meter(meter)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if tap:
                tap.close()
        if meter:
            meter.hand_over()
        return Process(popen, spec, mode, folder, self._clock, meter=meter, portless=portless)

    def _meter(self, spec: RunnerSpec) -> "Relay | None":
        if not (spec.power.command or spec.power.mqtt_topic):
            return None
        # Few devices have one, so that few pay for it.
        from edgepick_agent.adapters.meter_process import start_meter

        return start_meter(spec.power, spec.broker, runner_environment(self._work_dir))

    def _with_port(self, spec: RunnerSpec, mode: RunnerMode) -> tuple[RunnerSpec, str]:
        """Return the spec with the socket that listens on the model's port, and why it goes without it, if it does.

        The model's runners take that socket in turn, and so lose no client. Without it, clients of the runner's own
        socket are served all the same.
        """
        if mode is not RunnerMode.SERVE or spec.tcp_port is None:
            return spec, ""
        try:
            if spec.model not in self._ports:
                self._ports[spec.model] = socket.create_server((LOOPBACK, spec.tcp_port), backlog=BACKLOG)
        except OSError as error:
            why = f"not on port {spec.tcp_port}: {os.strerror(error.errno or 0)}"
            return dataclasses.replace(spec, tcp_port=None), why
        return dataclasses.replace(spec, tcp_fd=self._ports[spec.model].fileno()), ""

    def close_port(self, model: str) -> None:
        """Refuse further connections to a model's port."""
        if model in self._ports:
            self._ports.pop(model).close()

    def close(self) -> None:
        """Refuse further connections to every port."""
        for model in tuple(self._ports):
            self.close_port(model)

    def _spawn(self, mode: RunnerMode, path: Path, folder: Path, spec: RunnerSpec) -> "subprocess.Popen[bytes]":
        cache = self._work_dir / "engine-cache"
        cache.mkdir(exist_ok=True)
        environment = {**runner_environment(self._work_dir), "EDGEPICK_ENGINE_CACHE": str(cache)}
        with (folder / "stderr.log").open("ab") as log:
            return subprocess.Popen(
                [self._python, "-m", MODULE, mode.value, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                pass_fds=[fd for fd in (spec.tcp_fd, spec.meter_fd, spec.tap_fd) if fd is not None],
                start_new_session=True,
            )


def _complete(spec: RunnerSpec, mode: RunnerMode, folder: Path) -> RunnerSpec:
    own_socket, own_health = str(folder / "infer.sock"), str(folder / "health.sock")
    return dataclasses.replace(
        spec,
        model_path=str(Path(spec.model_path).absolute()),
        result_path=spec.result_path or str(folder / "result.json"),
        socket_path=(spec.socket_path or own_socket) if mode is RunnerMode.SERVE else None,
        health_path=own_health if mode is not RunnerMode.MEASURE else None,
        parent_pid=os.getpid(),
    )


def _connected(spec: RunnerSpec) -> socket.socket | None:
    """Return a connection to the runner that is to be shadowed; a runner may not connect to anything itself.

    Raises:
        OSError: It does not listen.
    """
    if spec.shadow is None:
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connect(connection, Path(spec.shadow.tap))
    except OSError:
        connection.close()
        raise
    return connection


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or none."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def runner_environment(work_dir: Path) -> dict[str, str]:
    """Return the environment of a runner: ours, with only edgepick's two packages on the path."""
    packages = work_dir / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for package in (edgepick_agent, edgepick_wire):
        _link(packages / package.__name__, Path(package.__path__[0]).resolve())
    return {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(packages.absolute())}


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def probe_runtimes(python: str | None, work_dir: Path) -> tuple[RuntimeAvailable, ...]:
    """Return the runtimes that ``python`` has; empty if it cannot be asked."""
    command = [python or sys.executable, "-m", MODULE, "runtimes"]
    try:
        answer = subprocess.run(
            command,
            env=runner_environment(work_dir),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=True,
        ).stdout
        return tuple(codec.from_plain(RuntimeAvailable, item) for item in json.loads(answer))
    except (OSError, subprocess.SubprocessError, ValueError, WireError):
        return ()


class Process:
    """Keeps :class:`edgepick_agent.ports.RunnerProcess`."""

    def __init__(
        self,
        popen: "subprocess.Popen[bytes]",
        spec: RunnerSpec,
        mode: RunnerMode,
        folder: Path,
        clock: Clock,
        *,
        meter: "Relay | None" = None,
        portless: str = "",
    ) -> None:
        self._popen = popen
        self._meter = meter
        self._portless = portless
        self._spec = spec
        self._mode = mode
        self._folder = folder
        self._clock = clock
        self._since = clock.monotonic()
        self._silent_since: float | None = None
        self._silent_looks = 0
        self._ready = False
        self._any_good = False
        self._beyond_help = False
        self._retiring = False
        self._probe = HealthProbe(Path(spec.health_path)) if spec.health_path else None
        self._result: RunnerResult | None = None
        self._gaps: str | None = None
        self._written: bytes | None = None
        self._progress: ShadowProgress | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    def observe(self) -> RunnerObservation:
        """Return what it looks like now."""
        code = self._popen.poll()
        if code is not None:
            return RunnerObservation(state=RunnerState.EXITED, exit_code=code, detail=self._last_words(code))
        self._bound_log()
        memory = memory_of(self.pid)
        cap = self._spec.limits.peak_rss_bytes
        if memory and cap is not None and memory.peak > cap:
            detail = f"used {memory.peak} bytes, the cap is {cap}"
            return RunnerObservation(state=RunnerState.OVER_MEMORY, rss_bytes=memory.now, detail=detail)
        state, detail = self._working()
        self._beyond_help = state is RunnerState.HUNG
        rss = memory.now if memory else None
        return RunnerObservation(state=state, rss_bytes=rss, detail=detail, any_good=self._any_good)

    def _working(self) -> tuple[RunnerState, str]:
        if self._mode is RunnerMode.MEASURE:
            return self._measuring()
        return self._leaving() if self._retiring else self._serving()

    def _leaving(self) -> tuple[RunnerState, str]:
        """Judge a retiring one by its process alone: it has left its socket."""
        now = self._clock.monotonic()
        if is_stopped(self.pid):
            return self._silent(now, LEAST_SILENCE_SECONDS, "the process is stopped", RunnerState.READY)
        self._silent_since = None
        return RunnerState.READY, ""

    def _measuring(self) -> tuple[RunnerState, str]:
        now = self._clock.monotonic()
        limit = measure_deadline_seconds(self._spec)
        if is_stopped(self.pid):
            return self._silent(now, LEAST_SILENCE_SECONDS, "the process is stopped", RunnerState.READY)
        if now - self._since > limit:
            why = f"measuring did not end within {limit:g} s"
            return self._silent(now, LEAST_SILENCE_SECONDS, why, RunnerState.READY)
        self._silent_since = None
        return RunnerState.READY, ""

    def _serving(self) -> tuple[RunnerState, str]:
        now = self._clock.monotonic()
        health = self._probe.look() if self._probe else None
        if health is None:
            return self._unanswered(now)
        self._any_good = health.answered
        if health.bad_answers:
            return RunnerState.BAD_ANSWERS, health.detail
        if not health.live:
            return RunnerState.HUNG, health.detail
        if not health.ready:
            return self._starting(now)
        self._silent_since = None
        self._ready = True
        return RunnerState.READY, self._lacking()

    def _lacking(self) -> str:
        """Return what it serves without."""
        if self._gaps is None:
            self._gaps = (self.left(SANDBOX_GAPS) or b"").decode()
        return "; ".join(filter(None, (self._portless, self._gaps)))

    def _unanswered(self, now: float) -> tuple[RunnerState, str]:
        if is_stopped(self.pid):
            return self._silent(now, LEAST_SILENCE_SECONDS, "the process is stopped", self._known())
        if not self._ready:
            return self._starting(now)
        # A runtime that holds the interpreter lock keeps the health check waiting for one inference.
        silence = max(LEAST_SILENCE_SECONDS, self._spec.limits.inference_seconds)
        return self._silent(now, silence, f"no answer to its health check for {silence:g} s", RunnerState.READY)

    def _known(self) -> RunnerState:
        return RunnerState.READY if self._ready else RunnerState.STARTING

    def _silent(self, now: float, limit: float, why: str, meanwhile: RunnerState) -> tuple[RunnerState, str]:
        # From the first look that finds it so, not from the last good one: it may be the agent that was held up.
        if self._silent_since is None:
            self._silent_since, self._silent_looks = now, 0
        self._silent_looks += 1
        if now - self._silent_since > limit and self._silent_looks >= LEAST_SILENT_LOOKS:
            return RunnerState.HUNG, why
        return meanwhile, self._lacking() if self._ready else ""

    def _starting(self, now: float) -> tuple[RunnerState, str]:
        limit = self._spec.limits.start_seconds
        if now - self._since > limit:
            why = f"not ready within {limit:g} s of its start"
            return self._silent(now, LEAST_SILENCE_SECONDS, why, RunnerState.STARTING)
        self._silent_since = None
        return RunnerState.STARTING, ""

    def result(self) -> RunnerResult | None:
        """Return what it wrote, once it has ended."""
        if self._result is None and self._popen.poll() is not None and self._spec.result_path:
            self._result = _read_result(Path(self._spec.result_path))
        return self._result

    def shadow(self) -> ShadowProgress | None:
        """Return what a shadow has seen so far; its file is read again only once it has changed."""
        if self._mode is not RunnerMode.SHADOW:
            return None
        written = self.left(SHADOW_FILE)
        if written is not None and written != self._written:
            self._written, self._progress = written, _read_progress(written)
        return self._progress

    def left(self, name: str) -> bytes | None:
        """Return a file that it left beside its result; ``None`` if there is none."""
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            return None

    def front(self) -> None:
        """Have it take requests from its model's port."""
        self._tell(FRONT)

    def leave_port(self) -> None:
        """Have it take no further requests from its model's port."""
        self._tell(LEAVE)

    def retire(self) -> None:
        """Have it answer whoever is connected, and end by itself."""
        self._retiring = True
        if self._probe:
            self._probe.close()
        self._tell(RETIRE)

    def _tell(self, number: signal.Signals) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def stop(self, *, grace_seconds: float = 2.0) -> None:
        """End it; returns when it is gone. A hung one is given no grace."""
        if self._popen.poll() is None and grace_seconds > 0 and not self._beyond_help:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace_seconds)
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        _end_meter(self._meter)
        self.result()
        if self._probe:
            self._probe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _bound_log(self) -> None:
        log = self._folder / "stderr.log"
        with contextlib.suppress(OSError):  # on storage that became read-only it grows no further either
            if log.stat().st_size > MAX_LOG_BYTES:
                os.truncate(log, 0)

    def _last_words(self, code: int) -> str:
        said = self._last_line()
        how = f"killed by {_signal_name(-code)}" if code < 0 else f"exited with {code}"
        return f"{how}: {said}" if said else how

    def _last_line(self) -> str:
        try:
            with (self._folder / "stderr.log").open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")


def _end_meter(meter: "Relay | None") -> None:
    if meter:
        meter.stop()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read_progress(written: bytes) -> ShadowProgress | None:
    try:
        return codec.decode_document(ShadowProgress, written)
    except WireError:
        return None


def _read_result(path: Path) -> RunnerResult | None:
    try:
        return codec.decode_document(RunnerResult, path.read_bytes())
    except (OSError, WireError):
        return None
