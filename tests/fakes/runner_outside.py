"""What tests of real runner processes share: patience, a small HTTP client, and looks from outside."""

import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from edgepick_agent.adapters.runner_look import connect
from edgepick_agent.ports import RunnerState

PATIENCE_SECONDS = 60.0


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


def wait_for(process, state: RunnerState):
    """Return the first observation in ``state``; fails at once if it exits instead."""

    def look():
        seen = process.observe()
        if seen.state is RunnerState.EXITED and state is not RunnerState.EXITED:
            raise AssertionError(f"exited instead of {state}: {seen.detail}")
        return seen if seen.state is state else None

    return until(look, f"runner {state}")
