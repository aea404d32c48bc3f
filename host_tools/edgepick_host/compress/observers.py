"""Ranges of activations from the values that a float model shows on calibration samples. Pure numpy.

One :class:`Observer` per tensor sees every value once and keeps a histogram of fixed size, whatever the number of
samples. Its bins are ``2**e`` wide and start at zero; when a value lies beyond them, neighbours are merged in pairs and
``e`` grows by one. So the histogram that remains depends on the values alone, and **not on their order**, bit for bit.
The moving average is the one statistic that does depend on it, by definition.

Values that are not finite are left out. Every range holds zero, because affine quantization must represent it exactly
(padding, ReLU).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepick_host.compress.step import Range
from edgepick_wire.enums import StrEnum

BINS = 4096
"""Per sign. After each merge at least half of them are in use: 8 bins or more per step of 8 bits."""
MOVING_AVERAGE_DECAY = 0.95
"""Weight of the past per sample, as in ai-edge-quantizer."""
PERCENTILE = 99.99
"""Share of all values (in per cent) that the percentile's range holds; each tail loses half of the rest."""
CLIP_FACTORS = np.linspace(1.0, 0.02, 99)
"""Of the largest value, per end, that the mean squared error is computed for; the widest of equals wins."""
CLIP_ROUNDS = 2
"""How often each end moves by itself."""
ENTROPY_STRIDE = 16
"""Bins from one threshold that the entropy is computed for to the next."""
EMPTY: Range = (0.0, 1.0)
"""Range of a tensor that showed nothing but zeros: any will do, and this one has an ordinary scale."""
LEAST_EXPONENT = -126
"""Bins are not narrower than float32's least normal number."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Method(StrEnum):
    """How a range follows from the values seen."""

    MINMAX = "minmax"
    MOVING_AVERAGE = "moving_average"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The integers that a range is for."""

    bits: int
    symmetric: bool

    @property
    def steps(self) -> int:
        """From the least to the largest integer; symmetric ones leave the least out, so that zero is in the middle."""
        return int(2**self.bits) - (2 if self.symmetric else 1)


