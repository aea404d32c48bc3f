"""What becomes of an agent when one of its threads ends by a defect: it ends as a whole.

An agent without its worker or without its broker's thread looks alive, serves, and never comes back to its
work. One that ends is started anew by whoever supervises it, and finds its state as it was before the last
step. The threads that answer technicians are the exception: the agent does its work without them.
"""

import threading
from types import TracebackType

from edgepick_agent.core.control import CONTROL_THREAD


class Defects:
    """Listens to the threads of this process while inside the block; sets ``stop`` when one ends by a defect."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._met: BaseException | None = None

    def __enter__(self) -> "Defects":  # noqa: PYI034 - Python 3.10 has no Self
        self._before = threading.excepthook
        threading.excepthook = self._heard
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise what a thread met, unless something else is being raised already."""
        threading.excepthook = self._before
        if self._met is not None and error is None:
            raise self._met

    def _heard(self, found: threading.ExceptHookArgs) -> None:
        self._before(found)
        is_spared = found.thread is not None and found.thread.name == CONTROL_THREAD
        if not is_spared and not issubclass(found.exc_type, SystemExit):
            self._met = found.exc_value
            self._stop.set()
