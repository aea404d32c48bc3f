"""Weight clustering with trained centroids; worth what the file loses when it is compressed."""

import copy
from collections.abc import Mapping

from torch import nn

from edgepick_host.compress.codebook import clusters_of
from edgepick_host.compress.training.clusters import Codebooks
from edgepick_host.compress.training.parameters import whole_number
from edgepick_host.compress.training.recovery import recovery_loss
from edgepick_host.compress.training.step import TrainingContext, TrainingPass
from edgepick_host.compress.training.trainer import Hooks, Plan, fit

RATE = 0.01
"""Of each weight tensor's root mean square; centroids move together, so that less is enough."""


def build() -> TrainingPass:
    """Return the pass.

    Parameters: ``clusters`` ("32") of each layer besides zero, ``epochs`` ("10") of training centroids, "0" for none.
    """
    return _train_cluster


def _train_cluster(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    epochs = whole_number(parameters, "epochs", default=10, least=0)
    shared = copy.deepcopy(module)
    codebooks = Codebooks(shared, clusters_of(parameters.get("clusters", "32")))
    if epochs:
        fit(
            shared,
            context,
            Plan(epochs=epochs, rate=RATE, relative_rate=True),
            loss=recovery_loss(copy.deepcopy(module), context),
            hooks=Hooks(after_step=lambda _step: codebooks.share()),
            title="training centroids",
        )
    return shared.eval()
