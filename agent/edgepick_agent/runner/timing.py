"""Running the model against the clock: warm-up and the timed runs."""

import gc
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from edgepick_agent.ports import Session
from edgepick_wire.metrics import MeasurePlan

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

    Feeds = Sequence[Mapping[str, Array]]

SECOND_NS = 1_000_000_000
BETWEEN_SECONDS = 1.0
BETWEEN_NS = round(BETWEEN_SECONDS * SECOND_NS)
"""A look at board and counter costs about 0.1 ms between two inferences; once a second is one in ten thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """The timed runs: each latency in nanoseconds, and the length of the whole window."""

    samples_ns: Sequence[int]
    seconds: float


@final
class Watchdog:
    """Calls ``expired`` once if no inference ends for ``limit_seconds``; it only looks four times per limit."""

    def __init__(self, limit_seconds: float, expired: Callable[[], None]) -> None:
        self._limit = limit_seconds
        self._expired = expired
        self._beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def beat(self) -> None:
        """Say that an inference has ended."""
        self._beats += 1

    def _loop(self) -> None:
        seen, silent = self._beats, 0
        while not self._stop.wait(self._limit / 4):
            silent = silent + 1 if self._beats == seen else 0
            seen = self._beats
            if silent >= 4:
                self._expired()
                return


def first_inference(session: Session, feeds: "Feeds") -> int:
    """Return how long the first inference takes, in nanoseconds."""
    started = time.perf_counter_ns()
    session.run(feeds[0])
    return time.perf_counter_ns() - started


def warm_up(session: Session, feeds: "Feeds", plan: MeasurePlan, beat: Callable[[], None]) -> int:
    """Run until the plan's warm-up runs and seconds are both reached; return how many runs that took."""
    started = time.monotonic()
    runs = 0
    while True:
        elapsed = time.monotonic() - started
        done = runs >= plan.warmup_runs and elapsed >= plan.warmup_seconds
        if done or elapsed >= plan.max_seconds:
            return runs
        session.run(feeds[runs % len(feeds)])
        runs += 1
        beat()


def timed_runs(
    session: Session,
    feeds: "Feeds",
    plan: MeasurePlan,
    *,
    beat: Callable[[], None],
    between: Callable[[], None],
    every_ns: int,
) -> Timed:
    """Return at least one timed run: until both minima are reached or the maximum time is over.

    Only the call into the runtime is timed. ``between`` is called about every ``every_ns``, outside
    of any timed run. The garbage collector rests meanwhile.
    """
    samples = array("q")
    clock, run, count = time.perf_counter_ns, session.run, len(feeds)
    with no_garbage_collection():
        start = clock()
        least, most, due = start + plan.min_seconds * SECOND_NS, start + plan.max_seconds * SECOND_NS, start + every_ns
        while True:
            feed = feeds[len(samples) % count]
            before = clock()
            run(feed)
            after = clock()
            samples.append(after - before)
            beat()
            if after >= most or (after >= least and len(samples) >= plan.min_runs):
                return Timed(samples_ns=samples, seconds=(after - start) / SECOND_NS)
            if after >= due:
                between()
                due = after + every_ns


def runs_for(
    session: Session,
    feeds: "Feeds",
    seconds: float,
    beat: Callable[[], None],
    *,
    between: Callable[[], None] = lambda: None,
) -> int:
    """Run back to back for some seconds; return the number of inferences. ``between`` is called about once a second."""
    began = time.monotonic()
    runs, due = 0, began + BETWEEN_SECONDS
    while (now := time.monotonic()) < began + seconds:
        session.run(feeds[runs % len(feeds)])
        runs += 1
        beat()
        if now > due:
            between()
            due = now + BETWEEN_SECONDS
    return runs


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Let the garbage collector rest."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))
