"""The layers of a float ONNX model that hold weights, and changing them. Knows the format, not a quantizer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from edgepick_host.compress import onnx_file

FloatArray = npt.NDArray[np.float32]

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution or dense layer with constant weights of more than one input channel.

    Attributes:
        node: The ``onnx.NodeProto``.
        tensor: The initializer of its weights.
        weights: float32, outputs first: ``[out, in / groups, height, width]`` or ``[out, in]``.
        transposed: The file stores a dense layer's weights as ``[in, out]``.
    """

    node: Any
    tensor: Any
    weights: FloatArray
    transposed: bool

    def stored(self, weights: FloatArray) -> FloatArray:
        """Return weights with outputs first as the file stores them."""
        return np.ascontiguousarray(weights.T if self.transposed else weights)


def layers(model: Any) -> Iterator[Layer]:
    """Yield the layers of a parsed model, in order."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        tensor = constants.get(node.input[1]) if node.op_type in LAYERS else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))
        weights = np.array(numpy_helper.to_array(tensor))
        if transposed and weights.ndim != 2:
            continue
        weights = weights.T if transposed else weights
        if weights.shape[1] > 1:
            yield Layer(node=node, tensor=tensor, weights=weights, transposed=transposed)


def attribute(node: Any, name: str, default: Any) -> Any:
    """Return a node's attribute."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def mapped(data: bytes, change: Callable[[FloatArray], FloatArray]) -> bytes:
    """Return the model with ``change`` applied to the weights of each layer; weights that are shared change once."""
    model = onnx_file.read(data, Path("model.onnx"))
    for layer in {layer.tensor.name: layer for layer in layers(model)}.values():
        layer.tensor.CopyFrom(numpy_helper.from_array(layer.stored(change(layer.weights)), layer.tensor.name))
    return onnx_file.write(model)
