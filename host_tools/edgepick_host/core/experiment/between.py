"""Two arms of devices beside each other, for what no device can compare by itself: how often it fails. Pure.

- A unit is a pair: one device that was given the candidate and one that keeps what it runs. Who belongs together is
  drawn with the arms, before anything is known of outcomes, and never changes.
- A device counts for the arm that it was drawn into, whether it took the candidate or not (intention to treat). Falling
  silent is failing, in either arm.
- In each pair, the question is which of the two fails first. If the candidate fails no more often, either is as likely
  (McNemar 1947), whatever the devices of this fleet do otherwise; the sign e-process may look at that after every
  report. A pair in which nobody failed, or both in the same look, says nothing.
- That the candidate is *not worse* is claimed once, at the end that was fixed beforehand, and by a bound over the pairs
  whose devices both answered at some time since the offer: before that nothing can be laid to any arm.
- Silence that is not spread over the arms as by chance stops the comparison by itself (a sample-ratio check): the pairs
  are drawn one to one, so the ratio is 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgepick_host.core.experiment.evidence import Tally, is_rate, reaches
from edgepick_host.core.experiment.intervals import binomial_tail, share_lower, share_upper
from edgepick_host.core.experiment.shakedown import POWER, power
from edgepick_wire.errors import MalformedError

RATIO_ALARM = 0.001
"""Below this p-value the devices that are silent are not spread over the arms as by chance; nothing is concluded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """How the arms are compared.

    Attributes:
        share: Of each stratum, the devices that are given the candidate; as many of the others are compared with them.
        seconds: For how long, from the moment at which the candidates are settled.
        max_excess: Share of devices by which more may fail: the candidate goes on if that is excluded.
    """

    share: float = 0.5
    seconds: float = 3600.0
    max_excess: float = 0.05

    def __post_init__(self) -> None:
        """Refuse arms that are empty, and an excess of nothing or everything."""
        if not (0 < self.share < 1 and is_rate(self.max_excess)):
            raise MalformedError(
                "a comparison between devices needs a share above 0 and below 100 %, and a max_excess between 0.0001 % "
                f"and 99.9999 %; found {self.share!r} and {self.max_excess!r}"
            )
        if not 0 <= self.seconds < math.inf:
            raise MalformedError(f"a comparison between devices takes a finite time; found {self.seconds!r} seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A device of one arm.

    Attributes:
        struck: When it failed first; ``None`` if it did not.
        reached: It answered at some time since the candidate was offered, whichever arm it is in.
        answers: It answers now.
    """

    struck: float | None = None
    reached: bool = True
    answers: bool = True

    @property
    def heard(self) -> bool:
        """Whether it can still tell something."""
        return self.reached and self.answers

    @property
    def lost(self) -> bool:
        """Whether it failed, or fell silent, which is no better."""
        return self.struck is not None or not self.answers


Pair = tuple[Subject, Subject]
"""The device with the candidate, then the one without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a comparison came to: whether the candidate may go on, and why, as a sentence without a stop."""

    goes_on: bool
    text: str


def first_to_fail(pairs: Sequence[Pair]) -> Tally:
    """Return the pairs in which one failed before the other, and of those where it was the candidate."""
    moments = [(_moment(candidate), _moment(incumbent)) for candidate, incumbent in pairs]
    unlike = [candidate < incumbent for candidate, incumbent in moments if candidate != incumbent]
    return Tally(wins=sum(unlike), units=len(unlike))


def harm_shown(pairs: Sequence[Pair], alpha: Fraction) -> str:
    """Return why the candidate is shown to fail more often, at any look; nothing if it is not."""
    tally = first_to_fail(pairs)
    if 2 * tally.wins <= tally.units or not reaches(tally, alpha):
        return ""
    return f"in {tally.wins} of {tally.units} pairs of devices of which one failed, the candidate's was the first"


def conclude(pairs: Sequence[Pair], rules: Between, alpha: float) -> Conclusion:
    """Return what follows at the end of the comparison, at an error rate of ``alpha``."""
    silent = silent_sides(pairs)
    if ratio_alarm(silent.wins, silent.units):
        return Conclusion(
            goes_on=False,
            text=f"the arms are not what was drawn: of {silent.units} pairs of which one device is silent, it is the "
            f"candidate's in {silent.wins}; nothing is concluded from those that are left",
        )
    told = [(a, b) for a, b in pairs if a.reached and b.reached]
    excess = most_excess(told, alpha)
    said = f"{len(told)} pairs of devices: at most {excess:.1%} more devices fail than before"
    if excess <= rules.max_excess:
        return Conclusion(goes_on=True, text=said)
    return Conclusion(goes_on=False, text=f"{said} is all that they show; {rules.max_excess:.1%} is asked")


def silent_sides(pairs: Sequence[Pair]) -> Tally:
    """Return the pairs of which one device is not heard of, and of those where it is the candidate's."""
    silent = [b.heard for a, b in pairs if a.heard is not b.heard]
    return Tally(wins=sum(silent), units=len(silent))


def most_excess(pairs: Sequence[Pair], alpha: float) -> float:
    """Return the upper bound of the share of devices by which more fail with the candidate; 1 for no pairs.

    The excess is the share of pairs in which only the candidate was lost less that in which only the other was, each
    bounded by Clopper and Pearson at half of ``alpha``.
    """
    if not pairs:
        return 1.0
    only = [sum(a.lost and not b.lost for a, b in each) for each in (pairs, _swapped(pairs))]
    return share_upper(only[0], len(pairs), alpha / 2) - share_lower(only[1], len(pairs), alpha / 2)


def prospect(pairs: int, rules: Between, base: float, alpha: Fraction, alpha_harm: Fraction) -> str:
    """Return, before anyone waits, what ``pairs`` pairs can show if the share ``base`` of devices fails anyway."""
    needed = math.ceil(math.log(float(alpha) / 2) / math.log1p(-rules.max_excess))
    best = most_excess([(Subject(), Subject())] * pairs, float(alpha))
    harmful = rate_detectable(base, pairs, alpha_harm)
    stops = (
        "no failure rate of the candidate would be found"
        if harmful is None
        else f"a failure rate of {harmful:.0%} is found"
    )
    few = f", too few for the {rules.max_excess:.1%} that are asked, which takes {needed} without a failure"
    return (
        f"{pairs} pairs of devices: at best an excess of {best:.1%} is excluded{few if pairs < needed else ''}; "
        f"{stops} with a probability of {POWER:.0%} where {base:.1%} fail anyway"
    )


def rate_detectable(base: float, pairs: int, alpha: Fraction, wanted: float = POWER) -> float | None:
    """Return the smallest failure rate of the candidate that ``pairs`` pairs would show; ``None`` if none would."""
    for step in range(1, 100):
        rate = step / 100
        unlike = rate * (1 - base) + base * (1 - rate)
        expected = math.floor(pairs * unlike)
        if rate > base and expected and power(rate * (1 - base) / unlike, expected, alpha) >= wanted:
            return rate
    return None


def ratio_p(candidates: int, units: int) -> float:
    """Return the two-sided exact p-value of "either arm is as likely"."""
    return min(1.0, 2 * binomial_tail(units, max(candidates, units - candidates), 0.5))


def ratio_alarm(candidates: int, units: int) -> bool:
    """Return whether one arm has more of the units than chance gives it."""
    return ratio_p(candidates, units) < RATIO_ALARM


def _moment(subject: Subject) -> float:
    return math.inf if subject.struck is None else subject.struck


def _swapped(pairs: Sequence[Pair]) -> list[Pair]:
    return [(b, a) for a, b in pairs]
