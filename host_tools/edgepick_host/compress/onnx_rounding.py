"""Moving the integers of a Q/DQ model, layer by layer: adaptive rounding, and taking mean errors off biases."""

from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper
from threadpoolctl import threadpool_limits

from edgepick_host.compress import onnx_file
from edgepick_host.compress.onnx_integer_layers import INT8_ENDS, IntegerLayer, integer_layers, read
from edgepick_host.compress.onnx_tensors import TensorRunner
from edgepick_host.compress.onnx_weights import attribute
from edgepick_host.compress.patches import Window, rows, windows
from edgepick_host.compress.rounding import MOST_INPUTS, Problem
from edgepick_host.compress.step import StepContext

Floats = npt.NDArray[np.float64]
Seen = npt.NDArray[np.float32]


def round_adaptively(model: bytes, quantized: bytes, context: StepContext, *, hold: float = inf) -> bytes:
    """Return the quantized model with the integers of its layers chosen by what they do to the layers' outputs.

    Args:
        model: The prepared float file's bytes.
        quantized: The same model as Q/DQ pairs.
        context: Calibration samples.
        hold: As :meth:`edgepick_host.compress.rounding.Problem.of`.
    """
    parsed, floats = read(quantized), _float_constants(model)
    # Sums over several threads come in no fixed order; the digests must not depend on the machine's cores.
    with threadpool_limits(limits=1, user_api="blas"):
        for layer in integer_layers(parsed):
            weights = floats.get(layer.output)
            if weights is None or weights[0].size // len(weights[0]) > MOST_INPUTS:
                continue
            ideal = _seen(model, layer.source, context)
            found = _seen(onnx_file.write(parsed), _input_of(layer), context)
            _round(layer, weights, (_inputs(layer, ideal), _inputs(layer, found)), hold)
    return onnx_file.write(parsed)


def correct_biases(model: bytes, quantized: bytes, context: StepContext) -> bytes:
    """Return the quantized model with the mean error of every layer's output channels taken off its bias.

    Args:
        model: The prepared float file's bytes.
        quantized: The same model as Q/DQ pairs.
        context: Calibration samples.
    """
    parsed = read(quantized)
    names = [layer.output for layer in integer_layers(parsed)]
    ideal = _means(model, names, context)
    for layer in integer_layers(parsed):
        if layer.output in ideal:
            found = _means(onnx_file.write(parsed), [layer.narrowed], context)[layer.narrowed]
            layer.set_real_bias(layer.real_bias + ideal[layer.output] - found)
    return onnx_file.write(parsed)


def _round(layer: IntegerLayer, constants: tuple[Floats, Floats], seen: tuple[Seen, Seen], hold: float) -> None:
    (weights, bias), (before, after) = constants, seen
    groups = len(before)
    matrix = weights.reshape(len(weights), -1)
    integers, real = matrix.copy(), layer.real_bias if bias.size == 0 else bias.copy()
    per_group = len(matrix) // groups
    for group in range(groups):
        part = slice(group * per_group, (group + 1) * per_group)
        problem = Problem.of(before[group], after[group], hold)
        integers[part], real[part] = problem.solved(matrix[part], real[part], layer.scales[part], INT8_ENDS)
    layer.set_weights(integers.reshape(layer.weights.shape))
    layer.set_real_bias(real)


def _input_of(layer: IntegerLayer) -> str:
    return str(layer.node.input[0])


def _seen(model: bytes, tensor: str, context: StepContext) -> Seen:
    """Return one tensor on all calibration samples, ``[N, ...]`` without the batch of one."""
    found = TensorRunner(model, [tensor]).stacked(context.calibration.samples(context.source.inputs))[tensor]
    return found.reshape(-1, *found.shape[2:])


def _float_constants(model: bytes) -> dict[str, tuple[Floats, Floats]]:
    """Return weights (outputs first) and bias of every layer of the float model, by its output."""
    graph = read(model).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found: dict[str, tuple[Floats, Floats]] = {}
    for node in graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"} or node.input[1] not in constants:
            continue
        weights = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
            weights = weights.T
        has_bias = len(node.input) > 2 and node.input[2] in constants
        bias = numpy_helper.to_array(constants[node.input[2]]).astype(np.float64).reshape(-1) if has_bias else None
        for output in (node.output[0], *_activated(graph, node.output[0])):
            found[output] = weights, np.zeros(0) if bias is None else bias
    return found


def _activated(graph: Any, output: str) -> list[str]:
    """Return the output of the activation that alone reads a tensor: the quantizer may have dropped it."""
    users = [node for node in graph.node if output in node.input]
    return [users[0].output[0]] if len(users) == 1 and users[0].op_type in {"Relu", "Clip"} else []


def _inputs(layer: IntegerLayer, values: Seen) -> Seen:
    """Return the rows that the layer's weights meet, ``[G, R, K]``, by group."""
    if layer.node.op_type != "Conv":
        return values.reshape(1, -1, layer.weights.shape[1])
    groups = attribute(layer.node, "group", 1)
    places = rows(windows(np.moveaxis(_padded(layer.node, values), 1, -1), _window(layer)))
    return places.reshape(len(places), groups, -1).transpose(1, 0, 2)


def _padded(node: Any, values: Seen) -> Seen:
    pads = list(attribute(node, "pads", [0] * (2 * (values.ndim - 2))))
    half = len(pads) // 2
    return np.pad(values, [(0, 0), (0, 0), *zip(pads[:half], pads[half:], strict=True)])


def _window(layer: IntegerLayer) -> Window:
    shape = layer.weights.shape
    return Window(
        kernel=(shape[2], shape[3]),
        strides=tuple(attribute(layer.node, "strides", [1, 1])),
        dilations=tuple(attribute(layer.node, "dilations", [1, 1])),
        same=False,
    )


def _means(model: bytes, names: list[str], context: StepContext) -> Mapping[str, Floats]:
    """Return the mean of every channel of these tensors over all samples; absent ones are left out."""
    runner = TensorRunner(model, names)
    sums: dict[str, Floats] = {}
    for sample in context.calibration.samples(context.source.inputs):
        for name, values in runner.run(sample).items():
            others = tuple(i for i in range(values.ndim) if i != 1)
            mean = values.mean(axis=others, dtype=np.float64)
            sums[name] = sums.get(name, np.zeros_like(mean)) + mean
    return {name: total / len(context.calibration) for name, total in sums.items()}
