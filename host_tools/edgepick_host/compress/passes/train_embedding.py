"""Embedding factorization: ``E = A B``, with training after it."""

import copy
from collections.abc import Mapping

from torch import nn

from edgepick_host.compress.training.factorize import split_embedding
from edgepick_host.compress.training.parameters import whole_number
from edgepick_host.compress.training.recovery import recovery_loss
from edgepick_host.compress.training.step import TrainingContext, TrainingPass
from edgepick_host.compress.training.trainer import Plan, fit
from edgepick_host.errors import CompressionError

RATE = 0.02
"""Of each weight tensor's root mean square."""


def build() -> TrainingPass:
    """Return the pass; parameters: ``rank`` ("8") of the factors, ``epochs`` ("10") of training, "0" for none."""
    return _train_embedding


def _train_embedding(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    rank = whole_number(parameters, "rank", default=8, least=1)
    epochs = whole_number(parameters, "epochs", default=10, least=0)
    thin = copy.deepcopy(module)
    tables = {name: part for name, part in thin.named_modules() if isinstance(part, nn.Embedding)}
    chosen = [name for name, part in tables.items() if rank * sum(part.weight.shape) < part.weight.numel()]
    if not chosen:
        raise CompressionError(f"none of {len(tables)} embeddings becomes smaller as two factors of rank {rank}")
    for name in chosen:
        parent, _, child = name.rpartition(".")
        setattr(thin.get_submodule(parent), child, split_embedding(tables[name], rank))
    if epochs:
        plan = Plan(epochs=epochs, rate=RATE, relative_rate=True, keep_best=True)
        fit(thin, context, plan, loss=recovery_loss(copy.deepcopy(module), context), title="training embeddings")
    return thin.eval()
