"""Where a median, a share or a difference lies, as bounds. Pure.

All of them hold without assumptions about tails; :func:`median_sequence` holds at every look too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgepick_host.core.experiment.evidence import least_wins


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From ``low`` to ``high``; ``None`` where the data say nothing."""

    low: float | None
    high: float | None


NOTHING = Range(low=None, high=None)


def median_sequence(values: Sequence[float], alpha: Fraction) -> Range:
    """Return a range that holds the median at every look together, with probability at least ``1 - alpha``.

    A value is excluded once the one-sided sign e-process against it reaches ``2/alpha``: with ``w`` wins needed of
    ``n`` units, the range goes from order statistic ``n + 1 - w`` to ``w``.
    """
    wins = least_wins(len(values), alpha / 2)
    if wins is None:
        return NOTHING
    ordered = sorted(values)
    return _finite(ordered[len(ordered) - wins], ordered[wins - 1])


def _finite(low: float, high: float) -> Range:
    return Range(low=low if math.isfinite(low) else None, high=high if math.isfinite(high) else None)


def share_lower(good: int, units: int, alpha: float = 0.05) -> float:
    """Return the exact one-sided lower bound of a share (Clopper and Pearson, Biometrika 26, 1934, 404-413).

    All of ``units`` good gives ``alpha**(1/units)``: 29 units show 90 %, 59 show 95 %.
    """
    if good == 0 or units == 0:
        return 0.0
    return _bisect(lambda p: binomial_tail(units, good, p) <= alpha)


def share_upper(bad: int, units: int, alpha: float = 0.05) -> float:
    """Return the exact one-sided upper bound of a share; no bad ones among ``units`` gives about 3/units."""
    return 1.0 - share_lower(units - bad, units, alpha)


def binomial_tail(n: int, least: int, p: float) -> float:
    """Return the probability of at least ``least`` successes in ``n`` trials of probability ``p``."""
    if least <= 0 or p >= 1:
        return 1.0
    if p <= 0 or least > n:
        return 0.0
    return min(1.0, math.fsum(math.exp(_log_mass(n, k, p)) for k in range(least, n + 1)))


def _log_mass(n: int, k: int, p: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(p) + (n - k) * math.log1p(-p)


def _bisect(holds_at: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds_at(middle) else (low, middle)
    return low
