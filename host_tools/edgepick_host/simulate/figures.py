"""What a simulated device measures: figures made up with the noise of the scenario. Pure; the same lot, the same.

A device has a speed of its own, and an effect of its own for every variant: that is what makes devices, not
inferences, the units of an experiment. Blocks of a quad add what happens on a board while it measures.
"""

import math
from collections.abc import Iterator
from random import Random

from edgepick_host.simulate.scenario import Identity, Noise, Spread
from edgepick_wire.messages import MeasureRequest
from edgepick_wire.metrics import (
    Conditions,
    EnergySummary,
    GoldenResult,
    LatencySummary,
    Measurement,
    MemorySummary,
    RuntimeUsed,
    Verdict,
)
from edgepick_wire.pairing import BLOCKS, Order, PairedRun, PairOrder, Quad, quad_order

MS = 1_000_000
MIB = 1024 * 1024
MACHINE = "a simulated device"
TAIL = 0.02
"""Standard deviation of single inferences, from which the percentiles follow: a quiet board's."""


def latency_ns(device: Identity, variant: str) -> float:
    """Return a variant's true median latency on a device."""
    noise = device.scenario.noise
    own = device.lot("speed").gauss(0, noise.device)
    effect = drawn(device.lot("effect", variant), noise)
    return device.kind.latency_ms * MS * device.kind.behaviour(variant).latency * math.exp(own + effect)


def drawn(lot: Random, noise: Noise) -> float:
    """Return a device's own effect of a variant, as a log ratio with median 0."""
    z = lot.gauss(0, 1)
    if noise.spread is Spread.NORMAL:
        return noise.effect * z
    if noise.spread is Spread.T3:  # a normal over the root of a chi-square with three degrees, by its definition
        chi = sum(lot.gauss(0, 1) ** 2 for _ in range(3))
        return noise.effect * z / math.sqrt(chi)
    if noise.spread is Spread.SKEWED:
        return noise.effect * (math.exp(0.8 * z) - 1)
    if noise.spread is Spread.CONTAMINATED:
        return noise.effect * z * (10 if lot.random() < 0.05 else 1)
    return 0.0


def measured(device: Identity, variant: str, order: MeasureRequest, against: str | None, size: int) -> Measurement:
    """Return the measurement of a variant; in quads beside ``against`` where that is a variant's name."""
    middle = latency_ns(device, variant)
    lot = device.lot("measure", order.id)
    behaviour = device.kind.behaviour(variant)
    memory = int(device.kind.memory_mib * MIB * behaviour.memory * math.exp(lot.gauss(0, 0.005)))
    passed = not device.falls_on(behaviour.wrong, "wrong", variant)
    return Measurement(
        plan=order.plan,
        runtime=RuntimeUsed(
            name=device.kind.runtime,
            version="0",
            accelerator=device.kind.accelerator,
            nodes=40,
            accelerated_nodes=40,
            threads=order.plan.threads,
        ),
        load_ns=30 * MS,
        first_inference_ns=int(middle * 1.5),
        latency=_latency(middle * math.exp(lot.gauss(0, device.scenario.noise.block)), order.plan.min_runs),
        throughput_per_s=1e9 / middle,
        memory=_memory(memory, size),
        energy=EnergySummary(reason="no sensor"),
        golden=GoldenResult(
            samples=32,
            agreement=1.0 if passed else 0.1,
            mean_abs_error=0.01 if passed else 1.0,
            accuracy=None,
            finite=True,
            passed=passed,
            detail="as expected" if passed else "3 of 32 answers agree",
        ),
        conditions=Conditions(stand_in=True, machine=MACHINE, throttled=False, load_1min=0.1),
        verdict=Verdict.VALID,
        extra={"simulated": "yes"},
        paired=None if order.pair is None or against is None else _paired(device, variant, against, order.pair),
    )


def _latency(middle: float, runs: int) -> LatencySummary:
    """Return the percentiles of ``runs`` lognormal inferences, where so many may say something about them."""
    at = {share: int(middle * math.exp(TAIL * z)) for share, z in ((0.9, 1.2816), (0.95, 1.6449), (0.99, 2.3263))}
    return LatencySummary(
        runs=runs,
        mean_ns=int(middle),
        stdev_ns=int(TAIL * middle),
        min_ns=int(middle * 0.95),
        max_ns=int(middle * 1.06),
        p50_ns=int(middle) if runs >= 5 else None,
        p90_ns=at[0.9] if runs >= 29 else None,
        p95_ns=at[0.95] if runs >= 59 else None,
        p99_ns=at[0.99] if runs >= 299 else None,
        p95_high_ns=int(middle * 1.06) if runs >= 59 else None,
    )


def _memory(peak: int, size: int) -> MemorySummary:
    return MemorySummary(
        peak_rss_bytes=peak,
        steady_rss_bytes=peak - MIB,
        private_bytes=peak // 2,
        proportional_bytes=peak // 2 + MIB,
        baseline_rss_bytes=peak // 3,
        model_file_bytes=size,
    )


def _paired(device: Identity, variant: str, against: str, pair: PairOrder) -> PairedRun:
    lot = device.lot("quads", pair.key, variant, against)
    sides = {"a": latency_ns(device, against), "b": latency_ns(device, variant)}
    disturbed = _disturbances(lot, device.scenario.noise, pair.quads * BLOCKS)
    return PairedRun(
        against=pair.against,
        key=pair.key,
        block_runs=pair.block_runs,
        dropped_runs=pair.dropped_runs,
        quads=tuple(
            _quad(quad_order(pair.key, device.name, index), index, sides, disturbed) for index in range(pair.quads)
        ),
    )


def _quad(order: Order, index: int, sides: dict[str, float], disturbed: Iterator[float]) -> Quad:
    blocks = tuple(round(sides[side] * math.exp(next(disturbed))) for side in order.value)
    return Quad(index=index, order=order, latency_ns=tuple(float(block) for block in blocks))


def _disturbances(lot: Random, noise: Noise, blocks: int) -> Iterator[float]:
    """Yield each block's log factor: noise that remembers, a drift, and a first block that is quicker."""
    state, rho = lot.gauss(0, noise.block), noise.autocorrelation
    for block in range(blocks):
        position = 0.0 if block % BLOCKS == 0 else noise.order
        yield state + noise.drift * block / blocks + position
        state = rho * state + lot.gauss(0, noise.block * math.sqrt(1 - rho * rho))
