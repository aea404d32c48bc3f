"""What the broker has acknowledged, written down while a publication goes on.

A list of chunks is worth what the broker's memory is worth: one that lost power has lost the newest of what it had
acknowledged. So the last chunk of every batch is made a landmark, until the next batch has one, and in the end the
release's manifest is: what was acknowledged before a message that is still there is there too.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edgepick_host.ports import ChunkLedger
from edgepick_wire import topics

BATCH = 64
"""Acknowledged chunks after which they are written down: 4 MiB at most are sent twice after a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a publication is, in bytes of the chunks that this broker does not know yet."""

    variant: str
    done_bytes: int
    total_bytes: int


OnTransfer = Callable[[Progress], None]


class Ledger:
    """Counts acknowledgements, which come in the order of sending, and remembers them in batches."""

    def __init__(self, store: ChunkLedger, place: str, fleet: str, on_progress: OnTransfer, total_bytes: int) -> None:
        self._store = store
        self._fleet = fleet
        self._place = place
        self._on_progress = on_progress
        self._total_bytes = total_bytes
        self._in_flight: deque[tuple[str, str, int]] = deque()
        self._batch: list[str] = []
        self._landmarks: tuple[str, ...] = ()
        self._done_bytes = 0

    def sent(self, variant: str, digest: str, size: int) -> None:
        """Remember what an acknowledgement to come is for."""
        self._in_flight.append((variant, digest, size))

    def acknowledged(self, _count: int) -> None:
        """Count the oldest chunk in flight as done."""
        variant, digest, size = self._in_flight.popleft()
        self._done_bytes += size
        self._batch.append(digest)
        if len(self._batch) >= BATCH:
            self.write_down()
        self._on_progress(Progress(variant=variant, done_bytes=self._done_bytes, total_bytes=self._total_bytes))

    def write_down(self) -> None:
        """Leave every acknowledged chunk known to the store."""
        if self._batch:
            newest = (topics.chunk(self._fleet, self._batch[-1]),)
            self._store.set_landmarks(self._place, newest, instead_of=self._landmarks)  # first: nothing without one
            self._landmarks = newest
            self._store.add_chunks(self._place, self._batch)
            self._batch.clear()
