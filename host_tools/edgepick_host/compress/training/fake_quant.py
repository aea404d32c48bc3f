"""Rounding in training as integer kernels round, with gradients that pass through it.

Weights are symmetric around zero, ``q = clamp(round(w / s), -Q, Q)`` with ``Q = 2**(bits - 1) - 1``; activations are
affine over 256 steps with a range that contains zero. ``round`` passes gradients on unchanged (straight-through);
scales and ranges are learned through it (LSQ, Esser et al. 2020; LSQ+, Bhalgat et al. 2020), as factors of their first
value, so that one learning rate fits all of them.
"""

import torch
from torch import Tensor, nn

from edgepick_host.compress.step import Range

ACTIVATION_STEPS = 255
"""Between the ends of an int8 range: -128 to 127."""

MOMENTUM = 0.95
"""Of observed ranges' moving average, per step."""

CANDIDATES = 40
"""Shares of the largest weight that are tried for the first scale."""

SMALLEST = 1e-12


def rounded(x: Tensor) -> Tensor:
    """Return ``round(x)`` whose gradient is that of ``x``."""
    return x + (torch.round(x) - x).detach()


class FakeWeight(nn.Module):
    """A weight on the grid that its integer kernel stores.

    Args:
        weight: To begin with, ``[outputs, ...]``.
        bits: 8 or 4.
        per_channel: One scale per output; otherwise one for all.
        learned: The scale is trained; otherwise the largest weight stays the end of the grid.
    """

    def __init__(self, weight: Tensor, *, bits: int, per_channel: bool, learned: bool) -> None:
        super().__init__()
        self.limit = 2 ** (bits - 1) - 1
        self.per_channel, self.learned = per_channel, learned
        first = self._best_scale(weight.detach()) if learned else self._widest(weight.detach())
        self.register_buffer("first", first)
        self.factor = nn.Parameter(torch.zeros_like(first), requires_grad=learned)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight, rounded to its grid."""
        scale = self.scale(weight)
        return rounded((weight / scale).clamp(-self.limit, self.limit)) * scale

    def scale(self, weight: Tensor) -> Tensor:
        """Return the grid's step; never so wide that no weight reaches the grid's end.

        Because one does, a quantizer that takes the largest weight as the end finds exactly this grid again.
        """
        widest = self._widest(weight.detach())
        return torch.minimum(self.first * self.factor.exp(), widest) if self.learned else widest

    def _widest(self, weight: Tensor) -> Tensor:
        axes = tuple(range(1, weight.ndim))
        largest = weight.abs().amax(dim=axes, keepdim=True) if self.per_channel else weight.abs().max()
        return (largest / self.limit).clamp_min(SMALLEST)

    def _best_scale(self, weight: Tensor) -> Tensor:
        """Return the scale of least squared error among shares of the widest."""
        widest = self._widest(weight)
        axes = tuple(range(1, weight.ndim)) if self.per_channel else tuple(range(weight.ndim))
        best, least = widest, torch.full_like(widest, torch.inf)
        for share in torch.linspace(0.2, 1.0, CANDIDATES):
            scale = widest * share
            error = (torch.round(weight / scale).clamp(-self.limit, self.limit) * scale - weight).square()
            total = error.sum(dim=axes, keepdim=self.per_channel)
            best, least = torch.where(total < least, scale, best), torch.minimum(total, least)
        return best


class FakeActivation(nn.Module):
    """An activation on the int8 grid of its range.

    Args:
        learned: The range's ends are trained; otherwise they follow a moving average of what is seen.
    """

    def __init__(self, *, learned: bool) -> None:
        super().__init__()
        self.learned = learned
        self.observing = True
        self.register_buffer("ends", torch.zeros(2))
        self.factors = nn.Parameter(torch.zeros(2), requires_grad=learned)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation, rounded to its grid; or unchanged while it is only observed."""
        if self.observing:
            self._observe(x.detach(), momentum=0.0)
            return x
        if self.training and not self.learned:
            self._observe(x.detach(), momentum=MOMENTUM)
        scale, zero = self._grid()
        return (rounded((x / scale + zero).clamp(0, ACTIVATION_STEPS)) - zero) * scale

    def _observe(self, x: Tensor, *, momentum: float) -> None:
        """Widen the range to what is seen, or move it there by a moving average; it always contains zero."""
        seen = torch.stack([x.min().clamp_max(0), x.max().clamp_min(0)])
        if momentum:
            self.ends.mul_(momentum).add_(seen * (1 - momentum))
        else:
            self.ends.copy_(torch.stack([torch.minimum(self.ends[0], seen[0]), torch.maximum(self.ends[1], seen[1])]))

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Return the step, and the place of zero among the 256 values."""
        low, high = self.ends * self.factors.exp()
        scale = ((high - low) / ACTIVATION_STEPS).clamp_min(SMALLEST)
        return scale, rounded(-low / scale)

    def range(self) -> Range:
        """Return the grid's least and largest value; zero is one of its values."""
        with torch.no_grad():
            scale, zero = (float(each) for each in self._grid())
        return 0.0 - zero * scale, (ACTIVATION_STEPS - zero) * scale
