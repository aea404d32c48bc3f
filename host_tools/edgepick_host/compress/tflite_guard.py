"""ai-edge-quantizer behind guards. Owns every call into it.

What each guard is for (all reproduced on ai-edge-quantizer 0.10.0):

- Calibration is a moving average there, so sample order changes ranges: here it is the minimum and maximum over all
  samples, and :func:`calibrate` shows on some of them that reversing the order changes nothing.
- Files with 256 KiB of weights or more get buffers outside of the FlatBuffer, which tflite-micro reads as garbage:
  :func:`finish` writes every model anew with buffers inside.
- Operator versions stay at 1: :func:`finish` sets those that TensorFlow's converter would write.
- A bias that does not fit 32 bits at its scale wraps and flips its sign: the layer is quantized again per tensor.
- A model that it does not understand comes back unchanged, without an error: the caller compares facts
  (:func:`edgepick_host.core.verify.engine_objection`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
from ai_edge_quantizer.utils import qsv_utils

from edgepick_host.compress import tflite_file
from edgepick_host.compress.dataset import Array
from edgepick_host.compress.quiet import quiet
from edgepick_host.compress.step import StepContext
from edgepick_host.errors import CompressionError

ORDER_PROBE_SAMPLES = 8
"""So many samples are calibrated forwards and backwards; enough to tell a moving average from a minimum."""

Granularity = qtyping.QuantGranularity
Operation = qtyping.TFLOperationName
Algorithm = quantizer.AlgorithmName
Ranges = Mapping[str, Mapping[str, Any]]

GRANULARITIES = {"per_channel": Granularity.CHANNELWISE, "per_tensor": Granularity.TENSORWISE}
GRANULARITY_NAMES = tuple(GRANULARITIES)

_WHERE = Path("model.tflite")

INT8_VERSIONS = {
    "ADD": 2, "AVERAGE_POOL_2D": 2, "BATCH_MATMUL": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2, "EQUAL": 2, "FULLY_CONNECTED": 4, "GATHER": 2, "L2_NORMALIZATION": 2, "LOGISTIC": 2, "MAXIMUM": 2,
    "MAX_POOL_2D": 2, "MEAN": 2, "MINIMUM": 2, "MUL": 2, "NOT_EQUAL": 2, "PACK": 2, "PAD": 2, "PADV2": 2, "RELU": 2,
    "RELU6": 2, "RESIZE_BILINEAR": 2, "RESIZE_NEAREST_NEIGHBOR": 2, "SLICE": 2, "SOFTMAX": 2, "SPACE_TO_DEPTH": 2,
    "SPLIT": 2, "STRIDED_SLICE": 2, "SUB": 2, "SUM": 2, "TANH": 2, "TRANSPOSE": 2, "TRANSPOSE_CONV": 2, "UNPACK": 2,
}  # fmt: skip
"""Operator versions for int8 inputs and outputs, as in TensorFlow's ``lite/tools/versioning/op_version.cc``.

FULLY_CONNECTED stays at 4 with per-channel weights too: TensorFlow writes 12 there, which tflite-runtime 2.14 refuses
although its kernels give the right answers (measured on MLPerf Tiny ResNet8)."""

HYBRID_VERSIONS = {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 3}
"""The same for float activations with int8 weights."""


def static_recipe(*, weights: str, dense: str, io: str, per_tensor_outputs: Sequence[str] = ()) -> Any:
    """Return the quantizer's rules for full int8.

    Args:
        weights: "per_channel" or "per_tensor".
        dense: The same for fully-connected layers.
        io: "int8" or "float32" model inputs and outputs.
        per_tensor_outputs: Output tensors of layers whose weights are per tensor whatever the rest.
    """
    rules = recipe_manager.RecipeManager()
    _add_static(rules, ".*", Operation.ALL_SUPPORTED, GRANULARITIES[weights])
    _add_static(rules, ".*", Operation.FULLY_CONNECTED, GRANULARITIES[dense])
    for name in per_tensor_outputs:
        for operation in (Operation.FULLY_CONNECTED, Operation.CONV_2D, Operation.DEPTHWISE_CONV_2D):
            _add_static(rules, re.escape(name), operation, Granularity.TENSORWISE)
    if io == "float32":
        for operation in (Operation.INPUT, Operation.OUTPUT):
            rules.add_quantization_config(".*", operation, algorithm_key=Algorithm.NO_QUANTIZE)
    return rules.get_quantization_recipe()


def _add_static(rules: Any, regex: str, operation: Any, granularity: Any) -> None:
    rules.add_static_config(regex, operation, 8, 8, granularity)


def dynamic_recipe(*, weights: str, dense: str) -> Any:
    """Return the quantizer's rules for int8 weights under float activations."""
    rules = recipe_manager.RecipeManager()
    rules.add_dynamic_config(".*", Operation.ALL_SUPPORTED, 8, GRANULARITIES[weights])
    rules.add_dynamic_config(".*", Operation.FULLY_CONNECTED, 8, GRANULARITIES[dense])
    return rules.get_quantization_recipe()


