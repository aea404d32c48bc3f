"""Quantization-aware training: fake quantization where integer kernels round, then the float graph and its ranges.

Rounded are weights of convolutions and linear layers, the input, and every activation that a kernel writes: after the
rectifier that it applies itself, not after operators that only pass values on. Batch norms are folded before.
"""

import copy

import torch
from torch import Tensor, fx, nn

from edgepick_host.compress.step import Range
from edgepick_host.compress.training.fake_quant import FakeActivation, FakeWeight
from edgepick_host.compress.training.graph import ATEN, RECTIFIERS, WEIGHTED, value_of
from edgepick_host.compress.training.ranged import RangedModule
from edgepick_host.errors import CompressionError

PASSED_ON = frozenset(
    {ATEN.flatten.using_ints, ATEN.view.default, ATEN.reshape.default, ATEN.permute.default, ATEN.transpose.int,
     ATEN.squeeze.dim, ATEN.unsqueeze.default, ATEN.contiguous.default, ATEN.clone.default, ATEN.dropout.default,
     ATEN.max_pool2d.default, ATEN.pad.default, ATEN.constant_pad_nd.default, ATEN.slice.Tensor, ATEN.select.int}
)  # fmt: skip
"""Their outputs lie on their input's grid."""

FIXED = frozenset({ATEN.softmax.int, ATEN.log_softmax.int, ATEN.sigmoid.default,
                   ATEN.tanh.default})  # fmt: skip
"""Integer kernels prescribe the scale of their output."""


WIDE = 8
POOLS = frozenset({ATEN.avg_pool2d.default, ATEN.adaptive_avg_pool2d.default})
"""Integer kernels average on their input's grid; except over the whole map, which is a mean with a grid of its own."""


class FakeQuantized(nn.Module):
    """A flat graph that rounds as integer kernels do.

    Args:
        graph: A lowered module; its weights are trained in place.
        bits: Of the weights, 8 or 4.
        per_channel: One weight scale per output channel.
        learned: Scales and ranges are trained; otherwise ranges follow moving averages.

    Raises:
        CompressionError: There is no convolution or linear layer in it.
    """

    def __init__(self, graph: fx.GraphModule, *, bits: int, per_channel: bool, learned: bool) -> None:
        super().__init__()
        self.original = graph
        self.points: dict[str, str] = {}
        self.weights: dict[str, str] = {}
        self.rounding = copy.deepcopy(graph)
        self._round_activations(learned=learned)
        self._round_weights(bits=bits, per_channel=per_channel, learned=learned)
        if not self.weights:
            raise CompressionError("the module has no convolution or linear layer to train for integers")
        self.rounding.recompile()

    def forward(self, x: Tensor) -> Tensor:
        """Return the answers of the rounding graph."""
        return self.rounding(x)

    def observe(self, x: Tensor) -> None:
        """Set the first ranges to what these inputs give, and round from then on."""
        self.eval()
        with torch.no_grad():
            for part in x.split(64):
                self.rounding(part)
        for each in self.rounding.modules():
            if isinstance(each, FakeActivation):
                each.observing = False

    def ranges(self) -> dict[str, Range]:
        """Return the activations' ranges by the original graph's node names."""
        return {node: self.rounding.get_submodule(name).range() for node, name in self.points.items()}

    def trained(self) -> RangedModule:
        """Return the float graph with the weights on their grids, and the ranges."""
        graph = copy.deepcopy(self.original)
        with torch.no_grad():
            for target, name in self.weights.items():
                weight = self.rounding.get_parameter(target)
                graph.get_parameter(target).copy_(self.rounding.get_submodule(name)(weight))
            for target, value in graph.named_parameters():
                if target not in self.weights:
                    value.copy_(self.rounding.get_parameter(target))
        return RangedModule(graph.eval(), self.ranges())

    def _round_activations(self, *, learned: bool) -> None:
        for node in [each for each in self.rounding.graph.nodes if is_point(each)]:
            name = grid_of_input(node) if keeps_grid(node) else ""
            if not name:
                name = f"round_{node.name}"
                self.rounding.add_submodule(name, FakeActivation(learned=learned))
                self.points[node.name] = name
            with self.rounding.graph.inserting_after(node):
                added = self.rounding.graph.call_module(name, (node,))
            node.replace_all_uses_with(added, delete_user_cb=lambda user, added=added: user is not added)

    def _round_weights(self, *, bits: int, per_channel: bool, learned: bool) -> None:
        for node in [each for each in self.rounding.graph.nodes if each.target in WEIGHTED]:
            weight = value_of(self.rounding, node.args[1])
            if weight is None:
                continue
            target = str(node.args[1].target)
            name = f"grid_{target.replace('.', '_')}"
            own = WIDE if bits < WIDE and is_depthwise(weight) else bits
            self.rounding.add_submodule(name, FakeWeight(weight, bits=own, per_channel=per_channel, learned=learned))
            self.weights[target] = name
            with self.rounding.graph.inserting_before(node):
                added = self.rounding.graph.call_module(name, (node.args[1],))
            node.args = (node.args[0], added, *node.args[2:])


def is_depthwise(weight: Tensor) -> bool:
    """Return whether each filter sees one channel: no integer kernel takes such weights in fewer than 8 bits."""
    return bool(weight.ndim > 2 and weight.shape[1] == 1)


def is_point(node: fx.Node) -> bool:
    """Return whether a kernel writes this node's value to memory, on a grid of its own."""
    if node.op == "placeholder":
        return True
    if node.op != "call_function" or node.target in PASSED_ON | FIXED or not node.users:
        return False
    if not str(node.target).startswith("aten.") or str(node.target).startswith("aten.sym_"):
        return False
    followers = list(node.users)
    return not (len(followers) == 1 and followers[0].target in RECTIFIERS)


def keeps_grid(node: fx.Node) -> bool:
    """Return whether a kernel rounds this node's value to its input's grid."""
    whole_map = node.target is ATEN.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]
    return node.target in POOLS and not whole_map


def grid_of_input(node: fx.Node) -> str:
    """Return the name of the rounding that this node's input went through; "" if there is none."""
    source = node.args[0]
    while isinstance(source, fx.Node) and source.target in PASSED_ON:
        source = source.args[0]
    return str(source.target) if isinstance(source, fx.Node) and source.op == "call_module" else ""
