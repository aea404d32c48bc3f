"""What native libraries write to standard error, kept from a person's terminal and for our messages."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

MAX_BYTES = 16 * 1024


class CapturedText:
    """Becomes the captured text when the block ends."""

    def __init__(self) -> None:
        self.text = ""

    @property
    def errors(self) -> str:
        """The lines that are not merely informational, joined; at most the last four."""
        lines = [line.strip() for line in self.text.splitlines()]
        return "; ".join([line for line in lines if line and not line.startswith(("INFO", "WARNING"))][-4:])


@contextmanager
def captured() -> Iterator[CapturedText]:
    """Collect what the process writes to file descriptor 2 meanwhile, from any thread."""
    found = CapturedText()
    # In memory: a board's root may be read-only, /tmp with it.
    with os.fdopen(os.memfd_create("native-stderr"), "r+b") as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield found
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            found.text = _tail(sink.fileno())


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, MAX_BYTES, max(0, size - MAX_BYTES)).decode("utf-8", "replace")
