"""The rows of the table that ``make prove-selection`` prints."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: what was simulated, what came out, what is allowed, and what a peeking t-test does."""

    case: str
    measured: float
    relation: str
    limit: float
    unit: str = "%"
    beside: str = ""

    @property
    def kept(self) -> bool:
        """Whether the figure is within its limit."""
        return self.measured <= self.limit if self.relation == "<=" else self.measured >= self.limit


def at_most(rate: float, runs: int) -> float:
    """Return a limit in percent with three standard errors of a simulation of ``runs`` runs."""
    return 100 * (rate + 3 * math.sqrt(rate * (1 - rate) / runs))
