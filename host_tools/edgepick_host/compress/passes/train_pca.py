"""Principal components of tabular inputs, folded into the model as its first layer, and the rest trained again."""

import copy
from collections.abc import Mapping

from torch import nn

from edgepick_host.compress.training.parameters import real_number, whole_number
from edgepick_host.compress.training.pca import first_dense, principal_components, projected
from edgepick_host.compress.training.recovery import recovery_loss
from edgepick_host.compress.training.step import TrainingContext, TrainingPass
from edgepick_host.compress.training.trainer import Plan, fit
from edgepick_host.errors import CompressionError

RATE = 0.02
"""Of each weight tensor's root mean square."""


def build() -> TrainingPass:
    """Return the pass; parameters: ``energy`` ("0.95") of the variance to keep, ``epochs`` ("20") of training.

    The projection stays as it is while the rest is trained: it belongs to the data.
    """
    return _train_pca


def _train_pca(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    energy = real_number(parameters, "energy", default=0.95, least=1e-3, most=1)
    epochs = whole_number(parameters, "epochs", default=20, least=0)
    if context.data.x.ndim != 2:
        raise CompressionError(
            f"principal components are for tabular inputs [N, features]; these are {list(context.data.x.shape)}"
        )
    features = context.data.x.shape[1]
    name = first_dense(module, features)
    mean, components = principal_components(context.data.x, energy)
    count, outputs = components.shape[1], module.get_submodule(name).out_features
    if count * (features + outputs) + count >= features * outputs:
        raise CompressionError(
            f"{count} of {features} components keep {energy:.0%}: the model would not become smaller"
        )
    thin = _with_first(copy.deepcopy(module), name, projected(module.get_submodule(name), mean, components))
    if epochs:
        frozen = thin.get_submodule(name) if name else thin
        frozen[0].requires_grad_(requires_grad=False)
        plan = Plan(epochs=epochs, rate=RATE, relative_rate=True, keep_best=True)
        fit(thin, context, plan, loss=recovery_loss(copy.deepcopy(module), context), title="training on components")
    return thin.eval()


def _with_first(module: nn.Module, name: str, first: nn.Sequential) -> nn.Module:
    if not name:
        return first
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, first)
    return module
