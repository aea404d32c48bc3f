"""A publication and ``prune`` on one broker keep out of each other's way, across processes and machines.

Rules:
- A publication writes down what it needs before it trusts or sends a chunk, and ``prune`` spares that. Several
  publications may be under way at once.
- While ``prune`` clears, under a lease, no publication begins: it might skip a chunk that is about to go.
- Who was killed is not waited for: the lease runs out, and what a publication needs is spared for a day.
"""

import contextlib
import math
import uuid
from collections.abc import Callable, Collection, Iterator

from edgepick_host.errors import BusyError, StateError
from edgepick_host.ports import Clock, HostStore

CLEARING_SECONDS = 60.0
"""Lease of a ``prune``, extended with every batch; longer than a batch takes at a broker that answers at all."""

PUBLISHING_SECONDS = 86_400.0
"""How long a publication that does not end is believed to be under way."""


@contextlib.contextmanager
def publishing(store: HostStore, clock: Clock, place: str, digests: Collection[str]) -> Iterator[Callable[[], None]]:
    """Have manifests and chunks spared while the body runs; yields what has them spared for another day.

    Raises:
        BusyError: Something is just being cleared from this broker.
        StateError: The publication took so long that they were not spared.
    """
    name = uuid.uuid4().hex
    with store.batch():
        now = clock.now()
        if store.lease(_lease(place), name, now=now, seconds=0.0) != name:
            raise BusyError(
                f"`edgepick prune` is clearing broker {place}; nothing was published",
                hint=f"Run it again when that has ended; one that was killed is waited for {CLEARING_SECONDS:.0f} s.",
            )
        store.begin_publication(name, place, digests, until=now + PUBLISHING_SECONDS)

    def go_on() -> None:
        if not store.extend_publication(name, until=clock.now() + PUBLISHING_SECONDS):
            raise StateError(
                "this publication took over a day, and `edgepick prune` has cleared some of it meanwhile",
                hint="Run it again: only what is missing is sent.",
            )

    try:
        yield go_on
        go_on()
    finally:
        store.end_publication(name)


class Clearing:
    """One ``prune`` of one broker."""

    def __init__(self, store: HostStore, clock: Clock, place: str) -> None:
        self._store = store
        self._clock = clock
        self._place = place
        self._holder = uuid.uuid4().hex
        self._until = math.inf

    @contextlib.contextmanager
    def alone(self) -> Iterator[frozenset[str]]:
        """Have no publication begin while the body runs; yields what those under way need.

        Raises:
            BusyError: Another ``prune`` is at work.
        """
        with self._store.batch():
            self.go_on()
            needed = self.needed()
        try:
            yield needed
        finally:
            self._store.lease(_lease(self._place), self._holder, now=self._clock.now(), seconds=0.0)

    def needed(self) -> frozenset[str]:
        """Return the manifests and chunks that publications under way need."""
        return self._store.being_published(self._place, now=self._clock.now())

    def go_on(self) -> None:
        """Extend the lease, which has to be done before each step.

        Raises:
            BusyError: Another has it, or may have had it: the last step took too long.
        """
        now = self._clock.now()
        found = self._store.lease(_lease(self._place), self._holder, now=now, seconds=CLEARING_SECONDS)
        if found != self._holder or now >= self._until:
            raise BusyError(
                f"another `edgepick prune` or a publication is at work on broker {self._place}",
                hint="Run it again when that has ended.",
            )
        self._until = now + CLEARING_SECONDS


def _lease(place: str) -> str:
    return f"prune {place}"
