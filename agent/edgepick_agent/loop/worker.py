"""One thread for slow work, so that the loop stays awake while files are hashed."""

import queue
import threading
from collections.abc import Callable

from edgepick_agent.core.events import Event

Work = Callable[[], Event | None]


class Worker:
    """Does work in the order in which it came; each piece's event goes to ``sink``."""

    def __init__(self, sink: Callable[[Event], None]) -> None:
        self._sink = sink
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def __call__(self, work: Work) -> None:
        """Have ``work`` done after what came before it."""
        self._queue.put(work)

    def stop(self) -> None:
        """Let what has begun finish, and forget the rest; does not wait."""
        self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            event = work()
            if event is not None:
                self._sink(event)
