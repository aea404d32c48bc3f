"""Choosing ranges by what they do to the model's answers, on calibration samples alone.

Coordinate descent: start from the best of the simple statistics, then move one tensor's range at a time, the layers
next to the output first, and keep what lowers the error of the answers. There are a few dozen ranges against thousands
of compared numbers, so that there is little to overfit. The steps are counted and not timed: the same inputs give the
same bytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

import numpy as np

from edgepick_host.compress.divergence import Errors
from edgepick_host.compress.observers import Method
from edgepick_host.compress.step import Range, StepContext
from edgepick_wire.ids import digest_of

STARTS = (Method.MINMAX, Method.PERCENTILE, Method.MSE, Method.ENTROPY)
FACTORS = ((0.95, 0.88, 0.8, 0.7, 0.55), (1.06, 1.15))
"""Of the present range, inwards and outwards; a range never gets wider than what was seen."""
ROUNDS = 3
NEGLIGIBLE = 5e-4
"""Nats, or share of variance: models that answer this near to the float model are not worth a search. (MLPerf Tiny's
published ResNet8 in int8 is at 0.03.)"""
GAIN = 0.002
"""A move must lower the error by this share at least."""

AUTO = "auto"
"""The calibration that decides everything by itself."""
LEAST_SAMPLES = 32
"""With fewer, nothing is fitted: half of them would say nothing about the other half."""
MOST_MODELS, FEWEST_MODELS = 400, 40
"""Models that the search for ranges judges."""
WORK = 2_000_000_000_000
"""Multiplications that it may spend, about two minutes of one core; large models are judged less often."""

Ranges = Mapping[str, Range]


class Quantizer(Protocol):
    """Quantizes one float model again and again, with other ranges each time."""

    @property
    def ranged(self) -> tuple[str, ...]:
        """Names of the tensors whose range matters, in the graph's order."""
        ...

    def calibrated(self, context: StepContext, method: Method) -> dict[str, Range]:
        """Return a range for every tensor."""
        ...

    def quantized(self, ranges: Ranges) -> bytes:
        """Return the model with these ranges."""
        ...


class Judge(Protocol):
    """Measures models against one float model."""

    def errors(self, model: bytes) -> Errors:
        """Return each sample's error."""
        ...


def affordable(multiplications: int, samples: int) -> int:
    """Return how many models the search may judge.

    Args:
        multiplications: Of one inference.
        samples: That each model is judged on.
    """
    return int(np.clip(WORK // max(multiplications * samples, 1), FEWEST_MODELS, MOST_MODELS))


@dataclass(slots=True)
class Descent:
    """The best ranges so far.

    Attributes:
        quantizer: Makes the models.
        fidelity: Judges them.
        left: How many models may still be judged.
        best: The ranges with the least error.
        error: Theirs.
    """

    quantizer: Quantizer
    fidelity: Judge
    left: int
    best: Ranges = field(default_factory=dict)
    error: float = inf
    _known: set[str] = field(default_factory=set)

    def offer(self, ranges: Ranges) -> bool | None:
        """Keep these ranges if they are better; return whether, or ``None`` if they change nothing."""
        model = self.quantizer.quantized(ranges)
        digest = digest_of(model)
        if digest in self._known:
            return None
        self._known.add(digest)
        self.left -= 1
        error = float(self.fidelity.errors(model).mean())
        if error >= (1 - GAIN) * self.error:
            return False
        self.best, self.error = dict(ranges), error
        return True


def search_ranges(quantizer: Quantizer, fidelity: Judge, context: StepContext, *, models: int) -> Ranges:
    """Return the ranges found within so many models; learned ones stay as they are.

    Args:
        quantizer: Of the model, with its statistics.
        fidelity: Against the float model.
        context: For learned ranges.
        models: How many may be judged.
    """
    descent = Descent(quantizer, fidelity, models)
    starts = [quantizer.calibrated(context, method) for method in STARTS]
    for start in starts:
        descent.offer(start)
    free = [name for name in reversed(quantizer.ranged) if name not in context.ranges]
    for _ in range(ROUNDS):
        before = descent.best
        for name in free if descent.error > NEGLIGIBLE else ():
            _move(descent, name, starts[0][name])
        if descent.best == before:
            break
    return descent.best


def _move(descent: Descent, name: str, widest: Range) -> None:
    """Move one tensor's ends together, then each of two by itself, in and out, as long as it helps."""
    for ends in _directions(widest):
        for factors in FACTORS:
            if _walk(descent, name, widest, ends, factors) is None:
                return


def _walk(
    descent: Descent, name: str, widest: Range, ends: tuple[bool, bool], factors: tuple[float, ...]
) -> bool | None:
    """Try each factor of where the tensor's range began; return whether one helped, ``None`` if none can."""
    start, helped = descent.best[name], False
    for factor in factors:
        moved = _scaled(start, factor, ends, widest)
        if descent.left <= 0 or moved == descent.best[name]:
            break
        kept = descent.offer({**descent.best, name: moved})
        if kept is None:
            return None
        helped |= kept
    return helped


def _directions(widest: Range) -> Iterator[tuple[bool, bool]]:
    yield True, True
    if widest[0] < 0 < widest[1]:
        yield False, True
        yield True, False


def _scaled(ends: Range, factor: float, which: tuple[bool, bool], widest: Range) -> Range:
    low, high = (end * factor if move else end for end, move in zip(ends, which, strict=True))
    return max(low, widest[0]), min(high, widest[1])
