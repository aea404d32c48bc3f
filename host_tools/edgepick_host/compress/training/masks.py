"""Masks over a module's weights: which are zero, and that they stay zero while the module is trained.

Which layers: every convolution and dense layer except the first and the last one (they see the raw input and make the
answer; Zhu and Gupta, and every recipe since, leave them dense), depthwise convolutions (nine weights per channel:
there is nothing to spare) and layers of fewer than ``MIN_WEIGHTS`` weights (their zeros save nothing). Biases and
normalisation stay dense.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepick_host.errors import CompressionError

MIN_WEIGHTS = 256
"""A kilobyte of float weights; below it, the operator's own record in the file is of the same size."""

GROUP, KEPT_OF_GROUP = 4, 2


def layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return every convolution and dense layer by name, in the order of the module's definition."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, kinds)}


def prunable(module: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that are pruned, by name; see the module's docstring for the rules.

    Raises:
        CompressionError: There is none.
    """
    inner = dict(list(layers(module).items())[1:-1])
    chosen = {name: layer for name, layer in inner.items() if _worth_pruning(layer)}
    if not chosen:
        raise CompressionError(
            f"no layer to prune: of {len(layers(module))} convolutions and dense layers the first and the last stay "
            f"dense, and so do depthwise ones and those below {MIN_WEIGHTS} weights"
        )
    return chosen


def _worth_pruning(layer: nn.Module) -> bool:
    depthwise = getattr(layer, "groups", 1) > 1 and layer.weight.shape[1] == 1
    return not depthwise and layer.weight.numel() >= MIN_WEIGHTS


def magnitude_mask(weight: Tensor, share: float) -> Tensor:
    """Return a mask (bool, the weight's shape) that is false for the ``floor(share * size)`` smallest magnitudes.

    Of equal magnitudes the one stored first goes first, so the result is the same everywhere.
    """
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    order = torch.argsort(weight.detach().abs().flatten(), stable=True)
    mask[order[: int(share * weight.numel() + 1e-9)]] = False
    return mask.view_as(weight)


def two_of_four_mask(weight: Tensor) -> Tensor:
    """Return a mask that keeps the two largest magnitudes of every four inputs in a row.

    Groups lie along the input channels, at every position of the kernel: the axis that a matrix multiplication sums
    over, as sparse tensor cores want it (NVIDIA, "Accelerating Inference with Sparsity", 2021). Where the number of
    inputs is no multiple of four, the inputs left over stay.
    """
    last = weight.detach().abs().movedim(1, -1)
    whole = last.shape[-1] // GROUP * GROUP
    groups = last[..., :whole].reshape(-1, GROUP)
    smallest = torch.argsort(groups, dim=1, stable=True)[:, : GROUP - KEPT_OF_GROUP]
    kept = torch.ones_like(groups, dtype=torch.bool).scatter_(1, smallest, value=False)
    mask = torch.ones_like(last, dtype=torch.bool)
    mask[..., :whole] = kept.view(*last.shape[:-1], whole)
    return mask.movedim(-1, 1).contiguous()


@dataclass(slots=True)
class Masks:
    """The masks of one module while it is trained.

    :meth:`hold` belongs after every optimizer step: momentum and weight decay move weights that have no gradient.
    """

    module: nn.Module
    masks: dict[str, Tensor]

    def hold(self) -> None:
        """Set every masked weight to exactly zero."""
        with torch.no_grad():
            for name, mask in self.masks.items():
                self.module.get_submodule(name).weight.mul_(mask)

    def prune(self, share: float, shares: Mapping[str, float] | None = None) -> None:
        """Mask ``share`` of each layer by magnitude, or as ``shares`` says by layer; hold the new masks."""
        for name in self.masks:
            weight = self.module.get_submodule(name).weight
            self.masks[name] = magnitude_mask(weight, (shares or {}).get(name, share))
        self.hold()

    def prune_two_of_four(self) -> None:
        """Mask two of every four weights along the input channels; hold the new masks."""
        self.masks = {name: two_of_four_mask(self.module.get_submodule(name).weight) for name in self.masks}
        self.hold()

    def share(self) -> float:
        """Return the share of weights that are zero over the pruned layers (0..1)."""
        zeros = sum(int((self.module.get_submodule(name).weight == 0).sum()) for name in self.masks)
        return float(zeros / sum(mask.numel() for mask in self.masks.values()))


def dense_masks(module: nn.Module) -> Masks:
    """Return masks for the prunable layers of ``module`` that mask nothing yet.

    Raises:
        CompressionError: There is no layer to prune.
    """
    chosen = prunable(module)
    return Masks(module, {name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in chosen.items()})


def allot(table: Mapping[str, Mapping[float, float]], sizes: Mapping[str, int], share: float) -> dict[str, float]:
    """Return a share for each layer such that ``share`` of all weights goes, and layers that hurt less give more.

    Of the table's shares, the highest that no layer pays for with more than a common loss is taken: the loss is the
    least that reaches ``share`` over all layers.

    Args:
        table: Accuracy by layer and share, each layer pruned alone, as of :func:`sensitivity`; the share 0 included.
        sizes: Weights by layer.
        share: Of all weights together.

    Raises:
        CompressionError: Even the highest shares of the table do not reach ``share``.
    """
    losses = sorted({row[0.0] - accuracy for row in table.values() for accuracy in row.values()})
    total = sum(sizes[name] for name in table)
    for allowed in losses:
        chosen = {
            name: max(s for s, accuracy in row.items() if s == 0 or row[0.0] - accuracy <= allowed)
            for name, row in table.items()
        }
        reached = sum(chosen[name] * sizes[name] for name in table) / total
        if reached >= share - 1e-9:
            return {name: s * share / reached for name, s in chosen.items()}
    raise CompressionError(f"the sensitivity table has no shares high enough to prune {share:.0%} of all weights")
