"""The layers of a quantized ``.tflite`` file whose integers can still be moved: weights, biases and their scales."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepick_host.compress import tflite_file

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

KINDS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
CHANNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
BIAS_TYPES: dict[str, npt.DTypeLike] = {"int32": np.int32, "int64": np.int64}
BIAS_END = 2**31 - 2
"""One below the end of 32 bits, so that no corrected bias looks like one that overflowed. 64-bit ones keep to it too:
some kernels add them up in 32 bits."""
WEIGHT_ENDS = {"int8": (-127, 127), "int4": (-8, 7)}


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerLayer:
    """One layer with integer weights and an integer bias.

    Attributes:
        model: The parsed file, a ``schema.ModelT``.
        operator: A ``schema.OperatorT`` of its first graph.
        kind: One of ``KINDS``.
        source: Name of the input tensor.
        output: Name of the output tensor.
    """

    model: Any
    operator: Any
    kind: str
    source: str
    output: str

    def _tensor(self, which: int) -> Any:
        return self.model.subgraphs[0].tensors[int(self.operator.inputs[which])]

    @property
    def weights(self) -> Integers:
        """Integer weights in the file's shape."""
        tensor = self._tensor(1)
        data = tflite_file.constant_bytes(self.model, tensor)
        shape = [int(n) for n in tensor.shape]
        if tflite_file.tensor_type(tensor) == "int4":
            return _unpacked(data, int(np.prod(shape))).reshape(shape)
        found: Integers = data.view(np.int8).reshape(shape).astype(np.int64)
        return found

    @property
    def weight_ends(self) -> tuple[int, int]:
        """Least and largest integer weight."""
        return WEIGHT_ENDS[tflite_file.tensor_type(self._tensor(1))]

    def set_weights(self, weights: Integers) -> None:
        """Store integer weights of the same shape."""
        tensor = self._tensor(1)
        packed = _packed(weights) if tflite_file.tensor_type(tensor) == "int4" else weights.astype(np.int8).ravel()
        self.model.buffers[tensor.buffer].data = packed.view(np.uint8)

    @property
    def weight_scales(self) -> Floats:
        """Scale of each output channel's weights, ``[C]``."""
        scales = np.asarray(self._tensor(1).quantization.scale, dtype=np.float64)
        return np.broadcast_to(scales, self.weights.shape[CHANNEL_AXES[self.kind] :][:1])

    @property
    def bias(self) -> Integers:
        """Integer bias, ``[C]``."""
        tensor = self._tensor(2)
        data = tflite_file.constant_bytes(self.model, tensor)
        found: Integers = data.view(BIAS_TYPES[tflite_file.tensor_type(tensor)]).astype(np.int64)
        return found

    @property
    def bias_scales(self) -> Floats:
        """Scale of each channel's bias, ``[C]``."""
        return np.broadcast_to(np.asarray(self._tensor(2).quantization.scale, dtype=np.float64), self.bias.shape)

    def set_real_bias(self, bias: Floats) -> None:
        """Store a bias given in real numbers, as near as its scale allows."""
        tensor = self._tensor(2)
        steps = np.clip(np.round(bias / self.bias_scales), -BIAS_END, BIAS_END)
        data = steps.astype(BIAS_TYPES[tflite_file.tensor_type(tensor)])
        self.model.buffers[tensor.buffer].data = np.frombuffer(data.tobytes(), dtype=np.uint8)


def integer_layers(model: Any) -> Iterator[IntegerLayer]:
    """Yield the layers of a parsed model's first graph, in order; those without integer weights or bias are not."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        kind = tflite_file.operator_name(model, operator)
        if kind in KINDS and _is_integer(model, graph, operator):
            names = [tflite_file.tensor_name(graph.tensors[int(i)]) for i in (operator.inputs[0], operator.outputs[0])]
            yield IntegerLayer(model=model, operator=operator, kind=kind, source=names[0], output=names[1])


def _is_integer(model: Any, graph: Any, operator: Any) -> bool:
    if len(operator.inputs) < 3 or int(operator.inputs[2]) < 0:
        return False
    weights, bias = (graph.tensors[int(i)] for i in operator.inputs[1:3])
    return (
        tflite_file.tensor_type(weights) in WEIGHT_ENDS
        and tflite_file.tensor_type(bias) in BIAS_TYPES
        and tflite_file.constant_bytes(model, weights) is not None
        and tflite_file.constant_bytes(model, bias) is not None
        and _is_private(model, weights)
        and _is_private(model, bias)
    )


def _is_private(model: Any, tensor: Any) -> bool:
    """Return whether no other tensor has the same buffer: a shared one must not be moved for one layer."""
    return sum(int(each.buffer) == int(tensor.buffer) for graph in model.subgraphs for each in graph.tensors) == 1


def read(model: bytes) -> Any:
    """Return the parsed model."""
    return tflite_file.read(model, Path("model.tflite"))


def _unpacked(data: Any, count: int) -> Integers:
    """Return signed 4-bit numbers, the lower half of each byte first."""
    halves = np.stack([data & 0x0F, data >> 4], axis=-1).ravel()[:count].astype(np.int64)
    return np.where(halves > 7, halves - 16, halves)


def _packed(values: Integers) -> npt.NDArray[np.uint8]:
    flat = np.append(values.ravel(), [0] * (values.size % 2)).astype(np.int64) & 0x0F
    found: npt.NDArray[np.uint8] = (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8)
    return found
