"""The verdict on one candidate against what runs: promote, reject or inconclusive, at any look. Pure.

The candidate's effects are log ratios to the incumbent of the objective's metric, of which less is better. Two
e-processes look at the same units: one for a gain of more than the margin, one for harm of more than its margin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgepick_host.core.experiment.evidence import Tally, above, below, least_units, reaches
from edgepick_host.core.experiment.intervals import Range, median_sequence
from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError


class Verdict(StrEnum):
    """What a look at a candidate says."""

    PROMOTE = "promote"
    """It gains more than the margin; being wrong about that has a probability of at most alpha, over all looks."""
    REJECT = "reject"
    """It harms by more than the margin of harm, likewise."""
    INCONCLUSIVE = "inconclusive"
    """Neither is shown; what runs stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What counts as better and as worse, and how often one may be wrong.

    Attributes:
        alpha: Most probability of promoting a candidate that does not gain more than the margin.
        alpha_harm: Most probability of rejecting one that does no harm.
        gain: Least relative gain (0.02 is 2 % less); negative for a loss that is accepted.
        harm: Relative loss above which a candidate harms.
        least: Fewest units before any verdict.
    """

    alpha: Fraction = Fraction(1, 20)
    alpha_harm: Fraction = Fraction(1, 10)
    gain: float = 0.0
    harm: float = 0.0
    least: int = 1

    def __post_init__(self) -> None:
        """Refuse rules under which nothing can be wrong, or a gain of everything."""
        if not (0 < self.alpha < 1 and 0 < self.alpha_harm < 1):
            raise MalformedError("an error rate lies between 0 and 1")
        if not (self.gain < 1 and self.harm >= 0 and self.least >= 1):
            raise MalformedError("a gain is below 1, a harm 0 or more, and at least one unit is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a look found.

    Attributes:
        verdict: What follows.
        gain: Units that gain more than the margin.
        harm: Units that lose more than the margin of harm.
        range: Where the median effect lies, valid at every look, two-sided with the rate ``alpha``; log ratio.
        needed: Units that would have sufficed if all had gained.
    """

    verdict: Verdict
    gain: Tally
    harm: Tally
    range: Range
    needed: int


def look(effects: Sequence[float], rules: Rules) -> Finding:
    """Return what these units say; their order does not matter, and a look costs nothing.

    A unit without a figure counts for neither side if it is left out, and as harm if it is given as infinity: that is
    how a device is counted that fell silent after it was given the candidate.
    """
    gain = below(effects, math.log1p(-rules.gain))
    harm = above(effects, math.log1p(rules.harm))
    enough = len(effects) >= rules.least
    verdict = Verdict.INCONCLUSIVE
    if enough and reaches(gain, rules.alpha):
        verdict = Verdict.PROMOTE
    elif enough and reaches(harm, rules.alpha_harm):
        verdict = Verdict.REJECT
    return Finding(
        verdict=verdict,
        gain=gain,
        harm=harm,
        range=median_sequence(effects, rules.alpha),
        needed=max(rules.least, least_units(rules.alpha)),
    )
