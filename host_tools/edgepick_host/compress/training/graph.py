"""A module as the flat graph of operators that integer kernels compute, with its batch norms folded into convolutions.

``torch.export`` gives the graph, in evaluation mode: dropout is gone, batch norms keep their statistics.
"""

import copy
import operator
import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgepick_host.compress.training.trainer import single_thread
from edgepick_host.errors import CompressionError

ATEN = torch.ops.aten
CONVOLUTIONS = frozenset({ATEN.conv1d.default, ATEN.conv2d.default})
LINEAR = ATEN.linear.default
BATCH_NORM = ATEN.batch_norm.default
WEIGHTED = CONVOLUTIONS | {LINEAR}
RECTIFIERS = frozenset(
    {ATEN.relu.default, ATEN.relu_.default, ATEN.relu6.default, ATEN.hardtanh.default, ATEN.hardtanh_.default,
     ATEN.clamp.default}
)  # fmt: skip
"""What integer kernels apply to their own accumulators, before they round to the output's grid."""


def lower(module: nn.Module, x: Tensor) -> fx.GraphModule:
    """Return the module in evaluation mode as one flat graph over any batch size, batch norms folded; a copy.

    Args:
        module: Any that ``torch.export`` takes.
        x: Some inputs ``[n, ...]``, n > 1.

    Raises:
        CompressionError: ``torch.export`` does not take it, or the graph answers otherwise than the module.
    """
    module = copy.deepcopy(module).eval()
    graph = _exported(module, x[:2])
    fold_batch_norms(graph)
    with torch.no_grad(), single_thread():
        expected, found = module(x), graph(x)
    limit = 1e-3 * float(expected.abs().max().clamp_min(1e-6))
    if expected.shape != found.shape or float((expected - found).abs().max()) > limit:
        raise CompressionError("the module's graph answers otherwise than the module; it cannot be exported")
    return graph


def _exported(module: nn.Module, x: Tensor) -> fx.GraphModule:
    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
            return _plain(program.module(check_guards=False))
    except Exception as error:  # its errors share no base class
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise CompressionError(
            f"torch.export does not take the module: {type(error).__name__}: {first.strip()}",
            hint="forward() must not branch on values, and must work for any batch size (flatten, not view(1, -1)).",
        ) from error


def _plain(exported: Any) -> fx.GraphModule:
    """Return an ordinary graph module with weights of its own: the exported one refuses ``train()``.

    The nodes are copied one by one, without what the exporter noted about itself and checks of its arguments.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    weights: dict[str, Any] = {}
    for node in exported.graph.nodes:
        if node.op == "call_module":  # its argument checks
            continue
        copies[node] = graph.node_copy(node, lambda n: copies[n])
        copies[node].meta.clear()
        if node.op == "get_attr":
            weights[str(node.target)] = copy.deepcopy(operator.attrgetter(str(node.target))(exported))
        if node.op == "output":
            _return_one_value(copies[node])
    graph.eliminate_dead_code()
    return fx.GraphModule({name: weights[name] for name in _attributes(graph)}, graph)


def _attributes(graph: fx.Graph) -> list[str]:
    return [str(node.target) for node in graph.nodes if node.op == "get_attr"]


def _return_one_value(end: fx.Node) -> None:
    """Let the graph return its one tensor itself, as the module did."""
    if isinstance(end.args[0], list | tuple) and len(end.args[0]) == 1:
        end.args = (end.args[0][0],)


def value_of(module: nn.Module, node: Any) -> Any:
    """Return the tensor that a ``get_attr`` node refers to, or ``None`` for any other argument."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    return operator.attrgetter(str(node.target))(module)


def fold_batch_norms(module: fx.GraphModule) -> int:
    """Fold, in place, every batch norm into the convolution or linear layer before it; return how many."""
    folded = 0
    for node in list(module.graph.nodes):
        before = node.args[0] if node.op == "call_function" and node.target is BATCH_NORM else None
        if not isinstance(before, fx.Node) or before.target not in WEIGHTED or len(before.users) > 1:
            continue
        if value_of(module, before.args[1]) is None or len(before.args[1].users) > 1:
            continue
        _fold(module, before, node)
        folded += 1
    module.graph.eliminate_dead_code()
    module.recompile()
    return folded


def _fold(module: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> None:
    """Scale the layer by what the batch norm does: ``(x - mean) / sqrt(var + eps) * gamma + beta``."""
    weight = value_of(module, layer.args[1])
    bias = value_of(module, layer.args[2]) if len(layer.args) > 2 else None
    gamma, beta, mean, variance = (value_of(module, each) for each in norm.args[1:5])
    with torch.no_grad():
        factor = torch.rsqrt(variance + float(norm.args[7]))
        factor = factor if gamma is None else factor * gamma
        shift = (0 if bias is None else bias) - mean
        new_bias = shift * factor + (0 if beta is None else beta)
        weight.mul_(factor.reshape(-1, *[1] * (weight.ndim - 1)))
    name = f"{str(layer.args[1].target).replace('.', '_')}_bias"
    setattr(module, name, nn.Parameter(new_bias.clone()))
    with module.graph.inserting_before(layer):
        added = module.graph.get_attr(name)
    layer.args = (*layer.args[:2], added, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    module.graph.erase_node(norm)
