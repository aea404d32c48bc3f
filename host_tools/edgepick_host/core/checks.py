"""What is measured once more where a variant has been installed, and how much worse it may have become. Pure.

    p95 <= +10% and memory <= 60 MiB

Rules:
- ``+10%`` is measured from what the same device measured of the variant that it ran before; where it ran none, from
  the new variant as it was measured before its installation.
- A device that was not measured before is held to the median of its stratum.
- Energy is held against energy of the same kind: net against net, or, where either of the two is withheld, gross
  against gross. A limit in joules is one on the net energy; a gross one within it keeps it too.
- A figure that does not come is not a figure that was kept.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from edgepick_host.core.asked import METRICS
from edgepick_host.core.constraints import Bounded, Constraint, parse_constraints
from edgepick_host.core.experiment.quads import plausible
from edgepick_host.core.figures import EnergyKind, measured_value
from edgepick_host.core.plausible import unusable
from edgepick_host.errors import ConfigError
from edgepick_wire.errors import MalformedError
from edgepick_wire.messages import MeasuredVariant
from edgepick_wire.metrics import Measurement

FIGURES = (Bounded.LATENCY, Bounded.TAIL, Bounded.MEMORY, Bounded.ENERGY)
"""What a measurement on a device tells; size and accuracy do not change by being installed."""
MOST_GROWTH = 1000.0
"""Nobody means more; and beyond it, a limit might be no finite number."""
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
    """What one device has to keep, in the figure's base unit.

    Attributes:
        figure: Of what.
        most: How much it may be.
        before: What it was.
        kind: Of energy, which one both are about: of two limits the gross one holds where no net figure comes.
    """

    figure: Bounded
    most: float
    before: float | None = None
    kind: EnergyKind | None = None


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
    if check.growth is not None and check.growth > MOST_GROWTH:
        raise MalformedError(f"check {text!r}: a growth of more than {MOST_GROWTH:.0%} limits nothing; leave it out")
    if check.figure not in FIGURES:
        raise MalformedError(f"check {text!r}: devices measure {', '.join(FIGURES)} after an installation")
    return check


def figure_of(figure: Bounded, measurement: Measurement, kind: EnergyKind | None = None) -> float | None:
    """Return a figure of a measurement in its base unit; ``None`` if it is not in it.

    Energy is gross unless ``kind`` says otherwise: that one is there wherever energy was measured.
    """
    return measured_value(METRICS[figure], measurement, kind or EnergyKind.GROSS)


def _kinds(figure: Bounded) -> Sequence[EnergyKind | None]:
    return tuple(EnergyKind) if figure is Bounded.ENERGY else (None,)


def _figures(figure: Bounded, measurement: Measurement) -> dict[EnergyKind | None, float]:
    """Return a figure in each kind in which it is told."""
    told = {kind: figure_of(figure, measurement, kind) for kind in _kinds(figure)}
    return {kind: value for kind, value in told.items() if value is not None}


def limits(
    checks: Sequence[Check], before: Mapping[str, Measurement], devices: Sequence[str]
) -> Mapping[str, tuple[Limit, ...]]:
    """Return what each of ``devices`` has to keep, given what was measured of what it ran before.

    Raises:
        LookupError: No device was measured in a figure whose growth is limited; the text says in which.
    """
    middle = {}
    for check in checks:
        middle[check.figure] = _middle(check.figure, before.values())
        if not middle[check.figure] and check.most is None:
            raise LookupError(f"no device has measured {check.figure} of what runs there, so {check} means nothing")
    return {
        device: tuple(limit for check in checks for limit in _limits(check, before.get(device), middle[check.figure]))
        for device in devices
    }


def _middle(figure: Bounded, before: Iterable[Measurement]) -> dict[EnergyKind | None, float]:
    """Return the median of a figure in each kind that everybody tells who tells it at all."""
    each = [told for m in before if (told := _figures(figure, m))]
    shared = [kind for kind in _kinds(figure) if each and all(kind in told for told in each)]
    return {kind: median(told[kind] for told in each) for kind in shared}


def typical(kept: Sequence[tuple[Limit, ...]]) -> tuple[Limit, ...]:
    """Return what a device has to keep of which nothing was measured: the median of what the others have to."""
    each = [{(limit.figure, limit.kind): limit.most for limit in found} for found in kept if found]
    shared = [key for key in (each[0] if each else ()) if all(key in found for found in each)]
    return tuple(
        Limit(figure=figure, most=median(found[figure, kind] for found in each), kind=kind) for figure, kind in shared
    )


def _limits(check: Check, measured: Measurement | None, middle: Mapping[EnergyKind | None, float]) -> Iterator[Limit]:
    own = {} if measured is None else _figures(check.figure, measured)
    before = own or middle
    for kind in _kinds(check.figure):
        was = before.get(kind)
        most = was * (1 + (check.growth or 0.0)) if check.most is None and was is not None else check.most
        if most is not None:
            yield Limit(figure=check.figure, most=most, before=was, kind=kind)


def breach(kept: Sequence[Limit], result: MeasuredVariant) -> str:
    """Return why a device that was measured after its installation has failed; nothing if it kept its limits."""
    if result.measurement is None:
        return (
            f"could not be measured after the installation: {result.refusal.detail if result.refusal else 'no reason'}"
        )
    if why := unusable(result.measurement):
        return f"its measurement after the installation is invalid: {why}"
    found = (_broken(limit, value) for limit, value in _holding(kept, result.measurement))
    return "; ".join(text for text in found if text)


def _holding(kept: Sequence[Limit], measurement: Measurement) -> Iterable[tuple[Limit, float | None]]:
    """Return one limit on each figure, with its value: the first one whose kind was told."""
    found: dict[Bounded, tuple[Limit, float | None]] = {}
    for limit in kept:
        if limit.figure not in found or found[limit.figure][1] is None:
            found[limit.figure] = limit, figure_of(limit.figure, measurement, limit.kind)
    return found.values()


def grown(kept: Sequence[Limit], result: MeasuredVariant) -> float | None:
    """Return the log ratio of the first limited figure to what it was before; ``None`` where one of them is missing."""
    if not kept or result.measurement is None or unusable(result.measurement):
        return None
    for limit in kept:
        value, before = figure_of(limit.figure, result.measurement, limit.kind), limit.before
        if limit.figure is kept[0].figure and value is not None and before is not None and plausible((value, before)):
            return math.log(value / before)
    return None


def _broken(limit: Limit, value: float | None) -> str:
    if value is None:
        return f"did not report {limit.figure} after the installation"
    if value <= limit.most:
        return ""
    known = f", {value / limit.before - 1:+.0%} of {_text(limit, limit.before)} before" if limit.before else ""
    what = "energy, gross of idle power," if limit.kind is EnergyKind.GROSS else str(limit.figure)
    return f"{what} is {_text(limit, value)} after the installation{known}; at most {_text(limit, limit.most)}"


def _text(limit: Limit, value: float) -> str:
    shown = Constraint(figure=limit.figure, limit=float(f"{value:.3g}"))
    return str(shown).partition("<= ")[2]
