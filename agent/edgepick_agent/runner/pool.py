"""The loaded copies of one model, and the line of requests before them: first come, first served, and bounded."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edgepick_agent.ports import Session


class FullError(Exception):
    """As many requests wait already as may."""


class WaitedError(Exception):
    """No copy of the model became free in time."""


class Pool:
    """Hands out sessions, each to one request at a time.

    Args:
        sessions: Copies of one model; at least one.
        most_waiting: Requests that may wait for one, besides those that run.
    """

    def __init__(self, sessions: Sequence[Session], most_waiting: int) -> None:
        self.first = sessions[0]
        self._free = list(sessions)
        self._most_waiting = most_waiting
        self._line: deque[object] = deque()
        self._began: dict[int, float] = {}
        self._changed = threading.Condition()

    @contextmanager
    def take(self, seconds: float) -> Iterator[Session]:
        """Provide a session.

        Raises:
            FullError: Too many requests wait.
            WaitedError: None was free for ``seconds``.
        """
        session = self._wait(seconds)
        key = id(session)
        self._began[key] = time.monotonic()
        try:
            yield session
        finally:
            del self._began[key]
            with self._changed:
                self._free.append(session)
                self._changed.notify_all()

    def _wait(self, seconds: float) -> Session:
        ticket = object()
        with self._changed:
            if not self._free and len(self._line) >= self._most_waiting:
                raise FullError
            self._line.append(ticket)
            try:
                if not self._changed.wait_for(lambda: bool(self._free) and self._line[0] is ticket, seconds):
                    raise WaitedError
                return self._free.pop()
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()

    def longest(self) -> float:
        """Return for how long the oldest inference under way has run, in seconds; 0 without any."""
        began = min(tuple(self._began.values()), default=None)
        return 0.0 if began is None else time.monotonic() - began
