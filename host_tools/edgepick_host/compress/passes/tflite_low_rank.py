"""Low-rank factorization of a ``.tflite`` model's convolutions and dense layers, where it saves work."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgepick_host.compress import tflite_file
from edgepick_host.compress.low_rank import Factors, energy_of, factorize
from edgepick_host.compress.step import Pass, StepContext
from edgepick_host.compress.tflite_graph import add_constant, add_tensor, drop_unused
from edgepick_host.compress.tflite_weights import Layer, layers
from edgepick_host.errors import CompressionError


def build() -> Pass:
    """Return the pass; parameter: ``energy`` (0.99), the share of a layer's squared singular values that is kept."""
    return _low_rank


def _low_rank(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    energy = energy_of(parameters.get("energy", "0.99"))
    parsed = tflite_file.read(model, Path("model.tflite"))
    split = 0
    for layer in list(layers(parsed)):
        factors = factorize(layer.weights.reshape(len(layer.weights), -1), energy)
        if factors is not None:
            _split(parsed, layer, factors)
            split += 1
    if not split:
        raise CompressionError(f"no layer has a rank low enough to become smaller at {energy:.4g} of its energy")
    drop_unused(parsed)
    return tflite_file.write(parsed)


def _split(model: Any, layer: Layer, factors: Factors) -> None:
    """Put an operator with the right factor before the layer, and leave the left one in the layer."""
    graph, second = layer.graph, layer.operator
    left, right = factors
    rank = len(right)
    output = graph.tensors[second.outputs[0]]
    name = tflite_file.tensor_name(output)
    hidden = add_tensor(graph, f"{name}_rank", [*(int(n) for n in output.shape[:-1]), rank], output.type)
    first = copy.deepcopy(second)
    first.inputs = [
        second.inputs[0],
        add_constant(model, graph, f"{name}_right", right.reshape(rank, *layer.weights.shape[1:])),
        add_constant(model, graph, f"{name}_right_bias", np.zeros(rank, dtype=np.float32)),
    ]
    first.outputs = [hidden]
    first.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
    window = (1, 1) if layer.kind == "CONV_2D" else ()
    weights = add_constant(model, graph, f"{name}_left", left.reshape(len(left), *window, rank))
    second.inputs = [hidden, weights, *(int(i) for i in second.inputs[2:])]
    if layer.kind == "CONV_2D":
        _make_pointwise(second.builtinOptions)
    graph.operators.insert(next(i for i, each in enumerate(graph.operators) if each is second), first)


def _make_pointwise(options: Any) -> None:
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    options.padding = schema.Padding.VALID
