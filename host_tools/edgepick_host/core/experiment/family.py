"""Error rates over a whole campaign: several strata, several candidates, one promise. Pure.

The family is one rollout's decision: every candidate in every stratum. Its promise is that the chance of *any* false
promotion is at most alpha. Holm's procedure on p-values that are valid at every look keeps it under any dependence
(Holm, Scand. J. Statist. 6, 1979, 65-70), and is never weaker than dividing alpha evenly.
"""

from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def even_share(alpha: Fraction, hypotheses: int) -> Fraction:
    """Return what each of ``hypotheses`` gets of ``alpha``."""
    return alpha / max(1, hypotheses)


def holm(p_values: Mapping[Name, Fraction], alpha: Fraction) -> dict[Name, Fraction]:
    """Return the rate that each null hypothesis is held against: it falls if its p-value is at most that.

    The smallest p-value gets ``alpha/m``, the next ``alpha/(m-1)``, until one stands; the rest get what that one got.
    """
    ordered = sorted(p_values, key=lambda name: (p_values[name], str(name)))
    rates, rate = {}, even_share(alpha, len(ordered))
    for position, name in enumerate(ordered):
        if position == 0 or p_values[ordered[position - 1]] <= rate:
            rate = even_share(alpha, len(ordered) - position)
        rates[name] = rate
    return rates
