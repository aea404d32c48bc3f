"""Structured pruning in steps, each followed by training with the answers of the network as it was."""

import copy
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from edgepick_host.compress.step import parameter
from edgepick_host.compress.training.channels import IMPORTANCES, SIMD_WIDTH, Cut, Shrinker, cost
from edgepick_host.compress.training.parameters import real_number, whole_number
from edgepick_host.compress.training.recovery import normalized, recovery_loss
from edgepick_host.compress.training.step import TrainingContext, TrainingPass
from edgepick_host.compress.training.student import derive_student
from edgepick_host.compress.training.trainer import Plan, fit
from edgepick_host.errors import CompressionError

RATE = 0.05
"""Of each weight tensor's root mean square."""
STATISTICS_SAMPLES = 256
LAST_SHARE = 0.5
"""Of the epochs, for the training after the last step."""


def build() -> TrainingPass:
    """Return the pass.

    Parameters: ``ratio`` ("0.5") of the channels to remove, ``round_to`` ("8"), ``importance`` ("magnitude",
    "taylor"), ``scope`` ("layer": every layer loses the ratio; "network": the least important of all layers),
    ``depth`` ("1"): share of the residual blocks to keep, of those that can be left out; ``steps`` ("3"), ``epochs``
    ("30") over all steps, half of them after the last, ``rate`` ("0.05").
    """
    return _train_prune_channels


def _train_prune_channels(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    cut = _cut(parameters)
    epochs = whole_number(parameters, "epochs", default=30, least=1)
    rate = real_number(parameters, "rate", default=RATE, least=1e-6, most=1)
    plan = Plan(epochs=max(1, int(epochs * (1 - LAST_SHARE) / cut.steps)), rate=rate, relative_rate=True)
    last = replace(plan, epochs=max(1, int(epochs * LAST_SHARE)), keep_best=True)
    loss = recovery_loss(copy.deepcopy(module), context)
    small = normalized(_shorter(module, parameters, context), context.data.x[:STATISTICS_SAMPLES])
    before = cost(module, context.task.probe)
    shrinker = Shrinker(small, context.task.probe, cut)
    for step in range(cut.steps):
        shrinker.shrink(context.data, probabilities=context.task.probabilities)
        if cost(small, context.task.probe) == before:
            continue
        title = f"structured pruning {step + 1}/{cut.steps}"
        fit(small, context, last if step + 1 == cut.steps else plan, loss=loss, title=title)
    after = cost(small, context.task.probe)
    if after == before:
        raise CompressionError(
            f"no channel was removed: ratio {cut.ratio:g} leaves every layer its channels, in multiples of "
            f"{cut.round_to}",
            hint="Ask for a larger ratio or a smaller round_to.",
        )
    context.say(
        f"structured pruning: {after.macs / before.macs:.0%} of the multiplications, "
        f"{after.parameters / before.parameters:.0%} of the parameters"
    )
    return small.eval()


def _shorter(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    """Return the module without the later residual blocks.

    Integer kernels on x86 take 16 channels at once: below that, only fewer layers save time.
    """
    depth = real_number(parameters, "depth", default=1.0, least=0, most=1)
    return derive_student(module, context.task.probe, width=1.0, depth=depth) if depth < 1 else module


def _cut(parameters: Mapping[str, str]) -> Cut:
    return Cut(
        ratio=real_number(parameters, "ratio", default=0.5, least=0.01, most=0.99),
        round_to=whole_number(parameters, "round_to", default=SIMD_WIDTH, least=1),
        importance=parameter(parameters, "importance", IMPORTANCES, default="magnitude"),
        steps=whole_number(parameters, "steps", default=3, least=1),
        everywhere=parameter(parameters, "scope", ("layer", "network"), default="layer") == "network",
    )
