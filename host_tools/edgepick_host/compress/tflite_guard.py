"""ai-edge-quantizer behind guards. Owns every call into it.

What each guard is for (all reproduced on ai-edge-quantizer 0.10.0):

- Calibration is a moving average there, so sample order changes ranges: here the engine only says which tensors need
  a range (:func:`ranged_tensors`), and the ranges come from :mod:`edgepick_host.compress.tflite_ranges`.
- Files with 256 KiB of weights or more get buffers outside of the FlatBuffer, which tflite-micro reads as garbage:
  :func:`finish` writes every model anew with buffers inside.
- Operator versions stay at 1: :func:`finish` sets those that TensorFlow's converter would write.
- A bias that does not fit 32 bits at its scale wraps and flips its sign: the layer is quantized again per tensor
  (:mod:`edgepick_host.compress.tflite_static`).
- Operators that it has no rule for stay float without a word: :func:`uncovered_operators` names them.
- A model that it does not understand comes back unchanged, without an error: the caller compares facts
  (:func:`edgepick_host.core.verify.engine_objection`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_edge_quantizer import calibrator, default_policy, qtyping, quantizer, recipe_manager
from ai_edge_quantizer.utils import qsv_utils, tfl_flatbuffer_utils

from edgepick_host.compress import tflite_file
from edgepick_host.compress.dataset import Array
from edgepick_host.compress.quiet import quiet
from edgepick_host.core.model_facts import ModelFacts, OperatorFacts
from edgepick_host.errors import CompressionError

WIDE = 8
"""Bits of weights unless asked otherwise."""
ACTIVATION_BITS = {"int8": 8, "int16": 16}

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


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticOptions:
    """What a statically quantized model looks like.

    Attributes:
        weights: "per_channel" or "per_tensor".
        dense: The same for fully-connected layers.
        io: "int8" (the activations' type) or "float32" model inputs and outputs.
        activations: "int8", or "int16" with zero points of 0 and 64-bit biases.
        weight_bits: 8, or 4 for convolutions and dense layers; depthwise ones have no kernel for that and keep 8.
        keep_float: Output tensors of the operators that stay float.
        per_tensor: Output tensors of layers whose weights are per tensor whatever the rest.
    """

    weights: str = "per_channel"
    dense: str = "per_channel"
    io: str = "int8"
    activations: str = "int8"
    weight_bits: int = 8
    keep_float: tuple[str, ...] = ()
    per_tensor: tuple[str, ...] = ()


def static_recipe(options: StaticOptions) -> Any:
    """Return the quantizer's rules for integers everywhere; of two rules for one operator, the later one holds."""
    rules = recipe_manager.RecipeManager()
    bits = ACTIVATION_BITS[options.activations]
    kinds = {Operation.ALL_SUPPORTED: options.weights, Operation.FULLY_CONNECTED: options.dense}
    if options.weight_bits != WIDE:
        rules.add_static_config(".*", Operation.ALL_SUPPORTED, bits, WIDE, GRANULARITIES[options.weights])
        kinds = {Operation.CONV_2D: options.weights, Operation.FULLY_CONNECTED: options.dense}
    for operation, granularity in kinds.items():
        rules.add_static_config(".*", operation, bits, options.weight_bits, GRANULARITIES[granularity])
    for name in options.per_tensor:
        rules.add_static_config(_scope(name), Operation.DEPTHWISE_CONV_2D, bits, WIDE, Granularity.TENSORWISE)
        for operation in (Operation.FULLY_CONNECTED, Operation.CONV_2D):
            rules.add_static_config(_scope(name), operation, bits, options.weight_bits, Granularity.TENSORWISE)
    for name in options.keep_float:
        rules.add_quantization_config(_scope(name), Operation.ALL_SUPPORTED, algorithm_key=Algorithm.NO_QUANTIZE)
    if options.io == "float32":
        for operation in (Operation.INPUT, Operation.OUTPUT):
            rules.add_quantization_config(".*", operation, algorithm_key=Algorithm.NO_QUANTIZE)
    return rules.get_quantization_recipe()


def _scope(name: str) -> str:
    """Return a pattern for exactly this output tensor; the engine writes ``;`` behind each name."""
    return f"^{re.escape(name)};?$"


def weight_only_recipe(bits: int) -> Any:
    """Return the quantizer's rules for weights of ``bits`` that are widened to float32 before use.

    Fully-connected layers, convolutions and tables get 4 bits where asked; depthwise convolutions keep 8.
    """
    rules = recipe_manager.RecipeManager()
    rules.add_weight_only_config(".*", Operation.ALL_SUPPORTED, WIDE)
    if bits != WIDE:
        for operation in (Operation.FULLY_CONNECTED, Operation.CONV_2D, Operation.EMBEDDING_LOOKUP):
            rules.add_weight_only_config(".*", operation, bits)
    return rules.get_quantization_recipe()


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


def ranged_tensors(model: bytes, recipe: Any, sample: Mapping[str, Array]) -> Ranges:
    """Return the engine's own statistics of one sample: which tensors need a range, and in what shape.

    Raises:
        CompressionError: The engine cannot run the model.
    """
    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(recipe)
    try:
        with quiet():
            engine = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
            engine.calibrate({_signature_key(model): [sample]}, rules)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise _refusal(error) from error
    found: Ranges = engine.get_model_qsvs()
    return found


def input_names(model: bytes) -> tuple[str, ...]:
    """Return the names of the model's inputs in its signature, in the graph's order."""
    parsed = tflite_file.read(model, _WHERE)
    names = {int(entry.tensorIndex): entry.name.decode() for entry in parsed.signatureDefs[0].inputs}
    return tuple(names[int(i)] for i in parsed.subgraphs[0].inputs)


def _signature_key(model: bytes) -> str:
    key: bytes = tflite_file.read(model, _WHERE).signatureDefs[0].signatureKey
    return key.decode()


def uncovered_operators(facts: ModelFacts) -> tuple[str, ...]:
    """Return the kinds of operators that static quantization leaves float without a word, sorted.

    Read from the engine's own tables: an operator without an entry, or without a rule for int8.
    """
    known = {tflite_file.builtin_name(code): name for code, name in tfl_flatbuffer_utils.TFL_OP_CODE_TO_NAME.items()}
    policy = default_policy.DEFAULT_CONFIG_CHECK_POLICY
    covered = {kind for kind, name in known.items() if any(_is_static(config) for config in policy.get(name, ()))}
    return tuple(sorted({operator.name for operator in facts.operators if _is_float(operator)} - covered))


def _is_static(config: Any) -> bool:
    activations = config.activation_tensor_config
    return activations is not None and activations.num_bits == WIDE


def _is_float(operator: OperatorFacts) -> bool:
    """Return whether an operator computes with real numbers; indices and shapes need no quantization."""
    return any(tensor.dtype == "float32" for tensor in (*operator.inputs, *operator.outputs))


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
        raise _refusal(error) from error
    return finish(bytes(result.quantized_model or b""))


def _refusal(error: Exception) -> CompressionError:
    first = str(error).strip().partition("\n")[0]
    return CompressionError(f"ai-edge-quantizer refuses the model: {first}")


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
