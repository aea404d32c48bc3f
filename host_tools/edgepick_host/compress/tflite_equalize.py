"""Cross-layer equalization: two layers in a row share their weights' sizes evenly, channel by channel.

What the first layer multiplies a channel with, the second divides it by, so that the model's function stays the same
(Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, arXiv 1906.04721). That
holds where everything between the two is positively homogeneous: no activation or ReLU, pooling, a flattening. Not
across ReLU6, whose end would move, and not across branches, whose other side would see scaled channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgepick_host.compress import tflite_file, tflite_graph

Floats = npt.NDArray[np.float32]

HOMOGENEOUS = frozenset({schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU})
PER_CHANNEL = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "RELU"})
"""Operators between two layers that keep channels apart and scale with them."""
FLATTENING = frozenset({"MEAN", "RESHAPE"})
"""The same, where one number per channel comes out."""
ROUNDS = 10
"""Chains of several pairs settle within a few rounds."""
MOST = 1024.0
"""Largest factor of one round: a channel of nearly nothing is not blown up."""

OUTPUT_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
INPUT_AXES = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}


@dataclass(slots=True)
class _Layer:
    """A layer whose constants may be rescaled."""

    kind: str
    weights: Floats
    bias: Floats | None
    weight_buffer: int
    bias_buffer: int | None

    def sizes(self, axis: int) -> Floats:
        """Return the largest weight of each channel."""
        others = tuple(i for i in range(self.weights.ndim) if i != axis)
        found: Floats = np.abs(self.weights).max(axis=others)
        return found

    def scale(self, factors: Floats, axis: int) -> None:
        """Multiply each channel's weights."""
        shape = [1] * self.weights.ndim
        shape[axis] = -1
        self.weights = self.weights * factors.reshape(shape)


def equalized(model: bytes) -> bytes:
    """Return a model that computes the same with evenly sized channels; the same bytes where no pair of layers is."""
    parsed = tflite_file.read(model, Path("model.tflite"))
    graph = parsed.subgraphs[0]
    layers = {id(op): layer for op in graph.operators if (layer := _layer(parsed, graph, op)) is not None}
    pairs = list(_pairs(parsed, graph, layers))
    if not pairs:
        return model
    for _ in range(ROUNDS):
        for first, second in pairs:
            _equalize(first, second)
    for layer in layers.values():
        _store(parsed, layer.weight_buffer, layer.weights)
        if layer.bias is not None and layer.bias_buffer is not None:
            _store(parsed, layer.bias_buffer, layer.bias)
    return tflite_file.write(parsed)


def _store(parsed: Any, buffer: int, values: Floats) -> None:
    parsed.buffers[buffer].data = np.frombuffer(values.astype(np.float32).tobytes(), dtype=np.uint8)


def _layer(parsed: Any, graph: Any, operator: Any) -> _Layer | None:
    kind = tflite_file.operator_name(parsed, operator)
    if kind not in OUTPUT_AXES:
        return None
    tensors = [graph.tensors[i] for i in tflite_graph.indices(operator.inputs)[1:3] if i >= 0]
    values = [_constant(parsed, tensor) for tensor in tensors]
    if not values or any(each is None for each in values):
        return None
    if kind == "DEPTHWISE_CONV_2D" and operator.builtinOptions.depthMultiplier != 1:
        return None
    buffers = [int(tensor.buffer) for tensor in tensors]
    bias, bias_buffer = (values[1], buffers[1]) if len(values) > 1 else (None, None)
    return _Layer(kind, values[0], bias, buffers[0], bias_buffer)


def _constant(parsed: Any, tensor: Any) -> Any:
    """Return a float constant that only this tensor has, or ``None``."""
    data = tflite_file.constant_bytes(parsed, tensor)
    owners = sum(int(each.buffer) == int(tensor.buffer) for graph in parsed.subgraphs for each in graph.tensors)
    if data is None or owners != 1 or tflite_file.tensor_type(tensor) != "float32":
        return None
    return data.view(np.float32).reshape([int(n) for n in tensor.shape])


def _pairs(parsed: Any, graph: Any, layers: dict[int, _Layer]) -> Iterator[tuple[_Layer, _Layer]]:
    for operator in graph.operators:
        first = layers.get(id(operator))
        if first is None or operator.builtinOptions.fusedActivationFunction not in HOMOGENEOUS:
            continue
        channels = first.weights.shape[OUTPUT_AXES[first.kind]]
        second = layers.get(id(_next_layer(parsed, graph, operator, channels)))
        if second is not None and second.weights.shape[INPUT_AXES[second.kind]] == channels and _unshared(graph, first):
            yield first, second


def _unshared(graph: Any, layer: _Layer) -> bool:
    """Return whether one operator alone reads the layer's constants."""
    tensors = [
        i for i, tensor in enumerate(graph.tensors) if int(tensor.buffer) in {layer.weight_buffer, layer.bias_buffer}
    ]
    return all(len(tflite_graph.users(graph, i)) <= 1 for i in tensors)


def _next_layer(parsed: Any, graph: Any, operator: Any, channels: int) -> Any:
    """Return the only operator that reads what ``operator`` computes, past what keeps its channels; or ``None``."""
    while True:
        output = int(operator.outputs[0])
        users = tflite_graph.users(graph, output)
        if len(users) != 1 or output in tflite_graph.indices(graph.outputs):
            return None
        operator = users[0]
        if tflite_graph.indices(operator.inputs)[0] != output:
            return None
        kind = tflite_file.operator_name(parsed, operator)
        if kind in OUTPUT_AXES:
            return operator
        if not _keeps_channels(parsed, graph, operator, kind, channels):
            return None


def _keeps_channels(parsed: Any, graph: Any, operator: Any, kind: str, channels: int) -> bool:
    if kind in PER_CHANNEL:
        return getattr(operator.builtinOptions, "fusedActivationFunction", 0) in HOMOGENEOUS
    source, target = (graph.tensors[int(i)] for i in (operator.inputs[0], operator.outputs[0]))
    if kind not in FLATTENING or int(np.prod(target.shape)) != channels:
        return False
    if kind == "RESHAPE":
        return int(np.prod(source.shape)) == channels
    axes = tflite_file.constant_bytes(parsed, graph.tensors[int(operator.inputs[1])])
    last = len(source.shape) - 1
    return axes is not None and not {last, -1}.intersection(axes.view(np.int32).tolist())


def _equalize(first: _Layer, second: _Layer) -> None:
    before, after = first.sizes(OUTPUT_AXES[first.kind]), second.sizes(INPUT_AXES[second.kind])
    alive = (before > 0) & (after > 0)
    ratio = np.divide(after, before, out=np.ones_like(before), where=alive)
    factors: Floats = np.clip(np.sqrt(ratio), 1 / MOST, MOST).astype(np.float32)
    first.scale(factors, OUTPUT_AXES[first.kind])
    if first.bias is not None:
        first.bias = first.bias * factors
    second.scale(np.reciprocal(factors), INPUT_AXES[second.kind])
