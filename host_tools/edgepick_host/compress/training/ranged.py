"""A trained module that knows the ranges which its activations were trained to keep to."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgepick_host.compress.step import Range


class RangedModule(nn.Module):
    """A flat graph with trained weights, and the range of each activation that was fake-quantized in training.

    Args:
        graph: The float graph; nothing is rounded in it but its weights.
        ranges: Least and largest value by the graph's node name.
    """

    def __init__(self, graph: fx.GraphModule, ranges: Mapping[str, Range]) -> None:
        super().__init__()
        self.graph_module = graph
        self.ranges = dict(ranges)

    def forward(self, x: Tensor) -> Tensor:
        """Return the float graph's answers."""
        return self.graph_module(x)

    def points(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the nodes with a range hold for these inputs, ``[n, ...]`` by name."""
        recorder = _Recorder(copy.deepcopy(self.graph_module).eval(), set(self.ranges))
        with torch.no_grad():
            recorder.run(x)
        return recorder.found


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self.names = names
        self.found: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.names:
            self.found[n.name] = value.detach().clone()
        return value
