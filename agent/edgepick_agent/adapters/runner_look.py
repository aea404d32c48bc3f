"""Looks at a runner process from outside that take no longer than a few milliseconds."""

import json
import os
import select
import socket
from dataclasses import dataclass
from pathlib import Path

REPLY_SECONDS = 0.003
"""Longest wait for a health answer within one look; a late one is read at the next look."""
MAX_REPLY_BYTES = 8192
REQUEST = b"GET /v2/health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """Resident set of a process in bytes: now, and the highest it has been."""

    now: int
    peak: int


def memory_of(pid: int) -> ProcessMemory | None:
    """Return a process's VmRSS and VmHWM, or ``None`` if it is gone.

    The high-water mark sees a peak that came and went between two looks. It is the process's own:
    unlike ``ru_maxrss`` it starts anew at exec.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    sizes = {f[0]: int(f[1]) * 1024 for f in map(str.split, lines) if f and f[0] in ("VmRSS:", "VmHWM:")}
    if "VmRSS:" not in sizes:
        return None
    return ProcessMemory(now=sizes["VmRSS:"], peak=sizes.get("VmHWM:", sizes["VmRSS:"]))


def is_stopped(pid: int) -> bool:
    """Return whether the process is stopped (SIGSTOP, or a debugger)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # The state follows the command, which is in parentheses and may hold any character.
    return stat.rpartition(")")[2].split()[0] in {"T", "t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A runner's own word.

    Attributes:
        live: It works within its limits.
        ready: It answers inference requests.
        bad_answers: Its answers have been bad too often in a row.
        answered: There has been a good one.
        detail: What is wrong.
    """

    live: bool
    ready: bool
    bad_answers: bool = False
    answered: bool = False
    detail: str = ""


class HealthProbe:
    """Asks for readiness over the Unix socket; one question is under way at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._received = b""

    def look(self) -> Health | None:
        """Return the answer to this or an earlier question, or ``None`` while there is none."""
        if self._socket is None and not self._ask():
            return None
        return self._listen()

    def _ask(self) -> bool:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connect(connection, self._path)
            connection.send(REQUEST)
        except OSError:
            connection.close()
            return False
        self._socket, self._received = connection, b""
        return True

    def _listen(self) -> Health | None:
        assert self._socket is not None
        while select.select([self._socket], [], [], REPLY_SECONDS)[0]:
            try:
                part = self._socket.recv(MAX_REPLY_BYTES)
            except OSError:
                self.close()
                return None
            self._received += part
            if not part or len(self._received) > MAX_REPLY_BYTES:
                self.close()
                return parse_health(self._received)
        return None

    def close(self) -> None:
        """Forget the question under way."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def connect(connection: socket.socket, path: Path) -> None:
    """Connect to a Unix socket whose path may be longer than the 107 bytes of a socket address."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def parse_health(reply: bytes) -> Health | None:
    """Return what an HTTP reply of the health endpoint says, or ``None`` if it is not one."""
    head, _, body = reply.partition(b"\r\n\r\n")
    is_ready = head.split(b" ", 2)[1:2] == [b"200"]
    try:
        said = json.loads(body)
        return Health(
            live=is_ready or bool(said["live"]),
            ready=is_ready,
            bad_answers=said.get("bad_answers") is True,
            answered=said.get("answered") is True,
            detail=str(said.get("error", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
