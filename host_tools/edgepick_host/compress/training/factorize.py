"""Fewer dimensions: one layer becomes two thin ones of lower rank, where that really saves work.

A dense layer and an embedding are matrices; a convolution is one of ``[out, in * height * width]`` (its factors: the
same convolution with ``rank`` filters, and a 1x1 convolution), or, split in space, one of
``[in * height, width * out]`` (its factors: a ``height x 1`` and a ``1 x width`` convolution; Jaderberg et al. 2014).
The truncated singular value decomposition is the closest matrix of its rank (Eckart and Young 1936).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepick_host.compress.training.masks import layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """A layer as a matrix, decomposed; factors of any rank are cut from it.

    Attributes:
        name: Of the layer.
        singular_values: Descending.
        full: Numbers in the layer's weights.
        per_rank: Numbers in both factors for each rank.
        macs: Multiplications of the layer for one inference.
        macs_per_rank: Of both factors, for each rank.
        factors: From a rank to the module that replaces the layer.
    """

    name: str
    singular_values: Tensor
    full: int
    per_rank: int
    macs: int
    macs_per_rank: int
    factors: Callable[[int], nn.Module]

    @property
    def largest_rank(self) -> int:
        """The largest rank at which both parameters and multiplications fall; 0 where none does."""
        return max(0, min((self.full - 1) // self.per_rank, (self.macs - 1) // self.macs_per_rank))

    def rank_of(self, energy: float) -> int:
        """Return the least rank whose squared singular values sum to this share of all (0..1]."""
        squared = self.singular_values.double().square()
        if not float(squared.sum()):
            return 1
        kept = squared.cumsum(0) / squared.sum()
        return int((kept < energy - 1e-12).sum()) + 1

    def saved(self, rank: int) -> int:
        """Return by how many numbers the factors of this rank are fewer than the layer's."""
        return self.full - rank * self.per_rank


def decompositions(module: nn.Module, probe: Tensor, *, spatial: bool = False) -> list[Decomposition]:
    """Return every layer that can be split with a saving, the largest layer first.

    Args:
        module: Stays as it is. Grouped convolutions are left out: they are of low rank already.
        probe: A few inputs, to count positions with.
        spatial: Split convolutions in space where they have a kernel to split.
    """
    positions = _positions(module, probe)
    found = [
        _dense(name, layer) if isinstance(layer, nn.Linear) else _convolution(name, layer, sizes, spatial=spatial)
        for name, layer in layers(module).items()
        if (sizes := positions.get(name)) and (isinstance(layer, nn.Linear) or _splittable(layer))
    ]
    return sorted((each for each in found if each.largest_rank), key=lambda each: -each.full)


def replace(module: nn.Module, decomposition: Decomposition, rank: int) -> None:
    """Put, in place, the factors of this rank where the layer is."""
    parent, _, child = decomposition.name.rpartition(".")
    setattr(module.get_submodule(parent), child, decomposition.factors(rank))


def truncated(matrix: Tensor) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Return a function from a rank to ``left [m, rank]`` and ``right [rank, n]``, the root of each value in either.

    With the roots shared, both factors are equally easy to quantize.
    """
    u, s, v = torch.linalg.svd(matrix.detach().double(), full_matrices=False)

    def factors(rank: int) -> tuple[Tensor, Tensor]:
        root = s[:rank].sqrt()
        return (u[:, :rank] * root).float(), (root[:, None] * v[:rank]).float()

    return factors


def split_embedding(layer: nn.Embedding, rank: int) -> nn.Sequential:
    """Return ``E = A B``: an embedding into ``rank`` dimensions and a dense layer without bias to the original ones."""
    left, right = truncated(layer.weight)(rank)
    thin, up = nn.Embedding(*left.shape), nn.Linear(rank, layer.embedding_dim, bias=False)
    _fill(thin, left)
    _fill(up, right.T)
    return nn.Sequential(thin, up)


def _dense(name: str, layer: nn.Module) -> Decomposition:
    outputs, inputs = layer.weight.shape
    cut = truncated(layer.weight)

    def factors(rank: int) -> nn.Module:
        left, right = cut(rank)
        down, up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=layer.bias is not None)
        _fill(down, right)
        _fill(up, left, layer.bias)
        return nn.Sequential(down, up)

    full, per_rank = outputs * inputs, outputs + inputs
    return Decomposition(
        name=name, singular_values=torch.linalg.svdvals(layer.weight.detach()), full=full, per_rank=per_rank,
        macs=full, macs_per_rank=per_rank, factors=factors,
    )  # fmt: skip


Sizes = tuple[torch.Size, torch.Size]
"""Shapes of a layer's input and output."""


