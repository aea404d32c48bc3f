"""What is measured once more where a variant has been installed, and how much worse it may have become. Pure.

    p95 <= +10% and memory <= 60 MiB

Rules:
- ``+10%`` is measured from what the same device measured of the variant that it ran before; where it ran none, from
  the new variant as it was measured before its installation.
- A device that was not measured before is held to the median of its stratum.
- A figure that does not come is not a figure that was kept.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from edgepick_host.core.asked import METRICS
from edgepick_host.core.constraints import Bounded, Constraint, parse_constraints
from edgepick_host.core.experiment.quads import plausible
from edgepick_host.core.figures import measured_value
from edgepick_host.core.plausible import unusable
from edgepick_host.errors import ConfigError
from edgepick_wire.errors import MalformedError
from edgepick_wire.messages import MeasuredVariant
from edgepick_wire.metrics import Measurement

FIGURES = (Bounded.LATENCY, Bounded.TAIL, Bounded.MEMORY, Bounded.ENERGY)
"""What a measurement on a device tells; size and accuracy do not change by being installed."""
PREFIX = "after-"
_RELATIVE = re.compile(r"([a-z0-9]+) ?<= ?\+ ?(\d+(?:\.\d+)?) ?%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure, and either its limit in its base unit or the most that it may grow by, as a share."""

    figure: Bounded
    most: float | None = None
    growth: float | None = None

    def __str__(self) -> str:
        if self.most is not None:
            return str(Constraint(figure=self.figure, limit=self.most))
        return f"{self.figure} <= +{(self.growth or 0) * 100:g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What one device has to keep, in the figure's base unit; ``before`` is what it was."""

    figure: Bounded
    most: float
    before: float | None = None


def request_id(rollout: str) -> str:
    """Return the id of the order to measure once more."""
    return f"{PREFIX}{rollout}"[:64]


@lru_cache(maxsize=64)
def parse_checks(text: str) -> tuple[Check, ...]:
    """Return the checks that a person wrote; nothing means none.

    Raises:
        MalformedError: Unreadable, a figure that no device measures, or one that is limited twice.
    """
    if not text.strip():
        return ()
    found = tuple(_check(" ".join(part.lower().split())) for part in text.split(" and "))
    if len({check.figure for check in found}) != len(found):
        raise MalformedError(f"check {text!r}: one figure is limited twice; leave one")
    return found


def _check(text: str) -> Check:
    relative = _RELATIVE.fullmatch(text)
    try:
        if relative:
            check = Check(figure=Bounded(relative[1]), growth=float(relative[2]) / 100)
        else:
            (constraint,) = parse_constraints(text)
            check = Check(figure=constraint.figure, most=constraint.limit)
    except (ConfigError, ValueError) as error:
        raise MalformedError(f"check {text!r}: expected 'p95 <= +10%' or 'memory <= 60 MiB' ({error})") from error
    if check.figure not in FIGURES:
        raise MalformedError(f"check {text!r}: devices measure {', '.join(FIGURES)} after an installation")
    return check


def figure_of(figure: Bounded, measurement: Measurement) -> float | None:
    """Return a figure of a measurement in its base unit; ``None`` if it is not in it."""
    return measured_value(METRICS[figure], measurement)


def limits(
    checks: Sequence[Check], before: Mapping[str, Measurement], devices: Sequence[str]
) -> Mapping[str, tuple[Limit, ...]]:
    """Return what each of ``devices`` has to keep, given what was measured of what it ran before.

    Raises:
        LookupError: No device was measured in a figure whose growth is limited; the text says in which.
    """
    middle = {}
    for check in checks:
        known = [v for m in before.values() if (v := figure_of(check.figure, m)) is not None]
        if not known and check.most is None:
            raise LookupError(f"no device has measured {check.figure} of what runs there, so {check} means nothing")
        middle[check.figure] = median(known) if known else None
    return {
        device: tuple(_limit(check, before.get(device), middle[check.figure]) for check in checks) for device in devices
    }


def typical(kept: Sequence[tuple[Limit, ...]]) -> tuple[Limit, ...]:
    """Return what a device has to keep of which nothing was measured: the median of what the others have to."""
    each = zip(*(found for found in kept if found), strict=True)
    return tuple(Limit(figure=same[0].figure, most=median(limit.most for limit in same)) for same in each)


def _limit(check: Check, measured: Measurement | None, middle: float | None) -> Limit:
    own = None if measured is None else figure_of(check.figure, measured)
    before = middle if own is None else own
    most = check.most if check.most is not None else (before or 0.0) * (1 + (check.growth or 0.0))
    return Limit(figure=check.figure, most=most, before=before)


def breach(kept: Sequence[Limit], result: MeasuredVariant) -> str:
    """Return why a device that was measured after its installation has failed; nothing if it kept its limits."""
    if result.measurement is None:
        return (
            f"could not be measured after the installation: {result.refusal.detail if result.refusal else 'no reason'}"
        )
    if why := unusable(result.measurement):
        return f"its measurement after the installation is invalid: {why}"
    found = (_broken(limit, figure_of(limit.figure, result.measurement)) for limit in kept)
    return "; ".join(text for text in found if text)


def grown(kept: Sequence[Limit], result: MeasuredVariant) -> float | None:
    """Return the log ratio of the first limited figure to what it was before; ``None`` where one of them is missing."""
    if not kept or result.measurement is None or unusable(result.measurement):
        return None
    value, before = figure_of(kept[0].figure, result.measurement), kept[0].before
    if value is None or before is None or not plausible((value, before)):
        return None
    return math.log(value / before)


def _broken(limit: Limit, value: float | None) -> str:
    if value is None:
        return f"did not report {limit.figure} after the installation"
    if value <= limit.most:
        return ""
    known = f", {value / limit.before - 1:+.0%} of {_text(limit, limit.before)} before" if limit.before else ""
    return f"{limit.figure} is {_text(limit, value)} after the installation{known}; at most {_text(limit, limit.most)}"


def _text(limit: Limit, value: float) -> str:
    shown = Constraint(figure=limit.figure, limit=float(f"{value:.3g}"))
    return str(shown).partition("<= ")[2]
