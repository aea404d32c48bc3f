"""Q/DQ pairs where TensorRT fuses around them: none between a layer and what becomes a part of it.

ONNX Runtime's quantizer puts a pair behind every operator where ranges are symmetric. A pair between a convolution and
its activation, or between the last convolution of a branch and the addition that ends it, keeps TensorRT from computing
both in one kernel, and rounds once more than needed. The other input of an addition keeps its pair: the fused kernel
then reads and writes integers.
"""

from collections.abc import Iterator
from typing import Any

from edgepick_host.compress import onnx_file
from edgepick_host.core.onnx_graph import ACTIVATIONS, DEQUANTIZE, QUANTIZE, WEIGHTED


def make_fusable(model: Any) -> None:
    """Take, in place, the pairs out that part what TensorRT would fuse."""
    graph = model.graph
    for node in list(graph.node):
        if node.op_type in ACTIVATIONS:
            _bypass(graph, node, 0, WEIGHTED | {"Add"})
    for node in list(graph.node):
        if node.op_type == "Add":
            _open_one_branch(graph, node)
    onnx_file.drop_unused(graph)


def _open_one_branch(graph: Any, node: Any) -> None:
    """Let one layer reach an addition directly, of two the later one; the other branch stays quantized."""
    order = {name: number for number, each in enumerate(graph.node) for name in each.output}
    parted = {index: layer for index in (0, 1) if (layer := _parted(graph, node.input[index], WEIGHTED)) is not None}
    if not parted or not all(_is_quantized(graph, name) for name in node.input):
        return
    index = max(parted, key=lambda index: order[parted[index].output[0]])
    node.input[index] = parted[index].output[0]


def _bypass(graph: Any, node: Any, index: int, kinds: frozenset[str]) -> None:
    layer = _parted(graph, node.input[index], kinds)
    if layer is not None:
        node.input[index] = layer.output[0]


def _parted(graph: Any, name: str, kinds: frozenset[str]) -> Any | None:
    """Return the layer whose output reaches ``name`` through a pair, and nothing else on the way."""
    dequantize = _producer(graph, name)
    if dequantize is None or dequantize.op_type != DEQUANTIZE or not _is_read_once(graph, name):
        return None
    quantize = _producer(graph, dequantize.input[0])
    if quantize is None or quantize.op_type != QUANTIZE or not _is_read_once(graph, dequantize.input[0]):
        return None
    layer = _producer(graph, quantize.input[0])
    if layer is None or layer.op_type not in kinds or not _is_read_once(graph, quantize.input[0]):
        return None
    return layer


def _is_quantized(graph: Any, name: str) -> bool:
    producer = _producer(graph, name)
    return producer is not None and producer.op_type == DEQUANTIZE


def _producer(graph: Any, name: str) -> Any | None:
    return next((node for node in graph.node if name in node.output), None)


def _is_read_once(graph: Any, name: str) -> bool:
    if any(value.name == name for value in graph.output):
        return False
    return sum(1 for _ in _readers(graph, name)) == 1


def _readers(graph: Any, name: str) -> Iterator[Any]:
    return (node for node in graph.node for each in node.input if each == name)
