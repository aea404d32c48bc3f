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


def holm(p_values: Mapping[Name, Fraction], alpha: Fraction) -> frozenset[Name]:
    """Return the names whose null hypothesis falls, with a family-wise error of at most ``alpha``."""
    ordered = sorted(p_values, key=lambda name: (p_values[name], str(name)))
    fallen = []
    for position, name in enumerate(ordered):
        if p_values[name] > alpha / (len(ordered) - position):
            break
        fallen.append(name)
    return frozenset(fallen)
