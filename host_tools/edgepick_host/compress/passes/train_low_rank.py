"""Low-rank factorization of dense layers and convolutions, with training after it."""

import copy
from collections.abc import Mapping

from torch import nn

from edgepick_host.compress.step import parameter
from edgepick_host.compress.training import factorize
from edgepick_host.compress.training.parameters import real_number, whole_number
from edgepick_host.compress.training.recovery import recovery_loss
from edgepick_host.compress.training.step import TrainingContext, TrainingPass
from edgepick_host.compress.training.trainer import Plan, fit, score
from edgepick_host.errors import CompressionError

RATE = 0.02
"""Of each weight tensor's root mean square."""


def build() -> TrainingPass:
    """Return the pass.

    Parameters: ``energy`` ("0.95"): share of each layer's squared singular values to keep; or ``rank`` ("energy",
    "tolerance"): with "tolerance" the ranks are found by bisection, the largest layer first, as low as the held-out
    accuracy allows before training; ``split`` ("channels", "space") of convolutions; ``epochs`` ("10") of training
    afterwards, "0" for none; ``rate`` ("0.02").
    """
    return _train_low_rank


def _train_low_rank(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    thin = copy.deepcopy(module)
    spatial = parameter(parameters, "split", ("channels", "space"), default="channels") == "space"
    layers = factorize.decompositions(thin, context.task.probe, spatial=spatial)
    if parameter(parameters, "rank", ("energy", "tolerance"), default="energy") == "tolerance":
        replaced = _by_tolerance(thin, layers, context)
    else:
        replaced = _by_energy(thin, layers, real_number(parameters, "energy", default=0.95, least=1e-3, most=1))
    if not replaced:
        raise CompressionError(
            "no layer becomes smaller as two of the rank that is needed",
            hint="Keep less energy, or allow a larger drop.",
        )
    context.say(f"low rank: {', '.join(f'{name} {rank}' for name, rank in replaced.items())}")
    epochs = whole_number(parameters, "epochs", default=10, least=0)
    rate = real_number(parameters, "rate", default=RATE, least=1e-6, most=1)
    if epochs:
        plan = Plan(epochs=epochs, rate=rate, relative_rate=True, keep_best=True)
        fit(thin, context, plan, loss=recovery_loss(copy.deepcopy(module), context), title="training factors")
    return thin.eval()


def _by_energy(module: nn.Module, layers: list[factorize.Decomposition], energy: float) -> dict[str, int]:
    chosen = {each.name: rank for each in layers if (rank := each.rank_of(energy)) <= each.largest_rank}
    for each in layers:
        if each.name in chosen:
            factorize.replace(module, each, chosen[each.name])
    return chosen


def _by_tolerance(module: nn.Module, layers: list[factorize.Decomposition], context: TrainingContext) -> dict[str, int]:
    least = score(module, context) - context.max_accuracy_drop
    chosen: dict[str, int] = {}
    for each in layers:
        whole = module.get_submodule(each.name)
        rank = _lowest_rank(module, each, least, context)
        parent, _, child = each.name.rpartition(".")
        setattr(module.get_submodule(parent), child, each.factors(rank) if rank else whole)
        if rank:
            chosen[each.name] = rank
    return chosen


def _lowest_rank(module: nn.Module, layer: factorize.Decomposition, least: float, context: TrainingContext) -> int:
    """Return the lowest rank found by bisection that keeps ``least``, or 0 if not even the largest does."""
    low, high, found = 1, layer.largest_rank, 0
    middle = high
    while low <= high:
        factorize.replace(module, layer, middle)
        if score(module, context) >= least:
            found, high = middle, middle - 1
        elif not found:
            return 0
        else:
            low = middle + 1
        middle = (low + high) // 2
    return found
