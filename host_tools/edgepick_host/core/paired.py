"""How sure a difference of two models on the same samples is, and how early it can be known. Pure.

The float model and a variant answer the *same* samples, so only the samples on which exactly one of them is right
carry information (McNemar 1947). ``lost`` counts those that only the float model answers right, ``gained`` those that
only the variant does; the drop is ``(lost - gained) / samples``.
"""

import math
from dataclasses import dataclass

Z_95 = 1.959964
"""97.5 % quantile of the standard normal distribution: a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % confidence interval of a loss, in share."""

    low: float
    high: float


def drop_interval(lost: int, gained: int, samples: int, z: float = Z_95) -> Interval:
    """Return the interval of an accuracy drop.

    Bonett and Price's adjusted Wald interval (J. Educ. Behav. Stat. 37, 2012, 479-488), which Fagerland, Lydersen and
    Laake recommend for paired proportions (Statistics in Medicine 33, 2014, 2850-2875). It holds for few samples and
    for none that differ.
    """
    only_float, only_variant = (lost + 1) / (samples + 2), (gained + 1) / (samples + 2)
    middle = only_float - only_variant
    half = z * math.sqrt((only_float + only_variant - middle**2) / (samples + 2))
    return Interval(low=max(-1.0, middle - half), high=min(1.0, middle + half))


def disagreement_interval(differing: int, samples: int, z: float = Z_95) -> Interval:
    """Return the interval of the share of samples answered otherwise (Wilson, JASA 22, 1927, 209-212)."""
    share, spread = differing / samples, z * z / samples
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / samples + spread / (4 * samples))
    return Interval(low=max(0.0, middle - half), high=min(1.0, middle + half))


def mcnemar_p(lost: int, gained: int) -> float:
    """Return the two-sided exact p-value of "neither model is better" (McNemar 1947, exact binomial form)."""
    differing = lost + gained
    tail = sum(math.comb(differing, k) for k in range(min(lost, gained) + 1))
    return min(1.0, float(2 * tail / 2**differing))


def least_loss(lost: int, gained: int, open_gains: int, samples: int) -> float:
    """Return the smallest drop that the whole set can still show. It is exact, not a matter of confidence.

    Args:
        lost: Samples so far that only the float model answers right.
        gained: Samples so far that only the variant answers right.
        open_gains: Samples to come that the float model answers wrong: the only ones that can win anything back.
        samples: Of the whole set.
    """
    return (lost - gained - open_gains) / samples
