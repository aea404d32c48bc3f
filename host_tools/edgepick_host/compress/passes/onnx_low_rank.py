"""Low-rank factorization of an ONNX model's convolutions and dense layers, where it saves work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from edgepick_host.compress import onnx_file
from edgepick_host.compress.low_rank import Factors, energy_of, factorize
from edgepick_host.compress.onnx_weights import FloatArray, Layer, attribute, layers
from edgepick_host.compress.step import Pass, StepContext
from edgepick_host.errors import CompressionError

WINDOW = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")
"""Attributes of a convolution that go with its first factor; the second one is pointwise."""


def build() -> Pass:
    """Return the pass; parameter: ``energy`` (0.99), the share of a layer's squared singular values that is kept."""
    return _low_rank


def _low_rank(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    energy = energy_of(parameters.get("energy", "0.99"))
    parsed = onnx_file.read(model, Path("model.onnx"))
    split = 0
    for layer in list(layers(parsed)):
        factors = factorize(layer.weights.reshape(len(layer.weights), -1), energy) if _splits(layer) else None
        if factors is not None:
            _split(parsed.graph, layer, factors)
            split += 1
    if not split:
        raise CompressionError(f"no layer has a rank low enough to become smaller at {energy:.4g} of its energy")
    onnx_file.drop_unused(parsed.graph)
    return onnx_file.write(parsed)


def _splits(layer: Layer) -> bool:
    return bool(layer.node.op_type != "Conv" or attribute(layer.node, "group", 1) == 1)


def _split(graph: Any, layer: Layer, factors: Factors) -> None:
    """Put a node with the right factor before the layer's, and leave the left one in it."""
    left, right = factors
    node, name = layer.node, layer.node.output[0]
    position = next(i for i, each in enumerate(graph.node) if each.output[:1] == node.output[:1])
    first = helper.make_node(
        node.op_type, [node.input[0], f"{name}_right"], [f"{name}_rank"], f"{node.name or name}_rank"
    )
    window = (1,) * (layer.weights.ndim - 2)
    _add(graph, f"{name}_right", layer.stored(right.reshape(len(right), *layer.weights.shape[1:])))
    _add(graph, f"{name}_left", layer.stored(left.reshape(*left.shape, *window)))
    if node.op_type == "Conv":
        _move(node, first, WINDOW)
        node.attribute.append(helper.make_attribute("kernel_shape", list(window)))
    if node.op_type == "Gemm":
        first.attribute.append(helper.make_attribute("transB", 0 if layer.transposed else 1))
        _move(node, first, ("transA",))
    node.input[0], node.input[1] = f"{name}_rank", f"{name}_left"
    graph.node.insert(position, first)


def _add(graph: Any, name: str, array: FloatArray) -> None:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))


def _move(node: Any, first: Any, names: tuple[str, ...]) -> None:
    moved = [attribute for attribute in node.attribute if attribute.name in names]
    for each in moved:
        first.attribute.append(each)
        node.attribute.remove(each)
