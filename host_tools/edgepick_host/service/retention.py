"""Deletes reports that are old and that nothing needs any more, a page at a time, while the service works.

Rules:
- A page is one transaction: what is deleted and what is counted change together, for every service on the database.
- A rollout that begins meanwhile keeps everything about its model from then on.
- Decisions, rollouts, devices and the audit log are never touched.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgepick_host.core.decision import parse_record
from edgepick_host.core.records import OldReport
from edgepick_host.core.retention import Needed, needed, unended
from edgepick_host.ports import Clock, Store
from edgepick_host.service.report_log import model_of
from edgepick_host.service.requests import load_heads

PAGE = 400
"""Reports looked at in one transaction: some 20 ms, so that nobody waits for it."""

SWEEP_SECONDS = 6 * 3600.0
"""From one look at the whole log to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What was deleted, or would be.

    Attributes:
        before: What was taken in before this is old; seconds since the epoch.
        removed: How many reports go.
        kept: How many are old, but needed.
        size_bytes: Of the documents that go.
        models: Model -> how many of its reports go; "" for those about none.
    """

    before: float
    removed: int = 0
    kept: int = 0
    size_bytes: int = 0
    models: Mapping[str, int]


class Sweep:
    """One look at every report that is old."""

    def __init__(self, store: Store, *, before: float, dry_run: bool = False) -> None:
        self._store = store
        self._before = before
        self._dry_run = dry_run
        self._needed = _needed(store)
        self._last: OldReport | None = None
        self._models: Counter[str] = Counter()
        self._kept = 0
        self._size_bytes = 0

    def step(self) -> bool:
        """Look at the next page; returns whether there may be more."""
        page = self._store.old_reports(before=self._before, after=self._last, limit=PAGE)
        if page:
            self._last = page[-1]
            self._take(page)
        return len(page) == PAGE

    def _take(self, page: Sequence[OldReport]) -> None:
        if self._dry_run:
            newest = self._store.report_count()  # which stays
            removed = [old for old in page if old.position != newest and not self._needed.keeps(old.report)]
        else:
            with self._store.batch():
                self._needed = replace(self._needed, models=self._needed.models | unended(load_heads(self._store)))
                unneeded = [old for old in page if not self._needed.keeps(old.report)]
                removed = list(self._store.remove_reports(unneeded, before=self._before))
        self._models.update(model_of(old.report) or "" for old in removed)
        self._size_bytes += sum(old.size_bytes for old in removed)
        self._kept += len(page) - len(removed)

    def result(self) -> PruneResult:
        """Return what went so far."""
        return PruneResult(
            before=self._before,
            removed=self._models.total(),
            kept=self._kept,
            size_bytes=self._size_bytes,
            models=dict(sorted(self._models.items())),
        )


def prune(store: Store, *, before: float, dry_run: bool) -> PruneResult:
    """Return what was deleted of the reports that were taken in before a time; of a dry run, what would be."""
    sweep = Sweep(store, before=before, dry_run=dry_run)
    while sweep.step():
        pass
    return sweep.result()


class Retention:
    """Keeps the log of a running service as short as it was told to, in small steps between its looks."""

    def __init__(self, store: Store, clock: Clock, *, keep_seconds: float, say: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._say = say
        self._sweep: Sweep | None = None
        self._next = clock.monotonic()

    def step(self) -> None:
        """Look at one page, if it is time to."""
        now = self._clock.monotonic()
        if self._sweep is None:
            if now < self._next:
                return
            self._sweep = Sweep(self._store, before=self._clock.now() - self._keep_seconds)
        if self._sweep.step():
            return
        removed = self._sweep.result().removed
        if removed:
            self._say(f"deleted {removed} report(s) older than {self._keep_seconds / 86_400:g} days")
        self._sweep, self._next = None, now + SWEEP_SECONDS


def _needed(store: Store) -> Needed:
    return needed(
        rollouts=load_heads(store),
        records=[parse_record(document) for _, document in store.decisions()],
        devices=store.devices(),
        desired=store.all_desired(),
    )
