"""Structured pruning: whole channels leave the network, so that it really becomes smaller and faster.

torch-pruning finds which channels depend on one another (residual sums, concatenations) and removes them together; we
choose the importance, the rounding, and what happens in between. The first operator's inputs and the answers stay.
"""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgepick_host.compress.training.masks import layers
from edgepick_host.compress.training.samples import Samples
from edgepick_host.compress.training.trainer import logits
from edgepick_host.errors import CompressionError

SIMD_WIDTH = 8
"""Channels that integer kernels of ARM and x86 take at once; a rest of fewer costs as much as all eight."""

TAYLOR_BATCHES, TAYLOR_BATCH = 8, 64
IMPORTANCES = ("magnitude", "taylor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one inference takes.

    Attributes:
        macs: Multiply-accumulate operations.
        parameters: Numbers in weights and biases.
    """

    macs: int
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Which channels go.

    Attributes:
        ratio: Share of the channels to remove in the end (0..1), over the whole network or of every layer.
        round_to: What stays of a layer is a multiple of this.
        importance: "magnitude" (L2 norm over the group) or "taylor" (weight times gradient, Molchanov et al. 2019).
        steps: Number of times that :func:`shrink` is going to be called.
        everywhere: The share holds for the whole network, so that layers lose differently; otherwise for every layer.
    """

    ratio: float
    round_to: int = SIMD_WIDTH
    importance: str = "magnitude"
    steps: int = 1
    everywhere: bool = False


def cost(module: nn.Module, probe: Tensor) -> Cost:
    """Return what one inference of ``module`` takes."""
    import torch_pruning

    macs, parameters = torch_pruning.utils.count_ops_and_params(copy.deepcopy(module).eval(), probe[:1])
    return Cost(macs=int(macs), parameters=int(parameters))


class Shrinker:
    """Removes channels from one module in place, in equal steps, each chosen by the weights as they are then.

    Raises:
        CompressionError: The network's dependencies cannot be traced, or nothing can be removed.
    """

    def __init__(self, module: nn.Module, probe: Tensor, cut: Cut) -> None:
        import torch_pruning

        self.module, self.probe, self.cut = module, probe, cut
        for parameter in module.parameters():
            parameter.requires_grad_()
        importance = torch_pruning.importance
        kinds = {"magnitude": importance.GroupMagnitudeImportance, "taylor": importance.GroupTaylorImportance}
        with _told(cut):
            self.pruner: Any = torch_pruning.pruner.BasePruner(
                module.eval(),
                probe,
                importance=kinds[cut.importance](),
                global_pruning=cut.everywhere,
                pruning_ratio=cut.ratio,
                iterative_steps=cut.steps,
                round_to=cut.round_to,
                ignored_layers=list(layers(module).values())[-1:],
            )

    def shrink(self, data: Samples, *, probabilities: bool) -> None:
        """Remove the next step's channels; data are looked at by the importance "taylor" only."""
        self.module.eval()
        if self.cut.importance == "taylor":
            _gradients(self.module, data, probabilities=probabilities)
        with _told(self.cut):
            self.pruner.step()
            with torch.no_grad():
                self.module(self.probe)
        self.module.zero_grad(set_to_none=True)


def _gradients(module: nn.Module, data: Samples, *, probabilities: bool) -> None:
    """Leave the labels' gradient over the first samples in the parameters."""
    module.zero_grad(set_to_none=True)
    batches = zip(data.x.split(TAYLOR_BATCH), data.y.split(TAYLOR_BATCH), strict=True)
    for _, (x, y) in zip(range(TAYLOR_BATCHES), batches, strict=False):
        nn.functional.cross_entropy(logits(module(x), probabilities=probabilities), y).backward()


@contextlib.contextmanager
def _told(cut: Cut) -> Iterator[None]:
    """Say what torch-pruning could not do; it raises what its tracing meets."""
    try:
        yield
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise CompressionError(
            f"channels of this network cannot be cut by {cut.ratio:.0%}: {type(error).__name__}: {first}",
            hint="Give a smaller network with student() in the task file instead.",
        ) from error