def float16_recipe() -> Any:
    """Return the quantizer's rules for float16 weights that are widened before use."""
    rules = recipe_manager.RecipeManager()
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    rules.add_quantization_config(".*", Operation.ALL_SUPPORTED, config, Algorithm.FLOAT_CASTING)
    return rules.get_quantization_recipe()


def calibrate(model: bytes, recipe: Any, context: StepContext) -> Ranges:
    """Return each tensor's least and largest value over all calibration samples, whatever their order.

    Raises:
        CompressionError: The engine's statistic depends on the order of the samples.
    """
    inputs = _samples(model, context)
    probe = inputs[:ORDER_PROBE_SAMPLES]
    forwards, backwards = _ranges(model, recipe, probe), _ranges(model, recipe, probe[::-1])
    if not _same(forwards, backwards):
        raise CompressionError("calibration depends on the order of the samples; this quantizer version is not usable")
    return _ranges(model, recipe, inputs)


def _samples(model: bytes, context: StepContext) -> list[dict[str, Array]]:
    signature = tflite_file.read(model, _WHERE).signatureDefs[0]
    names = {int(entry.tensorIndex): entry.name.decode() for entry in signature.inputs}
    order = [names[int(i)] for i in tflite_file.read(model, _WHERE).subgraphs[0].inputs]
    return [dict(zip(order, sample, strict=True)) for sample in context.calibration.samples(context.source.inputs)]


def _ranges(model: bytes, recipe: Any, samples: Iterable[Mapping[str, Array]]) -> Ranges:
    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(recipe)
    # One thread: sums over several come in no fixed order, and the digests must not depend on the machine's cores.
    with quiet():
        engine = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
        engine.calibrate({_signature_key(model): list(samples)}, rules)
    found: Ranges = engine.get_model_qsvs()
    return found


def _signature_key(model: bytes) -> str:
    key: bytes = tflite_file.read(model, _WHERE).signatureDefs[0].signatureKey
    return key.decode()


def _same(a: Ranges, b: Ranges) -> bool:
    return a.keys() == b.keys() and all(
        np.array_equal(np.asarray(a[name][end]), np.asarray(b[name][end])) for name in a for end in a[name]
    )


def quantize(model: bytes, recipe: Any, ranges: Ranges | None = None) -> bytes:
    """Return the model as the quantizer's rules say, self-contained and with the right operator versions.

    Raises:
        CompressionError: The quantizer refuses.
    """
    try:
        with quiet():
            engine = quantizer.Quantizer(bytearray(model))
            engine.load_quantization_recipe(recipe)
            result = engine.quantize(ranges, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        first = str(error).strip().partition("\n")[0]
        raise CompressionError(f"ai-edge-quantizer refuses the model: {first}") from error
    return finish(bytes(result.quantized_model or b""))


def quantize_static(model: bytes, context: StepContext, *, weights: str, dense: str, io: str) -> bytes:
    """Return the model in full int8; layers whose bias would not fit 32 bits get per-tensor weights.

    Raises:
        CompressionError: The quantizer refuses.
    """
    ranges = calibrate(model, static_recipe(weights=weights, dense=dense, io=io), context)
    result = quantize(model, static_recipe(weights=weights, dense=dense, io=io), ranges)
    affected = layers_with_saturated_bias(result)
    if not affected:
        return result
    again = static_recipe(weights=weights, dense=dense, io=io, per_tensor_outputs=affected)
    return quantize(model, again, ranges)


def layers_with_saturated_bias(model: bytes) -> tuple[str, ...]:
    """Return the output tensors of the layers whose bias reaches the end of the int32 range."""
    parsed = tflite_file.read(model, _WHERE)
    saturated = set(tflite_file.saturated_biases(parsed))
    return tuple(
        graph.tensors[operator.outputs[0]].name.decode()
        for graph in parsed.subgraphs
        for operator in graph.operators
        if saturated & {graph.tensors[i].name.decode() for i in operator.inputs if i >= 0}
    )


def finish(model: bytes) -> bytes:
    """Return the model with every buffer inside of the FlatBuffer and with operator versions for its types."""
    parsed = tflite_file.read(model, _WHERE)
    for graph in parsed.subgraphs:
        for operator in graph.operators:
            _bump(parsed, graph, operator)
    return tflite_file.write(parsed)


def _bump(model: Any, graph: Any, operator: Any) -> None:
    code = model.operatorCodes[operator.opcodeIndex]
    name = tflite_file.operator_name(model, operator)
    types = [tflite_file.tensor_type(graph.tensors[i]) for i in operator.inputs if i >= 0]
    if types[:1] == ["int8"]:
        code.version = max(code.version, INT8_VERSIONS.get(name, 1))
    elif types[:2] == ["float32", "int8"]:
        code.version = max(code.version, HYBRID_VERSIONS.get(name, 1))
