"""Cross-layer equalization: two layers in a row share their weights' sizes evenly, channel by channel.

As for ``.tflite`` (:mod:`edgepick_host.compress.tflite_equalize`, Nagel et al., 2019, arXiv 1906.04721): what the first
layer multiplies a channel with, the second divides it by. Between the two only what is positively homogeneous and keeps
channels apart may stand, and nobody else may read what is scaled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from edgepick_host.compress import onnx_file
from edgepick_host.compress.onnx_weights import FloatArray, attribute

KEEPS_CHANNELS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool", "Relu"})
ROUNDS = 10
"""Chains of several pairs settle within a few rounds."""
MOST = 1024.0
"""Largest factor of one round: a channel of nearly nothing is not blown up."""


@dataclass(slots=True)
class _Layer:
    """A layer whose constants may be rescaled; weights are ``[out, in, ...]``, or ``[out, 1, ...]`` depthwise."""

    node: Any
    weights: FloatArray
    bias: FloatArray | None
    transposed: bool
    depthwise: bool

    def sizes(self, *, outputs: bool) -> FloatArray:
        """Return the largest weight of each output or input channel."""
        axis = 0 if outputs or self.depthwise else 1
        found: FloatArray = np.abs(self.weights).max(axis=tuple(i for i in range(self.weights.ndim) if i != axis))
        return found

    def scale(self, factors: FloatArray, *, outputs: bool) -> None:
        """Multiply each output or input channel's weights."""
        shape = [1] * self.weights.ndim
        shape[0 if outputs or self.depthwise else 1] = -1
        self.weights = self.weights * factors.reshape(shape)


def equalized(data: bytes) -> bytes:
    """Return a model that computes the same with evenly sized channels; the same bytes where no pair of layers is."""
    model = onnx_file.read(data, Path("model.onnx"))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = {node.output[0]: layer for node in model.graph.node if (layer := _layer(model.graph, node, constants))}
    pairs = list(_pairs(model.graph, layers))
    if not pairs:
        return data
    for _ in range(ROUNDS):
        for first, second in pairs:
            _equalize(first, second)
    for layer in layers.values():
        weights = layer.weights.T if layer.transposed else layer.weights
        _store(constants[layer.node.input[1]], weights)
        if layer.bias is not None:
            _store(constants[layer.node.input[2]], layer.bias)
    return onnx_file.write(model)


def _store(tensor: Any, values: FloatArray) -> None:
    array = np.ascontiguousarray(values.astype(np.float32)).reshape(tuple(tensor.dims))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _layer(graph: Any, node: Any, constants: dict[str, Any]) -> _Layer | None:
    if node.op_type not in {"Conv", "Gemm"} or not all(_owned(graph, name, constants) for name in node.input[1:]):
        return None
    weights = numpy_helper.to_array(constants[node.input[1]]).copy()
    bias = numpy_helper.to_array(constants[node.input[2]]).copy() if len(node.input) > 2 else None
    groups = attribute(node, "group", 1)
    depthwise = node.op_type == "Conv" and groups == len(weights) and weights.shape[1] == 1
    if groups != 1 and not depthwise:
        return None
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attribute(node, "transA", 0)
    if node.op_type == "Gemm" and (not plain or (bias is not None and bias.ndim != 1)):
        return None
    transposed = node.op_type == "Gemm" and not attribute(node, "transB", 0)
    return _Layer(node, weights.T if transposed else weights, bias, transposed, depthwise)


def _owned(graph: Any, name: str, constants: dict[str, Any]) -> bool:
    """Return whether this is a float constant that one node alone reads."""
    readers = sum(list(node.input).count(name) for node in graph.node)
    return name in constants and readers == 1 and constants[name].data_type == TensorProto.FLOAT


def _pairs(graph: Any, layers: dict[str, _Layer]) -> Iterator[tuple[_Layer, _Layer]]:
    for first in layers.values():
        second = layers.get(_next_output(graph, first.node.output[0]))
        if second is None:
            continue
        inputs = len(second.weights) if second.depthwise else second.weights.shape[1]
        if inputs == len(first.weights):
            yield first, second


def _next_output(graph: Any, name: str) -> str:
    """Return the output of the layer that alone reads a tensor, past what keeps its channels; empty without one."""
    ends = {value.name for value in graph.output}
    while name not in ends:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or users[0].input[0] != name:
            return ""
        node = users[0]
        if node.op_type in {"Conv", "Gemm"}:
            return str(node.output[0])
        # A flattening keeps channels apart only where there is one number for each: the sizes are compared afterwards.
        if node.op_type not in KEEPS_CHANNELS and node.op_type not in {"Flatten", "Reshape"}:
            return ""
        name = node.output[0]
    return ""


def _equalize(first: _Layer, second: _Layer) -> None:
    before, after = first.sizes(outputs=True), second.sizes(outputs=False)
    alive = (before > 0) & (after > 0)
    ratio = np.divide(after, before, out=np.ones_like(before), where=alive)
    factors = np.clip(np.sqrt(ratio), 1 / MOST, MOST).astype(np.float32)
    first.scale(factors, outputs=True)
    if first.bias is not None:
        first.bias = first.bias * factors
    second.scale(np.reciprocal(factors), outputs=False)
