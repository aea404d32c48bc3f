"""Whether what is being rolled out does harm, looked at after everything that is heard. Pure.

Two e-processes look at each stratum, and share its error rate: one at the devices that failed among those that were
offered the variant, one at the devices that became slower. An alarm that is false is as rare as the rules say, however
often one looks; a plain share of a small wave is not.

Failures are heard of sooner than successes. That is why a device counts as soon as it was offered the variant, as one
that has not failed yet: the evidence is then never above what it will be once all of them have answered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgepick_host.core.experiment.evidence import above, reaches
from edgepick_host.core.experiment.rates import exceeds
from edgepick_wire.errors import MalformedError


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmRules:
    """What is no harm yet.

    Attributes:
        tolerated: Share of devices on which a healthy variant fails.
        slower: Relative growth of a device's metric that is borne.
        alpha: Most probability of a false alarm, over all looks at all strata.
    """

    tolerated: Fraction = Fraction(1, 200)
    slower: float = 0.05
    alpha: Fraction = Fraction(1, 10)

    def __post_init__(self) -> None:
        """Refuse rules under which everything or nothing is harm."""
        if not (0 < self.tolerated < Fraction(1, 2) and self.slower >= 0 and 0 < self.alpha < 1):
            raise MalformedError("tolerated failures lie above 0 and below 1/2, slower is 0 or more, alpha 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is known of the devices of one stratum that were given the variant.

    Attributes:
        failed: Devices that failed: reverted, refused, fell back or fell silent.
        counted: All that were offered it and can answer, whether they have or not.
        effects: Log ratio of each device's live metric to what it was before; less is better.
    """

    failed: int
    counted: int
    effects: Sequence[float] = ()


def alarm(watched: Watched, rules: HarmRules, *, strata: int = 1) -> str:
    """Return what harm is shown, as a sentence without a stop; nothing if none is.

    Args:
        watched: One stratum, with everything that is known of it: nothing may be left out that speaks against harm.
        rules: What is no harm yet.
        strata: How many are looked at, which share the error rate.
    """
    rate = rules.alpha / (2 * strata)
    if exceeds(watched.failed, watched.counted, rules.tolerated, rate):
        return (
            f"{watched.failed} of {watched.counted} devices failed, shown to be more than the "
            f"{float(rules.tolerated):.2%} that are tolerated"
        )
    slower = above(watched.effects, math.log1p(rules.slower))
    # Half of them or fewer are no evidence at all, which is not worth computing for every one of ten thousand.
    if 2 * slower.wins > slower.units and reaches(slower, rate):
        return f"{slower.wins} of {slower.units} devices are more than {rules.slower:.0%} worse than before"
    return ""
