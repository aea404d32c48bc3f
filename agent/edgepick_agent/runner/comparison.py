"""How far a candidate's answers are from those that were given, and how long both took: counting, no more."""

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgepick_agent.core.summarise import quantile, summarise
from edgepick_agent.runner.tap import Counts
from edgepick_wire.shadow import OutputDifference, ShadowSummary

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

PER_MILLION = 1_000_000
"""Quotients of latencies are kept in millionths: the statistics are made for whole numbers."""


class Difference:
    """What is counted of one output."""

    def __init__(self) -> None:
        self._largest, self._sum, self._numbers = 0.0, 0.0, 0
        self._rows = self._agreeing = 0

    def add(self, active: "Array", candidate: "Array") -> None:
        """Take two answers of one shape, finite both."""
        apart = np.abs(active.astype(np.float64) - candidate.astype(np.float64))
        if apart.size:
            self._largest = max(self._largest, float(apart.max()))
        self._sum += float(apart.sum())
        self._numbers += apart.size
        if active.ndim == 2 and active.shape[1] > 1:
            self._rows += active.shape[0]
            self._agreeing += int(np.sum(active.argmax(axis=1) == candidate.argmax(axis=1)))

    def told(self, name: str) -> OutputDifference:
        """Return it for the report."""
        mean = self._sum / self._numbers if self._numbers else 0.0
        return OutputDifference(
            name=name, max_abs=self._largest, mean_abs=mean, rows=self._rows, agreeing=self._agreeing
        )


class Comparison:
    """All that a shadow has seen so far."""

    def __init__(self, against: str) -> None:
        self._against = against
        self._compared = self._misshapen = self._not_finite = self._failed = 0
        self._outputs: dict[str, Difference] = {}
        self._active_ns, self._candidate_ns = array("q"), array("q")

    @property
    def answered(self) -> int:
        """Requests that the candidate was given, whatever it made of them."""
        return self._compared + self._misshapen + self._not_finite + self._failed

    def fail(self) -> None:
        """Count a request to which the candidate gave no answer."""
        self._failed += 1

    def add(
        self, active: "Mapping[str, Array]", candidate: "Mapping[str, Array]", *, active_ns: int, candidate_ns: int
    ) -> None:
        """Count a request that both have answered: real numbers by output."""
        self._active_ns.append(active_ns)
        self._candidate_ns.append(candidate_ns)
        pairs = paired(active, candidate)
        if pairs is None:
            self._misshapen += 1
        elif not all(np.isfinite(other).all() for _, _, other in pairs):
            self._not_finite += 1
        else:
            self._compared += 1
            for name, one, other in pairs:
                self._outputs.setdefault(name, Difference()).add(one, other)

    def summary(self, counts: Counts, seconds: float) -> ShadowSummary:
        """Return everything so far."""
        ratios = sorted(
            round(PER_MILLION * mine / max(1, theirs))
            for mine, theirs in zip(self._candidate_ns, self._active_ns, strict=True)
        )
        middle = quantile(ratios, 0.5)
        return ShadowSummary(
            against=self._against,
            seconds=seconds,
            seen=counts.seen,
            drawn=counts.drawn,
            dropped=counts.dropped,
            compared=self._compared,
            misshapen=self._misshapen,
            not_finite=self._not_finite,
            failed=self._failed,
            outputs=tuple(difference.told(name) for name, difference in self._outputs.items()),
            active=summarise(self._active_ns) if ratios else None,
            candidate=summarise(self._candidate_ns) if ratios else None,
            ratio=None if middle is None else middle / PER_MILLION,
            slower=sum(ratio > PER_MILLION for ratio in ratios),
        )


def paired(active: "Mapping[str, Array]", candidate: "Mapping[str, Array]") -> "list[tuple[str, Array, Array]] | None":
    """Return the outputs that belong together, or ``None`` if they are not alike in number and shape.

    By name where the names are the same; else in their order, because converters name outputs as they like.
    """
    if len(active) != len(candidate):
        return None
    others = [candidate[name] for name in active] if active.keys() == candidate.keys() else list(candidate.values())
    pairs = [(name, one, other) for (name, one), other in zip(active.items(), others, strict=True)]
    return pairs if all(one.shape == other.shape for _, one, other in pairs) else None
