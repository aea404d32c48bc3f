"""Confidence intervals over restarts of the runner: the unit is the process, never the inference.

Inferences of one process share its memory layout, its core and its neighbours, so they are no
independent sample: with a run-to-run effect of 3 %, an order-statistic interval over 20 x 200 pooled
inferences, nominally 95 %, covers the median in 27 % of the cases. Percentiles therefore get Woodruff
intervals with restarts as clusters (R. S. Woodruff, JASA 47, 1952), means a t interval over the
restarts' means.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgepick_agent.core.summarise import least_runs

LEVEL = 0.95
LEAST_RESTARTS = 5
"""With fewer, the spread between restarts is hardly known: the t quantile of 3 degrees is 3.2, of 1 is 12.7."""
ENOUGH_RESTARTS = 20
"""From here on the spread between restarts is taken as seen; below, it is never taken as less than what the
effective number of runs lets expect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure over all restarts and its 95 % interval.

    Attributes:
        value: The figure; ``None`` if it is not estimable.
        low: Lower end; ``None`` if there is none.
        high: Upper end; ``None`` if there is none.
        reason: Why something is missing.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def student_t(freedom: int, level: float = LEVEL) -> float:
    """Return t so that a share ``level`` of Student's distribution with ``freedom`` degrees lies in ±t.

    By bisection on the closed form for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return high


def _inside(t: float, freedom: int) -> float:
    """Return how much of Student's distribution lies in ±t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def mean_interval(restarts: Sequence[Sequence[float]]) -> Estimate:
    """Return the mean of the restarts' means, each of which counts alike, and its t interval."""
    means = [math.fsum(samples) / len(samples) for samples in restarts]
    count = len(means)
    mean = math.fsum(means) / count
    if count < LEAST_RESTARTS:
        return Estimate(value=mean, reason=_too_few(count))
    half = student_t(count - 1) * _deviation(means) / math.sqrt(count)
    return Estimate(value=mean, low=mean - half, high=mean + half)


def quantile_interval(restarts: Sequence[Sequence[int]], p: float) -> Estimate:
    """Return the pooled ``p`` quantile, each restart counting alike, and its clustered Woodruff interval.

    An end that would lie beyond the smallest or largest sample does not exist and is ``None``. The
    whole interval is missing with too few restarts, or if the restarts differ so much among each
    other that fewer than :func:`least_runs` independent runs are left.
    """
    count, runs = len(restarts), sum(map(len, restarts))
    pooled = _Pooled(restarts)
    if runs < least_runs(p):
        return Estimate(reason=f"{runs} of at least {least_runs(p)} runs")
    value = pooled.quantile(p)
    if count < LEAST_RESTARTS:
        return Estimate(value=value, reason=_too_few(count))
    independent = effective_runs(restarts)
    if independent < least_runs(p):
        why = f"the starts differ: {runs} runs count as {independent:.0f}, at least {least_runs(p)} are needed"
        return Estimate(value=value, reason=why)
    shares = [bisect.bisect_right(ordered, value) / len(ordered) for ordered in pooled.ordered]
    floor = math.sqrt(p * (1 - p) / (runs if count >= ENOUGH_RESTARTS else independent))
    half = student_t(count - 1) * max(_deviation(shares) / math.sqrt(count), floor)
    low = pooled.quantile(p - half) if p - half > 0 else None
    high = pooled.quantile(p + half) if p + half < 1 else None
    missing = "no sample lies beyond" if low is None or high is None else None
    return Estimate(value=value, low=low, high=high, reason=missing)


def effective_runs(restarts: Sequence[Sequence[float]]) -> float:
    """Return how many independent runs say as much as these, n / (1 + (m - 1) rho), at most n.

    rho is the intraclass correlation of the runs' ranks, by a one-way analysis of variance: ranks,
    so that a few outliers do not hide how much the restarts differ.
    """
    runs, count = sum(map(len, restarts)), len(restarts)
    if count < 2 or runs <= count:
        return float(runs)
    ranks = _Pooled(restarts).ranks()
    size = runs / count
    means = [math.fsum(each) / len(each) for each in ranks]
    centre = math.fsum(math.fsum(each) for each in ranks) / runs
    between = math.fsum(len(r) * (m - centre) ** 2 for r, m in zip(ranks, means, strict=True)) / (count - 1)
    within = math.fsum((x - m) ** 2 for r, m in zip(ranks, means, strict=True) for x in r) / (runs - count)
    total = between + (size - 1) * within
    rho = max(0.0, (between - within) / total) if total > 0 else 0.0
    return runs / (1 + (size - 1) * rho)


class _Pooled:
    """The samples of all restarts, each restart with the same weight in all."""

    def __init__(self, restarts: Sequence[Sequence[float]]) -> None:
        self.ordered = [sorted(samples) for samples in restarts]
        weighted = sorted((x, 1 / (len(restarts) * len(samples))) for samples in restarts for x in samples)
        self._values = [x for x, _ in weighted]
        self._shares = _running_sum([w for _, w in weighted])

    def quantile(self, p: float) -> float:
        """Return the smallest sample with at least a share ``p`` at or below it."""
        return self._values[min(len(self._values) - 1, bisect.bisect_left(self._shares, p - 1e-9))]

    def ranks(self) -> list[list[float]]:
        """Return the rank of each sample, ties sharing their middle."""
        at = self._values
        return [[(bisect.bisect_left(at, x) + bisect.bisect_right(at, x)) / 2 for x in o] for o in self.ordered]


def _running_sum(weights: Sequence[float]) -> list[float]:
    total, sums = 0.0, []
    for weight in weights:
        total += weight
        sums.append(total)
    return sums


def _deviation(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _too_few(count: int) -> str:
    return f"no interval from {count} restart(s); at least {LEAST_RESTARTS} are needed (--restarts)"
