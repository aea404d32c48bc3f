"""The layers of a float ``.tflite`` file that hold weights, and changing them. Knows the format, not a quantizer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepick_host.compress import tflite_file

FloatArray = npt.NDArray[np.float32]

LAYERS = frozenset({"CONV_2D", "FULLY_CONNECTED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution or dense layer with constant weights of more than one input channel.

    Filters of one channel (depthwise, a first layer on grey images) are not listed: a handful of weights each, all of
    them needed.

    Attributes:
        graph: The subgraph, a ``schema.SubGraphT``.
        operator: The operator, a ``schema.OperatorT``.
        kind: "CONV_2D" or "FULLY_CONNECTED".
        weights: float32; ``[out, height, width, in]`` or ``[out, in]``.
    """

    graph: Any
    operator: Any
    kind: str
    weights: FloatArray


def layers(model: Any) -> Iterator[Layer]:
    """Yield the layers of a parsed model, in order."""
    for graph in model.subgraphs:
        for operator in graph.operators:
            kind = tflite_file.operator_name(model, operator)
            tensor = graph.tensors[operator.inputs[1]] if kind in LAYERS else None
            if tensor is None or tflite_file.tensor_type(tensor) != "float32" or tensor.shape[-1] <= 1:
                continue
            data = tflite_file.constant_bytes(model, tensor)
            if data is not None:
                weights = data.view(np.float32).reshape([int(n) for n in tensor.shape])
                yield Layer(graph=graph, operator=operator, kind=kind, weights=weights)


def mapped(data: bytes, change: Callable[[FloatArray], FloatArray]) -> bytes:
    """Return the model with ``change`` applied to the weights of each layer; weights that are shared change once."""
    model = tflite_file.read(data, Path("model.tflite"))
    found = {int(layer.graph.tensors[layer.operator.inputs[1]].buffer): layer.weights for layer in layers(model)}
    for buffer, weights in found.items():
        model.buffers[buffer].data = np.frombuffer(change(weights).tobytes(), dtype=np.uint8)
    return tflite_file.write(model)
