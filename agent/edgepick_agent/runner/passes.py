"""The further passes of a profile: a fixed rate, where the time goes, and what happened when.

Each is a pass of its own after the timed runs, so that none of them disturbs what those time.
"""

import math
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepick_agent.core.passes import LEAST_PACED_RUNS
from edgepick_agent.core.profile import FixedRate, Phase
from edgepick_agent.core.summarise import summarise
from edgepick_agent.ports import Session
from edgepick_agent.runner.timing import BETWEEN_SECONDS
from edgepick_wire.metrics import MeasurePlan

if TYPE_CHECKING:
    from edgepick_agent.runner.timing import Feeds

LATE_SHARE = 0.1
"""An inference that begins later than this part of its period is late."""
LONGEST_NAP_SECONDS = 0.5
MOST_TRACED = 200
TRACED_SECONDS = 2.0


class Timeline:
    """The phases of this process so far, in the order in which they ended."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note when the block began and how long it took."""
        began = time.monotonic_ns()
        try:
            yield
        finally:
            self.phases.append(Phase(name=name, start_ns=began, duration_ns=time.monotonic_ns() - began))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """The runs at a fixed rate: each latency in nanoseconds, how many began late, and the whole time."""

    samples_ns: Sequence[int]
    late: int
    seconds: float


def at_rate(
    session: Session,
    feeds: "Feeds",
    plan: MeasurePlan,
    rate_per_s: float,
    beat: Callable[[], None],
    *,
    between: Callable[[], None] = lambda: None,
) -> Paced:
    """Return one inference per period until both minima of the plan are reached or its time is over.

    The clock of the rate goes on whatever an inference takes: one that is late delays no later one's due time.
    ``between`` is called about once a second, while nothing runs and none is due.
    """
    period, polled = 1 / rate_per_s, time.monotonic()
    samples, late = array("q"), 0

    def idle() -> None:
        nonlocal polled
        beat()
        if time.monotonic() - polled > BETWEEN_SECONDS:
            between()
            polled = time.monotonic()

    began = time.monotonic()
    for index in range(_runs(plan, rate_per_s)):
        due = began + index * period
        sleep_until(due, idle)
        late += time.monotonic() - due > LATE_SHARE * period
        before = time.perf_counter_ns()
        session.run(feeds[index % len(feeds)])
        samples.append(time.perf_counter_ns() - before)
        idle()
        if time.monotonic() - began > plan.max_seconds:
            break
    sleep_until(began + len(samples) * period, idle)
    return Paced(samples_ns=samples, late=late, seconds=time.monotonic() - began)


def _runs(plan: MeasurePlan, rate_per_s: float) -> int:
    """Return how many runs there are to be, for which the pause before the first leaves a period less."""
    wanted = max(plan.min_runs, math.ceil(plan.min_seconds * rate_per_s))
    return min(wanted, max(LEAST_PACED_RUNS, math.floor(plan.max_seconds * rate_per_s) - 1))


def sleep_until(due: float, idle: Callable[[], None]) -> None:
    """Return at a monotonic time; ``idle`` is called before each nap, so that it never delays what is due."""
    while time.monotonic() < due:
        idle()
        time.sleep(max(0.0, min(due - time.monotonic(), LONGEST_NAP_SECONDS)))


def fixed_rate(paced: Paced, rate_per_s: float, gross_uj: float | None) -> FixedRate:
    """Return the summary of the runs at a fixed rate."""
    return FixedRate(
        rate_per_s=rate_per_s,
        latency=summarise(paced.samples_ns),
        late=paced.late,
        duty_cycle=sum(paced.samples_ns) / 1e9 / paced.seconds,
        gross_uj=gross_uj,
    )


def traced(session: Session, feeds: "Feeds", beat: Callable[[], None]) -> "array[int]":
    """Return begin and duration of some inferences in nanoseconds, one after the other."""
    found = array("q")
    end = time.monotonic() + TRACED_SECONDS
    while len(found) < 2 * MOST_TRACED and (not found or time.monotonic() < end):
        before = time.monotonic_ns()
        session.run(feeds[len(found) // 2 % len(feeds)])
        found.extend((before, time.monotonic_ns() - before))
        beat()
    return found
