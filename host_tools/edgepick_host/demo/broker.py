"""The demo's own broker: mosquitto where it is installed, the embedded one otherwise.

Owns one child process on a free loopback port, with a folder of its own; ends it by its handle only.
"""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgepick_host.errors import MissingExtraError, UnreachableError
from edgepick_wire.enums import StrEnum

START_SECONDS = 20.0
STOP_SECONDS = 5.0
PORT_ATTEMPTS = 3
"""A free port can be taken by somebody else before the broker has it."""

SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin"
"""Where Debian and others put mosquitto, outside a user's PATH."""

MAX_QUEUED_MESSAGES = 100_000
"""Mosquitto's default of 1000 would drop chunks of a publisher that is quicker than its subscribers."""

MOSQUITTO_CONF = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages {queued}
log_dest stderr
log_type error
log_type warning
"""

# MQTT 3.1.1: CONNECT, clean session, no keep-alive, client id "probe"; and what a broker answers to it.
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05probe"
_CONNACK = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"


class BrokerKind(StrEnum):
    """Which broker."""

    MOSQUITTO = "mosquitto"
    AMQTT = "amqtt"


@dataclass(slots=True, kw_only=True)
class RunningBroker:
    """A broker that answers, until :meth:`stop`."""

    kind: BrokerKind
    port: int
    folder: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        """Address for ``--broker``."""
        return f"mqtt://127.0.0.1:{self.port}"

    def __str__(self) -> str:
        what = "mosquitto" if self.kind is BrokerKind.MOSQUITTO else "amqtt, the embedded broker"
        return f"{what} on {self.url}"

    def stop(self) -> None:
        """End the process; once it is gone, nothing happens."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def mosquitto_program() -> str | None:
    """Return the mosquitto program, also where it lies outside a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=SYSTEM_FOLDERS)


def best_kind() -> BrokerKind:
    """Return the broker to use here.

    Raises:
        MissingExtraError: There is none.
    """
    if mosquitto_program():
        return BrokerKind.MOSQUITTO
    if importlib.util.find_spec("amqtt"):
        return BrokerKind.AMQTT
    hint = "install mosquitto (apt-get install mosquitto), or: pip install 'edgepick[demo]'"
    raise MissingExtraError("no broker: neither mosquitto nor amqtt is installed", hint=hint)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_broker(folder: Path, *, kind: BrokerKind | None = None) -> RunningBroker:
    """Return a broker that answers on a free loopback port; its files lie in ``folder``.

    Args:
        folder: Made if needed; holds ``broker.log`` and ``mosquitto.conf``.
        kind: Which one; ``None`` for the best that is installed.

    Raises:
        MissingExtraError: None is installed.
        UnreachableError: It ended at once or did not answer in time; the message quotes its log.
    """
    kind = kind or best_kind()
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(PORT_ATTEMPTS):
        broker = _launch(folder, kind, free_port())
        if _answers_in_time(broker):
            return broker
        broker.stop()
    tail = (folder / "broker.log").read_text(errors="replace")[-1000:].strip()
    raise UnreachableError(f"{kind} did not start: {tail or 'no message'}", hint=f"see {folder / 'broker.log'}")


@contextmanager
def running_broker(folder: Path, *, kind: BrokerKind | None = None) -> Iterator[RunningBroker]:
    """Provide a broker as :func:`start_broker` does; stopped at the end."""
    broker = start_broker(folder, kind=kind)
    try:
        yield broker
    finally:
        broker.stop()


def _launch(folder: Path, kind: BrokerKind, port: int) -> RunningBroker:
    command = _command(folder, kind, port)
    with (folder / "broker.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    return RunningBroker(kind=kind, port=port, folder=folder, process=process)


def _command(folder: Path, kind: BrokerKind, port: int) -> list[str]:
    if kind is BrokerKind.AMQTT:
        return [sys.executable, "-m", "edgepick_host.demo.embedded_broker", "--port", str(port)]
    config = folder / "mosquitto.conf"
    config.write_text(MOSQUITTO_CONF.format(port=port, queued=MAX_QUEUED_MESSAGES))
    return [mosquitto_program() or "mosquitto", "-c", str(config)]


def _answers_in_time(broker: RunningBroker) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and broker.process.poll() is None:
        if answers(broker.port):
            return True
        time.sleep(0.05)
    return False


def answers(port: int) -> bool:
    """Return whether a broker on this loopback port accepts an MQTT connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as link:
            link.sendall(_CONNECT)
            accepted = link.recv(len(_CONNACK)) == _CONNACK
            link.sendall(_DISCONNECT)
    except OSError:
        return False
    return accepted
