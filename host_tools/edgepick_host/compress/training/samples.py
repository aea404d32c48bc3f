"""Inputs and labels as tensors: cut apart by class, and in the order of channels that a module wants."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Inputs and labels as the module takes them.

    Attributes:
        x: float32 ``[N, ...]``, in the module's layout.
        y: int64 ``[N]``.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        """Return N."""
        return len(self.x)

    def at(self, indices: Tensor) -> "Samples":
        """Return the samples at these indices, in that order."""
        return Samples(x=self.x[indices], y=self.y[indices])


def split(samples: Samples, *, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """Return ``(data, held out)``: the second is this share of every class, at least one of each that has two.

    Args:
        samples: All of them.
        held_out: Share to hold out (0..1).
        seed: Chooses which; the same seed gives the same cut.
    """
    dice = torch.Generator().manual_seed(seed)
    kept: list[Tensor] = []
    out: list[Tensor] = []
    for label in samples.y.unique(sorted=True):
        members = (samples.y == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=dice)]
        count = 0 if len(members) < 2 else min(len(members) - 1, max(1, round(len(members) * held_out)))
        out.append(members[:count])
        kept.append(members[count:])
    return samples.at(torch.cat(kept).sort().values), samples.at(torch.cat(out).sort().values)


def to_module_layout(x: Tensor, *, channels_last: bool) -> Tensor:
    """Return a batch as the module takes it; ``[N, H, W, C]`` becomes ``[N, C, H, W]`` if ``channels_last``."""
    return x.permute(0, 3, 1, 2).contiguous() if channels_last and x.ndim == 4 else x.contiguous()


def to_file_layout(x: Tensor, *, channels_last: bool) -> Tensor:
    """Return a batch as the exported file takes it; the inverse of :func:`to_module_layout`."""
    return x.permute(0, 2, 3, 1).contiguous() if channels_last and x.ndim == 4 else x.contiguous()