def _convolution(name: str, layer: nn.Module, sizes: Sizes, *, spatial: bool) -> Decomposition:
    if spatial and min(layer.kernel_size) > 1:
        return _spatial(name, layer, sizes)
    outputs, inputs, height, width = layer.weight.shape
    matrix = layer.weight.detach().reshape(outputs, -1)
    cut = truncated(matrix)

    def factors(rank: int) -> nn.Module:
        left, right = cut(rank)
        thin = nn.Conv2d(
            inputs, rank, layer.kernel_size, stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
            padding_mode=layer.padding_mode, bias=False,
        )  # fmt: skip
        up = nn.Conv2d(rank, outputs, 1, bias=layer.bias is not None)
        _fill(thin, right.reshape(rank, inputs, height, width))
        _fill(up, left[:, :, None, None], layer.bias)
        return nn.Sequential(thin, up)

    area = sizes[1][2] * sizes[1][3]
    full, per_rank = matrix.numel(), sum(matrix.shape)
    return Decomposition(
        name=name, singular_values=torch.linalg.svdvals(matrix), full=full, per_rank=per_rank,
        macs=full * area, macs_per_rank=per_rank * area, factors=factors,
    )  # fmt: skip


def _spatial(name: str, layer: nn.Module, sizes: Sizes) -> Decomposition:
    outputs, inputs, height, width = layer.weight.shape
    matrix = layer.weight.detach().permute(1, 2, 3, 0).reshape(inputs * height, width * outputs)
    cut = truncated(matrix)
    (down, across), (above, beside) = layer.stride, layer.padding

    def factors(rank: int) -> nn.Module:
        left, right = cut(rank)
        tall = nn.Conv2d(inputs, rank, (height, 1), stride=(down, 1), padding=(above, 0), bias=False)
        wide = nn.Conv2d(
            rank, outputs, (1, width), stride=(1, across), padding=(0, beside), bias=layer.bias is not None
        )
        _fill(tall, left.T.reshape(rank, inputs, height, 1))
        _fill(wide, right.reshape(rank, width, outputs).permute(2, 0, 1).unsqueeze(2), layer.bias)
        return nn.Sequential(tall, wide)

    columns, area = sizes[0][3] + 2 * beside, sizes[1][2] * sizes[1][3]
    return Decomposition(
        name=name, singular_values=torch.linalg.svdvals(matrix), full=matrix.numel(), per_rank=sum(matrix.shape),
        macs=matrix.numel() * area, macs_per_rank=inputs * height * sizes[1][2] * columns + width * outputs * area,
        factors=factors,
    )  # fmt: skip


def _splittable(layer: nn.Module) -> bool:
    """Return whether a convolution is a full one over two dimensions with plain padding."""
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros" and (
        not isinstance(layer.padding, str)
    ) and set(layer.dilation) == {1}  # fmt: skip


def _positions(module: nn.Module, probe: Tensor) -> dict[str, Sizes]:
    found: dict[str, Sizes] = {}
    handles = [
        layer.register_forward_hook(
            lambda _layer, given, out, name=name: found.__setitem__(name, (given[0].shape, out.shape))
        )
        for name, layer in layers(module).items()
    ]
    try:
        with torch.no_grad():
            module.eval()(probe[:1])
    finally:
        for handle in handles:
            handle.remove()
    return found


def _fill(layer: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
