"""What an experiment can find before anyone waits for it: noise from an A/A run, and the detectable effect. Pure.

In an A/A run the candidate is what runs there already, so that every effect is noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist, median, stdev

from edgepick_host.core.experiment.evidence import least_wins
from edgepick_host.core.experiment.intervals import binomial_tail

TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
POWER = 0.9
EXACT_UNITS = 400
"""Up to so many units every path of the walk is followed, which takes time in proportion to their square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shakedown:
    """What an A/A run says about the experiment to come.

    Attributes:
        units: Units in it.
        sigma: Standard deviation of a unit's effect (log ratio), by the median absolute deviation.
        sigma_plain: The ordinary standard deviation; much larger if there are outliers.
        shift: Median effect; anything but noise around 0 is a defect of the experiment.
        suspicious: The range of the median leaves 0 out, so that the two sides of the pair are not alike.
    """

    units: int
    sigma: float
    sigma_plain: float
    shift: float
    suspicious: bool


def shake_down(effects: Sequence[float], rate: Fraction = Fraction(1, 100)) -> Shakedown | None:
    """Return what an A/A run of at least two units says; ``None`` for fewer."""
    if len(effects) < 2:
        return None
    middle = median(effects)
    wins = least_wins(len(effects), rate / 2)
    most = max(sum(e < 0 for e in effects), sum(e > 0 for e in effects))
    return Shakedown(
        units=len(effects),
        sigma=TO_SIGMA * median(abs(e - middle) for e in effects),
        sigma_plain=stdev(effects),
        shift=middle,
        suspicious=wins is not None and most >= wins,
    )


def power(win_probability: float, units: int, alpha: Fraction) -> float:
    """Return the chance that the e-process reaches ``1/alpha`` within ``units`` units.

    The number of wins walks up by one with ``win_probability``; paths that reach the boundary are taken out. Above
    ``EXACT_UNITS`` only its end is looked at, which promises less than there is: paths that were over the boundary and
    came back are left out.
    """
    if units > EXACT_UNITS:
        boundary = least_wins(units, alpha)
        return 0.0 if boundary is None else binomial_tail(units, boundary, win_probability)
    alive, reached = [1.0], 0.0
    for n in range(1, units + 1):
        after = [0.0] * (n + 1)
        for wins, chance in enumerate(alive):
            after[wins] += chance * (1 - win_probability)
            after[wins + 1] += chance * win_probability
        boundary = least_wins(n, alpha)
        if boundary is not None:
            reached += math.fsum(after[boundary:])
            after[boundary:] = [0.0] * (n + 1 - boundary)
        alive = after
    return min(1.0, reached)


def detectable(sigma: float, units: int, alpha: Fraction, *, gain: float = 0.0, wanted: float = POWER) -> float | None:
    """Return the smallest relative gain that would be found with probability ``wanted``; ``None`` if none would.

    Takes noise to be normal with ``sigma``; heavier tails with the same sigma are easier for a sign test.
    """
    if power(1.0, units, alpha) < wanted:
        return None
    low, high = 0.5, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, units, alpha) >= wanted else (middle, high)
    effect = math.log1p(-gain) - sigma * NormalDist().inv_cdf(min(high, 1 - 1e-9))
    return 1 - math.exp(effect)
