"""Latency samples to a summary: which statistic is meant, and from how many runs on it may be told."""

import math
from collections.abc import Sequence

from edgepick_wire.metrics import LatencySummary

CONFIDENCE = 0.95


def least_runs(p: float) -> int:
    """Return from how many runs on any 95 % upper bound for the ``p`` quantile exists.

    The largest of n samples lies above the quantile with probability 1 - p**n, so n must be at
    least ln(0.05)/ln(p): 5 for p50, 29 for p90, 59 for p95, 299 for p99. It is the exact
    order-statistic bound, as scipy.stats.quantile_test gives it.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(p))


def quantile(ordered: Sequence[int], p: float) -> int | None:
    """Return the nearest-rank ``p`` quantile of sorted samples, or ``None`` if it is not estimable.

    Nearest rank is the smallest sample with at least a share ``p`` of all samples at or below it:
    number ceil(p * n), counted from 1; ``numpy.percentile(..., method="inverted_cdf")``. It is
    always a latency that was really seen.
    """
    if len(ordered) < least_runs(p):
        return None
    return ordered[max(0, math.ceil(round(p * len(ordered), 9)) - 1)]


def upper_bound(ordered: Sequence[int], p: float) -> int | None:
    """Return the 95 % upper bound of the ``p`` quantile of sorted samples, or ``None`` if there is none.

    It is sample number k, counted from 1, with the least k for which P(Bin(n, p) <= k - 1) >= 0.95. Holds for
    independent samples; the same as scipy.stats.quantile_test with ``alternative="less"``.
    """
    runs = len(ordered)
    if runs < least_runs(p):
        return None
    above, tail = 0, 0.0
    while True:
        tail += math.exp(_log_chance(runs, above, 1 - p))
        if tail > 1 - CONFIDENCE:
            return ordered[runs - above]
        above += 1


def _log_chance(n: int, k: int, p: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(p) + (n - k) * math.log1p(-p)


def middle_mean(values: Sequence[int]) -> float:
    """Return the interquartile mean: of the middle half of the sorted values, of all where there are fewer than four.

    For times of which some were interrupted, told in steps as coarse as themselves: a mean would be moved by
    the interruptions, a median could only be one of the steps.
    """
    ordered, cut = sorted(values), len(values) // 4
    kept = ordered[cut : len(ordered) - cut]
    return math.fsum(kept) / len(kept)


BLOCKS = 10
LEAST_PER_BLOCK = 5


def drift(samples_ns: Sequence[int]) -> float | None:
    """Return how much the latency changed from begin to end, relative to its median; ``None`` for few samples.

    The Theil-Sen slope over the medians of ten blocks in their order in time (P. K. Sen, JASA 63,
    1968): the median of the slopes of all pairs, which a block of outliers does not move.
    """
    size = len(samples_ns) // BLOCKS
    if size < LEAST_PER_BLOCK:
        return None
    medians = [sorted(samples_ns[i * size : (i + 1) * size])[size // 2] for i in range(BLOCKS)]
    pairs = ((i, j) for i in range(BLOCKS) for j in range(i + 1, BLOCKS))
    slopes = sorted((medians[j] - medians[i]) / (j - i) for i, j in pairs)
    centre = sorted(medians)[BLOCKS // 2]
    return slopes[len(slopes) // 2] * (BLOCKS - 1) / centre if centre else None


def summarise(samples_ns: Sequence[int]) -> LatencySummary:
    """Return the summary of at least one latency sample in nanoseconds.

    The standard deviation is that of a sample (n - 1); 0 for a single run.
    """
    ordered = sorted(samples_ns)
    runs = len(ordered)
    mean = math.fsum(ordered) / runs
    variance = math.fsum((s - mean) ** 2 for s in ordered) / (runs - 1) if runs > 1 else 0.0
    return LatencySummary(
        runs=runs,
        mean_ns=round(mean),
        stdev_ns=round(math.sqrt(variance)),
        min_ns=ordered[0],
        max_ns=ordered[-1],
        p50_ns=quantile(ordered, 0.50),
        p90_ns=quantile(ordered, 0.90),
        p95_ns=quantile(ordered, 0.95),
        p99_ns=quantile(ordered, 0.99),
        p95_high_ns=upper_bound(ordered, 0.95),
    )
