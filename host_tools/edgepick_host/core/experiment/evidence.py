"""How strongly paired units speak for a difference, valid at every look: the one-sided sign e-process. Pure, exact.

Each unit (a device, or a quad on one device) either *speaks for* the claim or it does not; a tie does not. If the claim
is wrong, each does so with probability at most 1/2 given all before it. A bet that it does so with probability ``p``
multiplies its stake by 2p for each of ``w`` units that do, and by 2(1-p) for each of the other ``n-w``. The stake is
divided among three such bets, and nothing is moved between them:

    E = 3/16 even + 10/16 tilted + 3/16 sure
    even   = 2**(n+1) * integral from 1/2 to 1 of p**w (1-p)**(n-w) dp = sum(C(n+1, k), k=0..w) / ((n+1) C(n, w))
    tilted = (4/3)**w (2/3)**(n-w)                  p = 2/3
    sure   = 2**n if w = n, else 0                  p = 1

(the integral is 2 * 2**n * B(1+w, 1+n-w) * I_{1/2}(1+n-w, 1+w); for whole numbers the regularised beta function is a
binomial tail). The even bet finds the smallest effects in the end, the sure one keeps the few unanimous units that
suffice, and the tilted one gains where it takes 20 to 100 units to tell: there, the even bet alone spends its stake on
probabilities that are far off (ADR 66 has the figures). E is a nonnegative supermartingale that starts at 1, so the
chance that it *ever* reaches 1/alpha is at most alpha (Ville 1939; Howard, Ramdas, McAuliffe, Sekhon 2021, arXiv
1810.08240; any mean of e-values is one: Vovk and Wang 2021, arXiv 1912.06116). No burn-in, no moments, no assumption
about tails, and nothing is lost by looking after every unit.

Everything here is a fraction of whole numbers: the same log gives the same decision on every machine.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import comb

from edgepick_wire.errors import MalformedError

EVEN, TILTED, SURE = Fraction(3, 16), Fraction(10, 16), Fraction(3, 16)
"""How the stake is divided: with these, 5 unanimous units suffice for 1/10 and 7 for 1/20, as with EVEN alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many of ``units`` speak for a claim."""

    wins: int
    units: int

    def __post_init__(self) -> None:
        """Refuse more wins than units."""
        if not 0 <= self.wins <= self.units:
            raise MalformedError(f"{self.wins} of {self.units} units cannot speak for anything")


def below(effects: Iterable[float], limit: float) -> Tally:
    """Return how many effects lie strictly below ``limit``; equality does not count."""
    known = list(effects)
    return Tally(wins=sum(e < limit for e in known), units=len(known))


def above(effects: Iterable[float], limit: float) -> Tally:
    """Return how many effects lie strictly above ``limit``; equality does not count."""
    known = list(effects)
    return Tally(wins=sum(e > limit for e in known), units=len(known))


def e_value(tally: Tally) -> Fraction:
    """Return the e-value of "at least half of all such units speak against it", exactly; 1 for no units."""
    n, w = tally.units, tally.wins
    even = Fraction(_tail(n + 1, w), (n + 1) * comb(n, w))
    tilted = Fraction(1 << (n + w), 3**n)
    sure = 1 << n if w == n else 0
    return EVEN * even + TILTED * tilted + SURE * sure


def reaches(tally: Tally, alpha: Fraction) -> bool:
    """Return whether the e-value is at least ``1/alpha``."""
    return e_value(tally) * alpha >= 1


def anytime_p(tally: Tally) -> Fraction:
    """Return the p-value that is valid at every look: min(1, 1/E)."""
    return min(Fraction(1), 1 / e_value(tally))


@cache
def least_wins(units: int, alpha: Fraction) -> int | None:
    """Return the fewest wins among ``units`` that reach ``1/alpha``; ``None`` if not even all of them do."""
    low, high = (units + 1) // 2, units
    if not reaches(Tally(wins=units, units=units), alpha):
        return None
    while low < high:
        middle = (low + high) // 2
        if reaches(Tally(wins=middle, units=units), alpha):
            high = middle
        else:
            low = middle + 1
    return low


@cache
def least_units(alpha: Fraction) -> int:
    """Return how many units suffice if every one speaks for the claim: 7 for 1/20, 5 for 1/10, 11 for 1/320."""
    units = 1
    while not reaches(Tally(wins=units, units=units), alpha):
        units += 1
    return units


def share(alpha: float) -> Fraction:
    """Return an error rate as the fraction that a person means by it: 0.05 is 1/20."""
    return Fraction(alpha).limit_denominator(1_000_000)


def is_rate(alpha: float) -> bool:
    """Return whether :func:`share` makes something between never and always of it; a millionth is the least."""
    return 0 < alpha < 1 and 0 < share(alpha) < 1


def _tail(n: int, w: int) -> int:
    """Return the sum of the first ``w + 1`` binomial coefficients of ``n``; for many, from the shorter side."""
    if 2 * w > n:
        return (1 << n) - _sum(n, n - w - 1)
    return _sum(n, w)


def _sum(n: int, last: int) -> int:
    total, term = 0, 1
    for k in range(last + 1):
        total += term
        term = term * (n - k) // (k + 1)
    return total
