"""The layers of a Q/DQ model whose integers can still be moved: weights, biases and their scales."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from edgepick_host.compress import onnx_file
from edgepick_host.compress.onnx_weights import attribute

Floats = npt.NDArray[np.float64]

KINDS = frozenset({"Conv", "Gemm", "MatMul"})
INT8_ENDS = (-127, 127)
INT32_END = 2**31 - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerLayer:
    """One layer whose weights are dequantized from integers.

    Attributes:
        graph: Of the parsed model.
        node: The ``onnx.NodeProto``.
        source: Name of the float tensor that it reads, as the float model calls it.
        output: Name of the float tensor that it computes; of the Relu behind it where the quantizer has dropped that.
        narrowed: Name of the same in the quantized model, behind its Q/DQ pair if there is one.
        transposed: Weights are stored as ``[in, out]``.
        stored: Initializer of the integer weights.
        scale: Initializer of their scales.
        bias: Initializer of the bias, float or int32; ``None`` without one.
        bias_scale: Initializer of an int32 bias's scales.
    """

    graph: Any
    node: Any
    source: str
    output: str
    narrowed: str
    transposed: bool
    stored: Any
    scale: Any
    bias: Any
    bias_scale: Any

    @property
    def weights(self) -> Floats:
        """Integer weights, outputs first."""
        found: Floats = numpy_helper.to_array(self.stored).astype(np.float64)
        return found.T if self.transposed else found

    @property
    def scales(self) -> Floats:
        """Scale of each output channel's weights, ``[C]``."""
        found = numpy_helper.to_array(self.scale).astype(np.float64).reshape(-1)
        return np.broadcast_to(found, len(self.weights))

    def set_weights(self, weights: Floats) -> None:
        """Store integer weights, given with outputs first."""
        array = np.ascontiguousarray((weights.T if self.transposed else weights).astype(np.int8))
        self.stored.CopyFrom(numpy_helper.from_array(array, self.stored.name))

    @property
    def real_bias(self) -> Floats:
        """The bias in real numbers, ``[C]``; zeros without one."""
        if self.bias is None:
            return np.zeros(len(self.weights))
        values: Floats = numpy_helper.to_array(self.bias).astype(np.float64).reshape(-1)
        return values if self.bias_scale is None else values * self._bias_scales()

    def _bias_scales(self) -> Floats:
        scales: Floats = numpy_helper.to_array(self.bias_scale).astype(np.float64).reshape(-1)
        return scales

    def set_real_bias(self, bias: Floats) -> None:
        """Store a bias given in real numbers, as near as its scale allows; a layer without one is left as it is."""
        if self.bias is None:
            return
        shape = tuple(self.bias.dims)
        if self.bias_scale is None:
            array: npt.NDArray[Any] = bias.astype(np.float32)
        else:
            array = np.clip(np.round(bias / self._bias_scales()), -INT32_END, INT32_END).astype(np.int32)
        self.bias.CopyFrom(numpy_helper.from_array(array.reshape(shape), self.bias.name))


def read(model: bytes) -> Any:
    """Return the parsed model."""
    return onnx_file.read(model, Path("model.onnx"))


def integer_layers(model: Any) -> Iterator[IntegerLayer]:
    """Yield the layers of a parsed model, in order; those without integer weights of their own are not."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type not in KINDS:
            continue
        weights = _dequantized(node.input[1], producers, constants)
        if weights is None or weights[0].data_type != TensorProto.INT8 or _shared(graph, weights[0].name):
            continue
        transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))
        bias = _bias(node, producers, constants)
        yield IntegerLayer(
            graph=graph,
            node=node,
            source=_before(node.input[0], producers),
            output=node.output[0].removesuffix("_QuantizeLinear_Input"),
            narrowed=_behind(node.output[0], graph),
            transposed=transposed,
            stored=weights[0],
            scale=weights[1],
            bias=bias[0],
            bias_scale=bias[1],
        )


def _dequantized(name: str, producers: Mapping[str, Any], constants: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return the integer and the scale initializer behind a dequantized constant."""
    node = producers.get(name)
    if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in constants:
        return None
    return constants[node.input[0]], constants[node.input[1]]


def _bias(node: Any, producers: Mapping[str, Any], constants: Mapping[str, Any]) -> tuple[Any, Any]:
    if len(node.input) < 3 or not node.input[2]:
        return None, None
    if node.input[2] in constants:
        return constants[node.input[2]], None
    return _dequantized(node.input[2], producers, constants) or (None, None)


def _before(name: str, producers: Mapping[str, Any]) -> str:
    """Return the float tensor that a Q/DQ pair narrows."""
    pair = producers.get(name)
    if pair is None or pair.op_type != "DequantizeLinear":
        return name
    quantizer = producers.get(pair.input[0])
    return quantizer.input[0].removesuffix("_QuantizeLinear_Input") if quantizer is not None else name


def _behind(name: str, graph: Any) -> str:
    """Return what a Q/DQ pair makes of a tensor, or its own name without one."""
    quantized = next((n.output[0] for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == name), None)
    pair = next((n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] == quantized), None)
    return str(pair.output[0]) if pair is not None else name


def _shared(graph: Any, name: str) -> bool:
    return sum(name in node.input for node in graph.node) > 1
