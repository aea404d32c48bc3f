"""An ONNX model with narrow weights: each layer's constant becomes integers with a DequantizeLinear before the layer.

Symmetric, a scale per output channel. Four bits need operator set 21 (DequantizeLinear knows INT4 since then); the
model is moved there.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepick_host.compress import onnx_file
from edgepick_host.compress.onnx_weights import FloatArray, Layer, layers
from edgepick_host.errors import CompressionError

OPSETS = {8: 13, 4: 21}
"""Bits -> the first operator set whose DequantizeLinear takes them, per channel."""
LARGEST = {8: 127, 4: 7}


def weight_only(data: bytes, *, bits: int) -> bytes:
    """Return the model with weights of ``bits`` bits.

    Raises:
        CompressionError: It has no layer with weights, or cannot be moved to the operator set that is needed.
    """
    model = _of_opset(onnx_file.read(data, Path("model.onnx")), OPSETS[bits])
    found = {layer.tensor.name: layer for layer in layers(model)}
    if not found:
        raise CompressionError("the model has no layer with constant weights")
    for layer in found.values():
        _narrow(model.graph, layer, bits)
    return onnx_file.write(model)


def _of_opset(model: Any, least: int) -> Any:
    present = max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
    if present >= least:
        return model
    try:
        return onnx.version_converter.convert_version(model, least)
    except Exception as error:  # the converter has no error type of its own
        first = str(error).strip().partition("\n")[0]
        raise CompressionError(f"the model cannot be moved to ONNX operator set {least}: {first}") from error


def _narrow(graph: Any, layer: Layer, bits: int) -> None:
    """Replace a constant by integers, their scales, and a node that dequantizes them for every reader."""
    name = layer.tensor.name
    integers, scales = _quantized(layer.weights, LARGEST[bits])
    axis = 1 if layer.transposed else 0
    graph.initializer.remove(layer.tensor)
    parts = [f"{name}_narrow", f"{name}_scale", f"{name}_zero_point"]
    graph.initializer.append(_stored(parts[0], layer.stored(integers), bits))
    graph.initializer.append(numpy_helper.from_array(scales, parts[1]))
    graph.initializer.append(_stored(parts[2], np.zeros_like(scales), bits))
    graph.node.insert(0, helper.make_node("DequantizeLinear", parts, [name], f"{name}_widen", axis=axis))


def _stored(name: str, integers: FloatArray, bits: int) -> Any:
    """Return integers as bytes; ONNX's own way of listing them takes more room than the floats did."""
    if bits == 8:
        return numpy_helper.from_array(integers.astype(np.int8), name)
    flat = integers.astype(np.int8).reshape(-1)
    pairs = np.append(flat, [0] * (flat.size % 2)).astype(np.uint8).reshape(-1, 2) & 0x0F
    packed = (pairs[:, 0] | (pairs[:, 1] << 4)).astype(np.uint8).tobytes()
    return helper.make_tensor(name, TensorProto.INT4, integers.shape, packed, raw=True)


def _quantized(weights: FloatArray, largest: int) -> tuple[FloatArray, FloatArray]:
    """Return integers in the weights' shape, and the scale of each output channel."""
    rows = weights.reshape(len(weights), -1)
    peaks = np.abs(rows).max(axis=1)
    scales = np.where(peaks > 0, peaks / largest, 1.0).astype(np.float32)
    return np.round(rows / scales[:, None]).clip(-largest, largest).reshape(weights.shape), scales
