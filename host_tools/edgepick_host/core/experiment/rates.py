"""How strongly a count of failures speaks for more of them than are tolerated, valid at every look. Pure, exact.

If each unit fails with probability at most ``t`` given all before it, a bet that it does so with probability ``p > t``
multiplies its stake by p/t for every failure and by (1-p)/(1-t) for every other unit, and cannot be expected to gain.
The stake is divided evenly among p = 2t, 4t, 8t ... below 1: whatever the true rate above 2t is, one of them is near.
By Ville's inequality the evidence ever reaches 1/alpha with probability at most alpha.
"""

import math
from fractions import Fraction
from functools import lru_cache

from edgepick_wire.errors import MalformedError

CLOSE = 1e-6
"""Where floating point is nearer to the boundary than this (relative), whole numbers decide."""


def rate_evidence(failed: int, units: int, tolerated: Fraction) -> Fraction:
    """Return the e-value of "at most the share ``tolerated`` of such units fail", exactly; 1 for no units.

    Raises:
        MalformedError: More failures than units, or a share that is not above 0 and below 1/2.
    """
    bets = _bets(failed, units, tolerated)
    stakes = ((p / tolerated) ** failed * ((1 - p) / (1 - tolerated)) ** (units - failed) for p in bets)
    return sum(stakes, Fraction(0)) / len(bets)


@lru_cache(maxsize=65_536)
def exceeds(failed: int, units: int, tolerated: Fraction, alpha: Fraction) -> bool:
    """Return whether it is shown, at every look with an error of at most ``alpha``, that more fail than tolerated."""
    if not failed:
        return False
    distance = _log_evidence(failed, units, tolerated) + math.log(alpha)
    if abs(distance) > CLOSE:
        return distance > 0
    return rate_evidence(failed, units, tolerated) * alpha >= 1


def least_failures(units: int, tolerated: Fraction, alpha: Fraction) -> int | None:
    """Return the fewest failures among ``units`` that are shown to be too many; ``None`` if not even all are."""
    return next((f for f in range(1, units + 1) if exceeds(f, units, tolerated, alpha)), None)


def _bets(failed: int, units: int, tolerated: Fraction) -> tuple[Fraction, ...]:
    if not 0 <= failed <= units:
        raise MalformedError(f"{failed} of {units} units cannot fail")
    if not 0 < tolerated < Fraction(1, 2):
        raise MalformedError("a tolerated share lies above 0 and below 1/2")
    count = math.ceil(math.log2(1 / tolerated)) - 1
    return tuple(tolerated * 2**k for k in range(1, count + 1))


def _log_evidence(failed: int, units: int, tolerated: Fraction) -> float:
    bets = _bets(failed, units, tolerated)
    right = -math.log1p(-float(tolerated))
    logs = [
        k * failed * math.log(2) + (units - failed) * (math.log1p(-float(p)) + right) for k, p in enumerate(bets, 1)
    ]
    most = max(logs)
    return most + math.log(math.fsum(math.exp(x - most) for x in logs) / len(bets))
