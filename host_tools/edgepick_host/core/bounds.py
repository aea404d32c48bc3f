"""Which variant a candidate must beat to be worth anything, and whether it still can. Pure, and exact.

Operators, number types and layout decide what a model's inference costs on a device. Of two models that are equal in
these, the one that is no larger, no larger when compressed, and answers better is better in every respect: the other
is on nobody's Pareto front. Its size is known before it is evaluated, so all that is left to find out is whether it
answers better; evaluation stops as soon as it cannot.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from edgepick_host.core.recipes import traits
from edgepick_host.core.variants import Recipe, Step

_NUMBERS_ONLY = ("_equalize", "_cluster", "_prune")
"""Ends of the names of file passes that change weights and nothing else."""

_FREE = frozenset({"calibration", "bias_correction", "rounding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What is known of a model before it is evaluated, and its loss if it was.

    Attributes:
        work: As :func:`work_of` has it.
        zipped_bytes: Compressed, as it travels.
        loss: On the evaluation set, in share; ``None`` before it is evaluated.
    """

    name: str
    work: str
    size_bytes: int
    zipped_bytes: int
    loss: float | None = None


def work_of(recipe: Recipe) -> str:
    """Return what a device has to do: equal for models with the same operators on tensors of the same types.

    2:4 pruning counts as other work, because there are devices that save time with it.
    """
    rewriting = [step for step in recipe.steps if not _changes_numbers_only(step)]
    steps = [
        f"{step.pass_name}{sorted((k, v) for k, v in step.parameters.items() if k not in _FREE)}"
        for step in (*recipe.training, *rewriting)
    ]
    return f"{recipe.format.value} {' '.join(steps)} {sorted(traits(recipe).number_types)}"


def _changes_numbers_only(step: Step) -> bool:
    return step.pass_name.endswith(_NUMBERS_ONLY) and step.parameters.get("pattern") != "2:4"


def to_beat(candidate: Contender, kept: Iterable[Contender]) -> Contender | None:
    """Return the kept one that answers best of those that cost no more than the candidate; ``None`` if none does."""
    cheaper = [each for each in kept if each.loss is not None and _costs_no_more(each, candidate)]
    return min(cheaper, key=lambda each: (each.loss, each.size_bytes, each.zipped_bytes), default=None)


def is_hopeless(candidate: Contender, rival: Contender, least_loss: float) -> bool:
    """Return whether the candidate cannot be on the front whatever it answers.

    Args:
        candidate: Not evaluated yet.
        rival: That it has to beat.
        least_loss: That any model can have: that of one which answers everything right that can be answered right.
    """
    costs_more = (candidate.size_bytes, candidate.zipped_bytes) != (rival.size_bytes, rival.zipped_bytes)
    return costs_more and rival.loss is not None and rival.loss <= least_loss


def _costs_no_more(a: Contender, b: Contender) -> bool:
    return a.work == b.work and a.size_bytes <= b.size_bytes and a.zipped_bytes <= b.zipped_bytes
