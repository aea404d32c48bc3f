"""What an operator will not accept, whatever the objective gains: ``accuracy >= 0.97 and p95 <= 20 ms``. Pure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgepick_host.errors import ConfigError
from edgepick_wire.enums import StrEnum


class Bounded(StrEnum):
    """A figure that can be limited. Accuracy has a floor, everything else a cap."""

    ACCURACY = "accuracy"
    """Share answered as labelled, on the evaluation set."""
    LATENCY = "latency"
    """Median single-inference latency."""
    TAIL = "p95"
    """95th percentile of single-inference latency."""
    MEMORY = "memory"
    """Tensor arena where the runtime tells it exactly, else peak resident set."""
    SIZE = "size"
    """Model file size."""
    ENERGY = "energy"
    """Energy per inference, net of idle power where that was measured."""


_TIME = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024.0, "mib": 1024.0**2, "gib": 1024.0**3}
_ENERGY = {"uj": 1.0, "µj": 1.0, "mj": 1e3, "j": 1e6}
_SHARE = {"": 1.0, "%": 0.01}
UNITS = {
    Bounded.ACCURACY: _SHARE,
    Bounded.LATENCY: _TIME,
    Bounded.TAIL: _TIME,
    Bounded.MEMORY: _BYTES,
    Bounded.SIZE: _BYTES,
    Bounded.ENERGY: _ENERGY,
}
"""What each figure may be given in -> how many of its base unit (share, nanoseconds, bytes, microjoules) that is."""

_CONSTRAINT = re.compile(r"([a-z0-9]+) ?(<=|>=|≤|≥|<|>|=) ?([0-9.]+(?:e[+-]?[0-9]+)?) ?([a-zµ%]*)")
_SHOWN = {Bounded.LATENCY: "ns", Bounded.TAIL: "ns", Bounded.MEMORY: "b", Bounded.SIZE: "b", Bounded.ENERGY: "uj"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A limit on one figure, in its base unit: a floor for accuracy, a cap for everything else."""

    figure: Bounded
    limit: float

    @property
    def floor(self) -> bool:
        """Whether more is better."""
        return self.figure is Bounded.ACCURACY

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if self.floor else '<='} {_number(self)}".rstrip()


def _number(constraint: Constraint) -> str:
    """Return the limit in the largest unit that shows it exactly, so that reading it back gives the same number."""
    unit = _SHOWN.get(constraint.figure, "")
    known = {name: scale for name, scale in UNITS[constraint.figure].items() if name.isascii() and name != "%"}
    for name, scale in sorted(known.items(), key=lambda item: -item[1]):
        text = f"{constraint.limit / scale:g}"
        if constraint.limit >= scale and float(text) * scale == constraint.limit:
            return f"{text} {name}"
    return f"{constraint.limit!r} {unit}"


def parse_constraints(text: str) -> tuple[Constraint, ...]:
    """Return the limits in ``accuracy >= 0.97 and p95 <= 20 ms``, each figure at most once.

    Raises:
        ConfigError: Unreadable, a figure that nobody measures, a limit that nothing or everything keeps, or limits
            that contradict each other.
    """
    found = tuple(_constraint(part.strip()) for part in text.split(" and "))
    _check_once(text, found)
    return found


def _constraint(text: str) -> Constraint:
    match = _CONSTRAINT.fullmatch(" ".join(text.lower().split()))
    if match is None:
        raise _unreadable(text, "expected FIGURE <= NUMBER UNIT, or accuracy >= NUMBER")
    name, relation, digits, unit = match.groups()
    try:
        figure = Bounded(name)
    except ValueError as error:
        raise _unreadable(text, f"nobody measures {name!r}; a limit may be set on {', '.join(Bounded)}") from error
    if unit not in UNITS[figure]:
        allowed = ", ".join(u or "no unit" for u in UNITS[figure])
        raise _unreadable(text, f"{figure} is given in {allowed}, found {unit or 'no unit'!r}")
    try:
        constraint = Constraint(figure=figure, limit=float(digits) * UNITS[figure][unit])
    except ValueError as error:
        raise _unreadable(text, f"{digits!r} is no number") from error
    _check_relation(text, constraint, relation)
    return constraint


def _check_relation(text: str, constraint: Constraint, relation: str) -> None:
    rightly = (">=", "≥") if constraint.floor else ("<=", "≤")
    if relation not in rightly:
        what = "at least so much is wanted of it" if constraint.floor else "less of it is better"
        raise _unreadable(text, f"{constraint.figure} takes {rightly[0]}, because {what}; found {relation}")
    if not 0 < constraint.limit < math.inf or (constraint.floor and constraint.limit > 1):
        raise _unreadable(
            text, "no variant can keep it, or all do" if not constraint.floor else "accuracy lies above 0 up to 1"
        )


def _check_once(text: str, found: Sequence[Constraint]) -> None:
    figures = [c.figure for c in found]
    twice = sorted({f for f in figures if figures.count(f) > 1})
    if twice:
        said = ", ".join(str(c) for c in found if c.figure in twice)
        raise _unreadable(text, f"{', '.join(twice)} is limited twice ({said}); leave one")


def _unreadable(text: str, what: str) -> ConfigError:
    return ConfigError(
        f"constraint {text!r}: {what}",
        hint="For example: --objective 'minimise energy subject to accuracy >= 0.97 and p95 <= 20 ms'.",
    )
