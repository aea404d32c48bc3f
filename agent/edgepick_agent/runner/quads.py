"""Quads: the candidate and what runs on the device, block by block, in an order that a keyed coin picks.

Both models are loaded before the first block, and each was warmed up. A quad in which the board throttled is marked;
nobody looks at who was faster. When the time is over, no further quad is begun: a comparison may end at any look.

Energy takes longer blocks than latency, as long as the sensor needs, so it has a pass of its own over the same quads
in the same orders. A quad that it does not reach, or cannot tell, has a latency and no energy.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from edgepick_agent.core.runner_spec import Beside, RunnerSpec
from edgepick_agent.ports import Session
from edgepick_agent.runner import timing
from edgepick_agent.runner.energy import Meter
from edgepick_agent.runner.session import Opened, open_model
from edgepick_agent.runner.watch import Watch
from edgepick_wire.pairing import PairedRun, Quad, quad_order

if TYPE_CHECKING:
    from edgepick_agent.runner.timing import Feeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two models, and what it is fed."""

    session: Session
    feeds: "Feeds"


def open_beside(spec: RunnerSpec, beside: Beside) -> Opened:
    """Return what runs on the device, loaded as the spec's own model is.

    Raises:
        RunError: It cannot be loaded.
    """
    other = dataclasses.replace(
        spec, model_path=beside.model_path, format=beside.format, runtimes=beside.runtimes, beside=None
    )
    return open_model(other, threads=spec.plan.threads)


def run_quads(
    spec: RunnerSpec, beside: Beside, incumbent: Side, candidate: Side, *, meter: Meter, beat: Callable[[], None]
) -> PairedRun:
    """Return the quads that were asked for, or as many as the plan's longest time allows; at least one.

    As many of them as fit into that time once more have their energy too, where ``meter`` can tell it.

    Raises:
        RunError: A model cannot be run.
    """
    sides, pair = {"a": incumbent, "b": candidate}, beside.pair
    for side in sides.values():
        timing.warm_up(side.session, side.feeds, spec.plan, beat)
    end = time.monotonic() + spec.plan.max_seconds
    quads: list[Quad] = []
    with timing.no_garbage_collection():
        while len(quads) < pair.quads and (not quads or time.monotonic() < end):
            quads.append(_quad(spec, beside, sides, len(quads), beat))
    if meter.tells_quads:
        end = time.monotonic() + spec.plan.max_seconds
        quads = [_with_energy(spec, quad, sides, meter, beat) if time.monotonic() < end else quad for quad in quads]
    return PairedRun(
        against=pair.against,
        key=pair.key,
        block_runs=pair.block_runs,
        dropped_runs=pair.dropped_runs,
        quads=tuple(quads),
    )


def _quad(spec: RunnerSpec, beside: Beside, sides: Mapping[str, Side], index: int, beat: Callable[[], None]) -> Quad:
    order = quad_order(beside.pair.key, beside.device, index)
    watch = Watch(spec)
    watch.start()
    blocks = tuple(_block(sides[which], beside, beat) for which in order.value)
    watch.stop()
    seen = watch.conditions()
    invalid = ("; ".join(seen.throttle_reasons) or "throttled") if seen.throttled else None
    return Quad(index=index, order=order, latency_ns=blocks, invalid=invalid)


def _with_energy(
    spec: RunnerSpec, quad: Quad, sides: Mapping[str, Side], meter: Meter, beat: Callable[[], None]
) -> Quad:
    """Return the quad with its blocks' energy, or as it is if one of them is missing or the board throttled."""
    if quad.invalid is not None:
        return quad
    watch = Watch(spec)
    watch.start()
    blocks = [meter.block(partial(_run_for, sides[which], beat)) for which in quad.order.value]
    watch.stop()
    known = tuple(b for b in blocks if b is not None and b > 0)
    if len(known) < len(blocks) or watch.conditions().throttled:
        return quad
    return dataclasses.replace(quad, energy_uj=known)


def _run_for(side: Side, beat: Callable[[], None], seconds: float) -> int:
    return timing.runs_for(side.session, side.feeds, seconds, beat)


def _block(side: Side, beside: Beside, beat: Callable[[], None]) -> float:
    clock, samples = time.perf_counter_ns, []
    for number in range(beside.pair.dropped_runs + beside.pair.block_runs):
        feed = side.feeds[number % len(side.feeds)]
        before = clock()
        side.session.run(feed)
        samples.append(clock() - before)
        beat()
    return float(median(samples[beside.pair.dropped_runs :]))
