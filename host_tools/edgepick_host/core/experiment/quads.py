"""Quads to one figure per unit: the log ratio of candidate to incumbent. Pure.

A quad is dropped by rules that do not look at which variant did better: it was marked invalid on the device, its order
is not what the coin says, or a figure in it is impossible. Dropped quads are counted, with the reason.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from edgepick_wire.pairing import BLOCKS, Order, PairedRun, Quad, quad_order

Blocks = Callable[[Quad], Sequence[float]]
"""The figures of a quad's four blocks in one metric; empty where it was not measured."""

LARGEST_LOG_RATIO = math.log(1000.0)
"""A variant that is a thousand times another is a broken clock, not a variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Log ratios (candidate to incumbent) of one device's usable quads.

    Attributes:
        values: In the order of the quads' index.
        dropped: Reason -> number of quads.
    """

    values: tuple[float, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def unit(self) -> float | None:
        """The device's one figure: the median over its quads; ``None`` without any."""
        return median(self.values) if self.values else None


def device_effects(run: PairedRun, device: str, blocks: Blocks) -> Effects:
    """Return the effects of a device's run in one metric."""
    values, dropped = [], Counter[str]()
    for quad in sorted(run.quads, key=lambda q: q.index):
        why = _unusable(quad, run.key, device, blocks)
        if why:
            dropped[why] += 1
        else:
            values.append(log_ratio(quad.order, blocks(quad)))
    return Effects(values=tuple(values), dropped=dict(sorted(dropped.items())))


def log_ratio(order: Order, blocks: Sequence[float]) -> float:
    """Return the mean log of the candidate's blocks less that of the incumbent's."""
    first, second, third, fourth = (math.log(b) for b in blocks)
    inner, outer = (second + third) / 2, (first + fourth) / 2
    return inner - outer if order is Order.ABBA else outer - inner


def block_median(samples: Sequence[float], dropped_runs: int) -> float:
    """Return the median of a block's inferences without its first ones, which pay for the change of model.

    Raises:
        ValueError: Nothing is left.
    """
    kept = samples[dropped_runs:]
    if not kept:
        raise ValueError(f"a block of {len(samples)} inferences has none left after the first {dropped_runs}")
    return float(median(kept))


def plausible(values: Iterable[float]) -> bool:
    """Return whether every figure can be a measurement: finite and above zero."""
    return all(math.isfinite(v) and v > 0 for v in values)


def _unusable(quad: Quad, key: str, device: str, blocks: Blocks) -> str:
    if quad.invalid is not None:
        return quad.invalid
    if quad.order is not quad_order(key, device, quad.index):
        return "the order is not the coin's"
    figures = blocks(quad)
    if len(figures) != BLOCKS:
        return "not measured"
    if not plausible(figures) or abs(log_ratio(quad.order, figures)) > LARGEST_LOG_RATIO:
        return "an impossible figure"
    return ""