@dataclass(slots=True)
class Observer:
    """What one tensor showed.

    Attributes:
        samples: Calls of :meth:`observe` with any finite value.
        counts: Non-zero values per bin, ``[2 * BINS]``; bin ``i`` is ``[(i - BINS) * width, (i - BINS + 1) * width)``.
        exponent: The width of a bin is ``2**exponent``.
        zeros: Values that are exactly zero: they have no rounding error.
        least: Over all values.
        largest: Over all values.
        average: Moving average of each sample's least and largest value.
        rejected: Values that were not finite.
    """

    samples: int = 0
    counts: Counts = field(default_factory=lambda: np.zeros(2 * BINS, dtype=np.int64))
    exponent: int = LEAST_EXPONENT
    zeros: int = 0
    least: float = np.inf
    largest: float = -np.inf
    average: Range = (0.0, 0.0)
    rejected: int = 0

    def observe(self, values: npt.NDArray[Any]) -> None:
        """Take in one sample's values, of any shape."""
        flat = np.asarray(values, dtype=np.float64).ravel()
        finite = flat[np.isfinite(flat)]
        self.rejected += flat.size - finite.size
        if not finite.size:
            return
        low, high = float(finite.min()), float(finite.max())
        self.least, self.largest = min(self.least, low), max(self.largest, high)
        self._average(low, high)
        self.samples += 1
        nonzero = finite[finite != 0.0]
        self.zeros += finite.size - nonzero.size
        self._widen(max(-low, high))
        bins = np.floor(nonzero * 2.0**-self.exponent).astype(np.int64) + BINS
        self.counts += np.bincount(bins, minlength=2 * BINS)

    def _average(self, low: float, high: float) -> None:
        keep = MOVING_AVERAGE_DECAY if self.samples else 0.0
        self.average = (keep * self.average[0] + (1 - keep) * low, keep * self.average[1] + (1 - keep) * high)

    def _widen(self, largest: float) -> None:
        while largest >= BINS * 2.0**self.exponent:
            needed = int(np.frexp(largest / BINS)[1])  # largest < BINS * 2**needed
            if not self.counts.any():
                self.exponent = max(needed, self.exponent + 1)
                continue
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 2, np.int64), pairs, np.zeros(BINS // 2, np.int64)])
            self.exponent += 1

    def range(self, method: Method | str = Method.MINMAX, *, bits: int = 8, symmetric: bool = False) -> Range:
        """Return the tensor's range; least and largest real value, zero among them.

        Args:
            method: How.
            bits: Of the integers; entropy and mean squared error weigh clipping against their step.
            symmetric: The integers will be symmetric around zero; the range is too.
        """
        if not self.samples:
            return (-EMPTY[1], EMPTY[1]) if symmetric else EMPTY
        low, high = _RANGES[Method(method)](self, Grid(bits=bits, symmetric=symmetric))
        low, high = min(low, 0.0), max(high, 0.0)
        if symmetric:
            low, high = -max(-low, high), max(-low, high)
        if low == high:
            return (-EMPTY[1], EMPTY[1]) if symmetric else EMPTY
        return low, high

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(2.0**self.exponent)

    def edges(self) -> Floats:
        """Return the bins' edges, ``[2 * BINS + 1]``."""
        found: Floats = np.arange(-BINS, BINS + 1) * np.float64(self.width)
        return found

    def _clipped(self, low: float, high: float) -> Range:
        return max(low, self.least), min(high, self.largest)


def _minmax(seen: Observer, grid: Grid) -> Range:
    del grid
    return seen.least, seen.largest


def _moving_average(seen: Observer, grid: Grid) -> Range:
    del grid
    return seen.average


def _percentile(seen: Observer, grid: Grid) -> Range:
    del grid
    counts = seen.counts.copy()
    counts[BINS] += seen.zeros
    tail = (1.0 - PERCENTILE / 100.0) / 2.0 * float(counts.sum())
    return seen._clipped(_below(counts, seen.edges(), tail), -_below(counts[::-1], -seen.edges()[::-1], tail))  # noqa: SLF001 - one module


def _below(counts: Counts, edges: Floats, tail: float) -> float:
    """Return the value below which ``tail`` values lie, linear within a bin."""
    reached = np.cumsum(counts)
    i = int(np.searchsorted(reached, tail, side="right"))
    before = float(reached[i - 1]) if i else 0.0
    return float(edges[i] + (edges[i + 1] - edges[i]) * (tail - before) / counts[i])


def _mse(seen: Observer, grid: Grid) -> Range:
    """Return the range whose integers are nearest to the histogram's values, in the mean of squares.

    Each end moves over its candidates while the other stays, after both have moved together: the error has one valley
    in each direction, apart from the small waves of rounding.
    """
    used = np.flatnonzero(seen.counts)
    if not used.size:
        return EMPTY
    values, counts = (used - BINS + 0.5) * seen.width, seen.counts[used].astype(np.float64)
    values = np.clip(values, seen.least, seen.largest)
    low, high = min(seen.least, 0.0), max(seen.largest, 0.0)
    if grid.symmetric:
        low, high = -max(-low, high), max(-low, high)
    found = _best(values, counts, [(low * f, high * f) for f in CLIP_FACTORS], grid)
    for _ in range(0 if grid.symmetric or low == 0.0 or high == 0.0 else CLIP_ROUNDS):
        found = _best(values, counts, [(low * f, found[1]) for f in CLIP_FACTORS], grid)
        found = _best(values, counts, [(found[0], high * f) for f in CLIP_FACTORS], grid)
    return found


def _best(values: Floats, counts: Floats, ranges: list[Range], grid: Grid) -> Range:
    errors = [_error(values, counts, each, grid) for each in ranges]
    return ranges[int(np.argmin(errors))]


def _error(values: Floats, counts: Floats, ends: Range, grid: Grid) -> float:
    step = (ends[1] - ends[0]) / grid.steps
    zero = round(-ends[0] / step)
    steps = np.clip(np.round(values / step), -zero, grid.steps - zero)
    return float(counts @ np.square(values - steps * step))


def _entropy(seen: Observer, grid: Grid) -> Range:
    """Return the threshold whose quantized distribution of magnitudes diverges least from the real one.

    TensorRT's method (Migacz, "8-bit Inference with TensorRT", GTC 2017), as ONNX Runtime has it too. Exact zeros do
    not count: ReLU makes so many that they would hide everything else.
    """
    one_sided = not grid.symmetric and (seen.least >= 0 or seen.largest <= 0)
    levels = 2**grid.bits if one_sided else 2 ** (grid.bits - 1)
    magnitudes = seen.counts[BINS:] + seen.counts[:BINS][::-1]
    used = int(np.flatnonzero(magnitudes)[-1]) + 1 if magnitudes.any() else 0
    if used <= levels:
        return seen.least, seen.largest
    cuts = [*range(levels, used, ENTROPY_STRIDE), used]
    divergences = [_divergence(magnitudes[:used], cut, levels) for cut in cuts]
    threshold = cuts[int(np.argmin(divergences))] * seen.width
    return seen._clipped(-threshold, threshold)  # noqa: SLF001 - one module


def _divergence(counts: Counts, cut: int, levels: int) -> float:
    real = counts[:cut].astype(np.float64)
    starts = np.arange(levels) * cut // levels
    occupied = (counts[:cut] > 0).astype(np.float64)
    share = np.add.reduceat(real, starts) / np.maximum(np.add.reduceat(occupied, starts), 1.0)
    coarse = np.repeat(share, np.diff(np.append(starts, cut))) * occupied
    real[-1] += float(counts[cut:].sum())
    total = coarse.sum()
    if not total:
        return float("inf")
    p, q = real / real.sum(), np.maximum(coarse / total, 1e-9)
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / q[some])))


_RANGES = {
    Method.MINMAX: _minmax,
    Method.MOVING_AVERAGE: _moving_average,
    Method.PERCENTILE: _percentile,
    Method.ENTROPY: _entropy,
    Method.MSE: _mse,
}
