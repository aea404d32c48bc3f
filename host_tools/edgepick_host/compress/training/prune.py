"""Magnitude pruning with training: by the polynomial schedule, at once, round by round, or as a lottery ticket.

Every procedure trains the module in place, holds the zeros after every optimizer step, and teaches with the answers of
the network as it was before: what is left has less to find out by itself.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from edgepick_host.compress.training.masks import Masks, dense_masks, magnitude_mask, prunable
from edgepick_host.compress.training.schedules import PolynomialDecay, rising_shares
from edgepick_host.compress.training.step import TrainingContext
from edgepick_host.compress.training.trainer import Hooks, Loss, Plan, fit, score
from edgepick_host.errors import CompressionError

SENSITIVITY_SHARES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
EARLY_SHARE = 0.05
"""Of the steps, before the weights are saved that a ticket is rewound to: Frankle et al., "Stabilizing the lottery
ticket hypothesis" (2019), rewind to between 0.1 % and 7 % of the training."""

Table = dict[str, dict[float, float]]
"""Accuracy on the held-out samples by layer and share of zeros in that layer alone; share 0 is the dense module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every procedure is given.

    Attributes:
        context: Data, held-out samples, seed.
        plan: Of each training.
        pattern: "unstructured" or "2:4".
        loss: To train with.
        shares: Relative shares by layer that the sensitivity table allotted for the final sparsity; empty for the same
            share everywhere.
    """

    context: TrainingContext
    plan: Plan
    pattern: str
    loss: Loss
    shares: Mapping[str, float]

    def prune(self, masks: Masks, share: float, final: float) -> None:
        """Make new masks of this share of zeros; with shares by layer, of their part on the way to ``final``."""
        if self.pattern == "2:4":
            masks.prune_two_of_four()
        else:
            masks.prune(share, {name: each * share / final for name, each in self.shares.items()} if final else None)


def polynomial(module: nn.Module, schedule: PolynomialDecay, job: Job) -> Masks:
    """Train ``module`` in place while its sparsity follows the schedule; return its masks."""
    masks = dense_masks(module)

    def after_step(step: int) -> None:
        if schedule.updates(step + 1):
            job.prune(masks, schedule.at(step + 1), schedule.final)
        else:
            masks.hold()

    if schedule.begin == 0:
        job.prune(masks, schedule.initial, schedule.final)
    _train(module, job, after_step, "pruning by the polynomial schedule")
    return masks


def one_shot(module: nn.Module, final: float, job: Job) -> Masks:
    """Prune ``module`` at once and train what is left, in place; return its masks."""
    masks = dense_masks(module)
    job.prune(masks, final, final)
    _train(module, job, lambda _step: masks.hold(), f"training what {final:.0%} pruning left")
    return masks


def iterative(module: nn.Module, final: float, rounds: int, job: Job) -> nn.Module:
    """Return the sparsest module that keeps the held-out accuracy within the tolerance, going up to ``final``.

    Each round prunes what the last one trained, by the same share of what is left, and trains again; the first round
    that loses more than the tolerance ends it.

    Raises:
        CompressionError: Not even the first round holds.
    """
    context = job.context
    least = score(module, context) - context.max_accuracy_drop
    kept: nn.Module | None = None
    for share in rising_shares(final, rounds):
        masks = one_shot(module, share, job)
        found = score(module, context)
        context.say(f"pruning: {masks.share():.1%} zeros, held-out accuracy {found:.4f} (at least {least:.4f})")
        if found < least:
            break
        kept = copy.deepcopy(module)
    if kept is None:
        raise CompressionError(
            f"pruning {rising_shares(final, rounds)[0]:.0%} already loses more than {context.max_accuracy_drop:.1%}",
            hint="Allow a larger drop, more rounds or more epochs.",
        )
    return kept


def lottery(module: nn.Module, final: float, rounds: int, job: Job) -> Masks:
    """Find a sparse ticket and train it from the module's early weights, in place; return its masks.

    Per round: train from the early weights, prune by what became large, rewind what is left to the early weights
    (Frankle et al. 2019). The early weights are those after ``EARLY_SHARE`` of the first training.
    """
    early = early_weights(module, job)
    masks = dense_masks(module)
    for share in rising_shares(final, rounds):
        _train(module, job, lambda _step: masks.hold(), "lottery ticket")
        job.prune(masks, share, final)
        rewind(module, early, masks)
    _train(module, job, lambda _step: masks.hold(), "lottery ticket, last training")
    return masks


def early_weights(module: nn.Module, job: Job) -> dict[str, Tensor]:
    """Train ``module`` in place for the first few steps; return a copy of its state."""
    steps = max(1, int(EARLY_SHARE * job.plan.steps_over(len(job.context.data))))
    fit(module, job.context, replace(job.plan, steps=steps, keep_best=False), loss=job.loss, title="early weights")
    return {name: value.clone() for name, value in module.state_dict().items()}


def rewind(module: nn.Module, early: Mapping[str, Tensor], masks: Masks) -> None:
    """Give ``module`` its early weights again, exactly, but zeros where the masks say so."""
    module.load_state_dict(dict(early))
    masks.hold()


def sensitivity(module: nn.Module, context: TrainingContext, shares: Iterable[float] = SENSITIVITY_SHARES) -> Table:
    """Return what each prunable layer loses when it alone is pruned, without training.

    Args:
        module: Stays as it is.
        context: Its held-out samples judge.
        shares: Of zeros to try (0..1); 0 is always there.

    Raises:
        CompressionError: There is no layer to prune.
    """
    trial = copy.deepcopy(module)
    dense = score(trial, context)
    table: Table = {}
    for name, layer in prunable(trial).items():
        weights = layer.weight.detach().clone()
        table[name] = {0.0: dense}
        for share in sorted(set(shares) - {0.0}):
            with torch.no_grad():
                layer.weight.copy_(weights * magnitude_mask(weights, share))
            table[name][share] = score(trial, context)
        with torch.no_grad():
            layer.weight.copy_(weights)
    return table


def _train(module: nn.Module, job: Job, after_step: Callable[[int], None], title: str) -> None:
    fit(module, job.context, job.plan, loss=job.loss, hooks=Hooks(after_step=after_step), title=title)
