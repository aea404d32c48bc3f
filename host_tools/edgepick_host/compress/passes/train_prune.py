"""Magnitude pruning with training in between; zeros are exact in the exported file."""

import copy
from collections.abc import Mapping

from torch import nn

from edgepick_host.compress.step import parameter
from edgepick_host.compress.training import prune
from edgepick_host.compress.training.masks import allot, prunable
from edgepick_host.compress.training.parameters import real_number, whole_number
from edgepick_host.compress.training.recovery import recovery_loss
from edgepick_host.compress.training.schedules import polynomial_decay, share_of
from edgepick_host.compress.training.step import TrainingContext, TrainingPass
from edgepick_host.compress.training.trainer import Plan

SCHEDULES = ("polynomial", "one_shot", "iterative", "lottery")
RATE = 0.05
"""Of each weight tensor's root mean square: what trains a network anew also lets a pruned one recover."""


def build() -> TrainingPass:
    """Return the pass.

    Parameters: ``schedule`` ("polynomial", "one_shot", "iterative", "lottery"), ``final`` ("0.8") sparsity, ``initial``
    ("0"), ``begin`` ("0"), ``end`` (two thirds of the steps) and ``frequency`` (a twentieth of these) in optimizer
    steps for "polynomial", ``rounds`` ("5") for "iterative" and "lottery", ``pattern`` ("unstructured", "2:4"),
    ``shares`` ("uniform", "sensitivity") by layer, ``epochs`` ("30") of each training, ``rate`` ("0.05").
    """
    return _train_prune


def _train_prune(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    schedule = parameter(parameters, "schedule", SCHEDULES, default="polynomial")
    final = share_of(parameters, "final", default=0.8)
    rounds = whole_number(parameters, "rounds", default=5, least=1)
    job = _job(module, parameters, context, final)
    pruned = copy.deepcopy(module)
    if schedule == "iterative":
        return prune.iterative(pruned, final, rounds, job).eval()
    if schedule == "one_shot":
        prune.one_shot(pruned, final, job)
    elif schedule == "lottery":
        prune.lottery(pruned, final, rounds, job)
    else:
        prune.polynomial(pruned, polynomial_decay(parameters, job.plan.steps_over(len(context.data))), job)
    return pruned.eval()


def _job(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext, final: float) -> prune.Job:
    shares: dict[str, float] = {}
    if parameter(parameters, "shares", ("uniform", "sensitivity"), default="uniform") == "sensitivity":
        sizes = {name: layer.weight.numel() for name, layer in prunable(module).items()}
        shares = allot(prune.sensitivity(module, context), sizes, final)
    return prune.Job(
        context=context,
        plan=Plan(
            epochs=whole_number(parameters, "epochs", default=30, least=1),
            rate=real_number(parameters, "rate", default=RATE, least=1e-6, most=1),
            relative_rate=True,
        ),
        pattern=parameter(parameters, "pattern", ("unstructured", "2:4"), default="unstructured"),
        loss=recovery_loss(copy.deepcopy(module), context),
        shares=shares,
    )
