"""Weight clustering in training: layers share a few values, and the values are trained."""

import torch
from torch import Tensor, nn

from edgepick_host.compress.codebook import clustered
from edgepick_host.compress.training.masks import prunable


class Codebooks:
    """Shared values of a module's prunable layers: each weight belongs to one value for good.

    Zeros are a value of their own that stays zero: what was pruned stays pruned.

    Args:
        module: Its weights are clustered in place.
        clusters: Different values besides zero that a layer may have.

    Raises:
        CompressionError: There is no layer to cluster.
    """

    def __init__(self, module: nn.Module, clusters: int) -> None:
        self.members: dict[str, Tensor] = {}
        self.layers = prunable(module)
        with torch.no_grad():
            for name, layer in self.layers.items():
                values = torch.from_numpy(clustered(layer.weight.detach().numpy(), clusters))
                _, self.members[name] = values.unique(return_inverse=True)
                layer.weight.copy_(values)
        self.zero = {name: layer.weight == 0 for name, layer in self.layers.items()}

    def share(self) -> None:
        """Set every weight to the mean of its cluster: a step of the centroid along its members' mean gradient.

        Belongs after every optimizer step (Han et al., "Deep Compression", 2016, section 3, with a mean for the sum).
        """
        with torch.no_grad():
            for name, layer in self.layers.items():
                members, flat = self.members[name].flatten(), layer.weight.flatten().double()
                count = int(members.max()) + 1
                sums = torch.zeros(count, dtype=torch.float64).index_add_(0, members, flat)
                means = sums / members.bincount(minlength=count)
                shared = means.float()[members].view_as(layer.weight)
                layer.weight.copy_(shared.masked_fill(self.zero[name], 0.0))
