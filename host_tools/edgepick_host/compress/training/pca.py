"""Principal components of tabular inputs, as the first layer of a module that still takes the raw features."""

import torch
from torch import Tensor, nn

from edgepick_host.errors import CompressionError


def first_dense(module: nn.Module, inputs: int) -> str:
    """Return the name of the module's first layer, a dense one that takes the raw features.

    Raises:
        CompressionError: The first layer is another one.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding, nn.LSTM, nn.GRU, nn.RNN)
    found = next(((name, part) for name, part in module.named_modules() if isinstance(part, kinds)), None)
    if found is None or not isinstance(found[1], nn.Linear) or found[1].in_features != inputs:
        raise CompressionError(
            f"principal components need a dense first layer that takes the {inputs} features themselves"
        )
    return str(found[0])


def principal_components(x: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    """Return the mean ``[features]`` and the components ``[features, k]`` of the least k that keep ``energy``.

    Args:
        x: Samples ``[N, features]``.
        energy: Share of the variance to keep (0..1].
    """
    wide = x.double()
    mean = wide.mean(dim=0)
    _, s, v = torch.linalg.svd(wide - mean, full_matrices=False)
    total = s.square().sum()
    if not float(total):
        raise CompressionError("the features do not vary; there are no principal components")
    count = min(int((s.square().cumsum(0) / total < energy - 1e-12).sum()) + 1, len(s))
    return mean.float(), v[:count].T.contiguous().float()


def projected(layer: nn.Linear, mean: Tensor, components: Tensor) -> nn.Sequential:
    """Return a dense layer onto the components, and one from them to what ``layer`` gives.

    The first is ``(x - mean) C`` in one: its bias is ``-mean C``. The second starts at what ``layer`` does to the
    projected features: ``W C`` with the bias ``b + W mean``; exact where the components keep everything.
    """
    features, count = components.shape
    project, rest = nn.Linear(features, count), nn.Linear(count, layer.out_features)
    with torch.no_grad():
        project.weight.copy_(components.T)
        project.bias.copy_(-(mean.double() @ components.double()).float())
        rest.weight.copy_(layer.weight @ components)
        bias = layer.weight.double() @ mean.double()
        rest.bias.copy_((bias if layer.bias is None else bias + layer.bias.double()).float())
    return nn.Sequential(project, rest)
