"""Which candidate another beats for certain: Pareto by ranges, not by points. Pure."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from edgepick_host.core.experiment.evidence import least_units
from edgepick_host.core.experiment.intervals import NOTHING, Range, median_sequence

RATE = Fraction(1, 20)


def paired_range(differences: Sequence[float]) -> Range:
    """Return where one candidate lies against another, from their differences on the same devices.

    With 8 devices or more, it is the range of the median at 95 % (valid at every look). With fewer, no such range
    exists: it is then everything that was observed, and holds for these devices only.
    """
    if not differences:
        return NOTHING
    if len(differences) < least_units(RATE / 2):
        return Range(low=min(differences), high=max(differences))
    return median_sequence(differences, RATE)


def dominates(differences: Mapping[str, Sequence[float]]) -> bool:
    """Return whether the first candidate is at least as good in everything and better in something, beyond doubt.

    Args:
        differences: By metric, the first candidate's figure less the second's (or its log ratio), on each device that
            measured both; less is better. A metric without any is doubt enough.
    """
    ranges = [paired_range(d) for d in differences.values()]
    highs = [r.high for r in ranges]
    known = [h for h in highs if h is not None]
    return bool(known) and len(known) == len(highs) and all(h <= 0 for h in known) and any(h < 0 for h in known)
