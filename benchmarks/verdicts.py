"""Figures beside their targets: one table, or JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, and what it is to be; without a target it is for information."""

    name: str
    found: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; ``None`` without one."""
        if self.at_most is not None:
            return self.found <= self.at_most
        return None if self.at_least is None else self.found >= self.at_least


def as_table(figures: Sequence[Figure]) -> str:
    """Return one line per figure: what was found, what was wanted, yes or no."""
    width = max(len(figure.name) for figure in figures)
    head = f"{'':<{width}} {'found':>10} {'':<6} {'target':>10} reached"
    return "\n".join((head, *(_line(figure, width) for figure in figures)))


def _line(figure: Figure, width: int) -> str:
    target = ""
    if figure.at_most is not None:
        target = f"<= {figure.at_most:g}"
    elif figure.at_least is not None:
        target = f">= {figure.at_least:g}"
    verdict = {None: "", True: "yes", False: "NO"}[figure.reached]
    return f"{figure.name:<{width}} {figure.found:>10.3f} {figure.unit:<6} {target:>10} {verdict}".rstrip()


def as_json(machine: Sequence[str], figures: Sequence[Figure]) -> str:
    """Return the same as JSON, with what it was measured on."""
    listed = [{**asdict(figure), "reached": figure.reached} for figure in figures]
    return json.dumps({"machine": list(machine), "figures": listed}, indent=2)
