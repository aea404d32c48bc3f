"""Integer weights and biases that reproduce the float layer's outputs, instead of the nearest ones each by itself.

Layer by layer, in order, on calibration samples: given the inputs that the layer really gets in the quantized model,
its weights are first fitted to the outputs of the float model (least squares, held near the float weights), which
makes up for the rounding of everything before it; then they are rounded one input after the other, each rounding error
carried over into the weights not yet rounded, and the last of it into the bias. The second half is GPTQ (Frantar et
al., 2022, arXiv 2210.17323), which is Optimal Brain Surgeon with a fixed order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from threadpoolctl import threadpool_limits

from edgepick_host.compress import tflite_file
from edgepick_host.compress.patches import Window, rows, windows
from edgepick_host.compress.rounding import MOST_INPUTS, Problem
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_integer_layers import KINDS, IntegerLayer, integer_layers, read
from edgepick_host.compress.tflite_tensors import TensorRunner

Floats = npt.NDArray[np.float64]
Seen = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatLayer:
    """A layer as it was before quantization.

    Attributes:
        source: Name of the input tensor.
        output: Name of the output tensor.
        weights: In the file's shape.
        bias: ``[C]``.
    """

    source: str
    output: str
    weights: Floats
    bias: Floats


def round_adaptively(model: bytes, quantized: bytes, context: StepContext, *, hold: float = inf) -> bytes:
    """Return the quantized model with the integers of its layers chosen by what they do to the layers' outputs.

    Args:
        model: The float file's bytes.
        quantized: The same model, quantized.
        context: Calibration samples.
        hold: How strongly fitted weights are held near the float ones, as a share of the diagonal's mean where there
            are as many rows as unknowns; the more rows, the less. Infinite leaves out the fit: rounding only.
    """
    floats = {layer.output: layer for layer in _float_layers(model)}
    parsed = read(quantized)
    # Sums over several threads come in no fixed order; the digests must not depend on the machine's cores.
    with threadpool_limits(limits=1, user_api="blas"):
        for layer in integer_layers(parsed):
            real = floats.get(layer.output)
            if real is not None:
                ideal = _seen(model, real.source, context)
                _round(layer, real, ideal, _seen(tflite_file.write(parsed), layer.source, context), hold)
    return tflite_file.write(parsed)


def _seen(model: bytes, tensor: str, context: StepContext) -> Seen:
    """Return one tensor on all calibration samples, ``[N, ...]`` without the batch of one."""
    found = TensorRunner(model, [tensor]).stacked(context.calibration.samples(context.source.inputs))[tensor]
    return found.reshape(-1, *found.shape[2:])


def _float_layers(model: bytes) -> Iterator[FloatLayer]:
    parsed = tflite_file.read(model, Path("model.tflite"))
    graph = parsed.subgraphs[0]
    for operator in graph.operators:
        if tflite_file.operator_name(parsed, operator) not in KINDS:
            continue
        constants = [_constant(parsed, graph, int(i)) for i in operator.inputs[1:3]]
        if len(constants) == 2 and all(each is not None for each in constants):
            source, output = (graph.tensors[int(i)] for i in (operator.inputs[0], operator.outputs[0]))
            yield FloatLayer(
                source=tflite_file.tensor_name(source),
                output=tflite_file.tensor_name(output),
                weights=constants[0],
                bias=constants[1],
            )


def _constant(parsed: Any, graph: Any, index: int) -> Any:
    tensor = graph.tensors[index]
    data = tflite_file.constant_bytes(parsed, tensor) if index >= 0 else None
    if data is None or tflite_file.tensor_type(tensor) != "float32":
        return None
    return data.view(np.float32).reshape([int(n) for n in tensor.shape]).astype(np.float64)


def _round(layer: IntegerLayer, real: FloatLayer, ideal: Seen, found: Seen, hold: float) -> None:
    groups = layer.weights.shape[3] if layer.kind == "DEPTHWISE_CONV_2D" else 1
    before, after = (_inputs(layer, values) for values in (ideal, found))
    if before.shape[-1] > MOST_INPUTS:
        return
    weights, bias = _matrix(layer, real.weights), real.bias.copy()
    integers = _matrix(layer, layer.weights.astype(np.float64))
    per_group = len(weights) // groups
    for group in range(groups):
        part = slice(group * per_group, (group + 1) * per_group)
        source = group * len(before) // groups
        problem = Problem.of(before[source], after[source], hold)
        integers[part], bias[part] = problem.solved(
            weights[part], bias[part], layer.weight_scales[part], layer.weight_ends
        )
    layer.set_weights(_unmatrix(layer, integers).astype(np.int64))
    layer.set_real_bias(bias)


def _inputs(layer: IntegerLayer, values: Seen) -> Seen:
    """Return the rows that the layer's weights meet, ``[G, R, K]``: one group, or one per input channel (depthwise)."""
    if layer.kind == "FULLY_CONNECTED":
        return values.reshape(1, -1, layer.weights.shape[1])
    found = rows(windows(values, _window(layer)))
    if layer.kind == "CONV_2D":
        return found.transpose(0, 2, 3, 1).reshape(1, len(found), -1)
    return found.reshape(len(found), found.shape[1], -1).transpose(1, 0, 2)


def _window(layer: IntegerLayer) -> Window:
    options, shape = layer.operator.builtinOptions, layer.weights.shape
    return Window(
        kernel=(shape[1], shape[2]),
        strides=(options.strideH, options.strideW),
        dilations=(options.dilationHFactor, options.dilationWFactor),
        same=options.padding == schema.Padding.SAME,
    )


def _matrix(layer: IntegerLayer, weights: Floats) -> Floats:
    """Return weights as ``[C, K]``."""
    if layer.kind == "DEPTHWISE_CONV_2D":
        return weights.reshape(-1, weights.shape[3]).T.copy()
    return weights.reshape(len(weights), -1).copy()


def _unmatrix(layer: IntegerLayer, matrix: Floats) -> Floats:
    if layer.kind == "DEPTHWISE_CONV_2D":
        return matrix.T.reshape(layer.weights.shape)
    return matrix.reshape(layer.weights.shape)
