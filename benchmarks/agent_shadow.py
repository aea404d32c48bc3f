"""What clients notice of a shadow: the latency through a runner that is shadowed, beside one that is not.

Three runners serve the same model, and blocks of requests to each of them take turns: one is shadowed, two are not.
The two that are not tell what is noise. The shadow works in its own process while its runner's block runs, as it does
on a device; its priority is the lowest, and it has one CPU.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from agent_latency import READY_SECONDS, Effort, Served, bare, spec_of

from edgepick_agent import app
from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.core.runner_spec import RunnerMode, RunnerState, ShadowOrder
from edgepick_agent.ports import RunnerProcess
from edgepick_wire.shadow import ShadowRequest, ShadowSummary

NOBODY = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Medians over the pairs of blocks.

    Attributes:
        p50_ratio: Median latency of a block with the shadow, divided by that of the block without it beside it.
        p95_ratio: The same of the 95th percentiles.
        noise: The same of the medians of the two runners without a shadow.
        alone: Median latency without a shadow, in seconds.
        seen: What the shadow saw.
    """

    p50_ratio: float
    p95_ratio: float
    noise: float
    alone: float
    seen: ShadowSummary


def beside_a_shadow(model: Path, permille: int, effort: Effort) -> Beside:
    """Return what requests take through a runner with a shadow of its own model, and through runners without."""
    name, shape, _ = bare(model)
    feeds = {name: np.random.default_rng(1).random(shape, np.float32)}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        calls: list[Callable[[], Any]] = []
        for folder in (Path(temporary) / each for each in ("shadowed", "alone", "again")):
            folder.mkdir()
            served = stack.enter_context(closing(Served(model, folder, tap_path=str(folder / "s.tap"))))
            client = stack.enter_context(served.client())
            calls.append(partial(client.infer, feeds))
        shadow = _shadow(model, Path(temporary), permille)
        stack.callback(shadow.stop, grace_seconds=0.0)
        for call in calls:
            _times(call, effort.block_seconds)
        blocks = [_turn(calls, number, effort.block_seconds) for number in range(effort.pairs * effort.processes)]
        seen = _caught_up(shadow)
    return Beside(
        p50_ratio=statistics.median(a.p50 / b.p50 for a, b, _ in blocks),
        p95_ratio=statistics.median(a.p95 / b.p95 for a, b, _ in blocks),
        noise=statistics.median(c.p50 / b.p50 for _, b, c in blocks),
        alone=statistics.median(b.p50 for _, b, _ in blocks),
        seen=seen,
    )


@dataclass(frozen=True, slots=True)
class Block:
    """Latencies of one block, in seconds."""

    p50: float
    p95: float


def _turn(calls: list[Callable[[], Any]], number: int, seconds: float) -> list[Block]:
    """Return one block of each; who comes first gains or loses by it, so each does in turn."""
    found: dict[int, Block] = {}
    for place in range(len(calls)):
        which = (place + number) % len(calls)
        found[which] = _times(calls[which], seconds)
    return [found[which] for which in range(len(calls))]


def _times(call: Callable[[], Any], seconds: float) -> Block:
    samples, end = [], time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        call()
        samples.append(time.perf_counter() - before)
    samples.sort()
    return Block(statistics.median(samples), samples[int(0.95 * len(samples))])


def _caught_up(shadow: RunnerProcess) -> ShadowSummary:
    """Return what a shadow saw, once it has answered what it was given and has written that down."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        found = shadow.shadow()
        if found is not None and 0 < found.summary.drawn == found.summary.dropped + found.summary.compared:
            return found.summary
        time.sleep(0.1)
    raise SystemExit("the shadow did not catch up")


def _shadow(model: Path, folder: Path, permille: int) -> RunnerProcess:
    """Return a shadow of the runner in ``folder / "shadowed"`` that compares by now."""
    request = ShadowRequest(id="bench", manifest=NOBODY, permille=permille, seconds=86400.0, requests=65_536)
    order = ShadowOrder(tap=str(folder / "shadowed" / "s.tap"), against=NOBODY, seed="bench", request=request)
    spec = replace(spec_of(model), shadow=order)
    process: RunnerProcess = app.launcher(None, folder / "shadow", SystemClock()).start(spec, RunnerMode.SHADOW)
    end = time.monotonic() + READY_SECONDS
    while process.shadow() is None:
        seen = process.observe()
        if seen.state is RunnerState.EXITED or time.monotonic() > end:
            raise SystemExit(f"the shadow did not begin: {seen.detail}")
        time.sleep(0.01)
    return process
