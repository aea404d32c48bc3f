"""Operators that a quantizer skipped without a word: what they are, so that nobody takes a model for more than it is.

Engines have tables of operators they have a rule for; the others stay float, and no error is raised. Read here from the
finished file, whatever the engine. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod

from edgepick_host.core.model_facts import FLOAT_TYPES, NARROW_TYPES, ModelFacts, OperatorFacts
from edgepick_host.core.onnx_graph import ACTIVATIONS, DEQUANTIZE, PAIR, WEIGHTED, OnnxGraph, graph_of
from edgepick_host.core.operator_tables import ONNX_QUANTIZED
from edgepick_host.core.recipes import ONNX_STATIC, TFLITE_STATIC, is_quantized
from edgepick_host.core.variants import Recipe
from edgepick_wire.manifest import ModelFormat

CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
HELPERS = frozenset({*PAIR, *MOVES, "Constant", "Shape", "Cast"})
PROBABILITIES = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
FUSED = frozenset({*ACTIVATIONS, "Add"})
DEQUANTIZED = frozenset({DEQUANTIZE})

LEAST_WEIGHTS = 256
"""Elements of a constant that a quantizer of weights should have narrowed; smaller ones save nothing."""


def left_in_float(recipe: Recipe, facts: ModelFacts) -> str:
    """Return which operators of a quantized model stayed float although nobody asked for it; empty if none did."""
    if not is_quantized(recipe):
        return ""
    last = recipe.steps[-1]
    if last.pass_name in {TFLITE_STATIC, ONNX_STATIC}:
        found = float_operators(facts, frozenset(last.parameters.get("keep_float", "").splitlines()))
        return f"left in float by the quantizer, which has no integer form of them: {named(found)}" if found else ""
    found = tuple(operator for operator in facts.operators if _holds_float_weights(operator))
    return f"float weights left by the quantizer, which has no narrower form of them: {named(found)}" if found else ""


def named(operators: Iterable[OperatorFacts]) -> str:
    """Return the kinds with their numbers, sorted: ``LSTM, PRELU (2)``."""
    counts = Counter(operator.name for operator in operators)
    return ", ".join(f"{name} ({n})" if n > 1 else name for name, n in sorted(counts.items()))


def float_operators(facts: ModelFacts, kept: frozenset[str] = frozenset()) -> tuple[OperatorFacts, ...]:
    """Return the operators of a model with quantized activations that compute on real numbers.

    Args:
        facts: Of the finished file.
        kept: Output tensors of the operators that were to stay float.
    """
    if facts.format is ModelFormat.TFLITE:
        return tuple(_float_in_tflite(facts, kept))
    return tuple(_float_in_onnx(graph_of(facts), kept)) if facts.quantizers else ()


def _float_in_tflite(facts: ModelFacts, kept: frozenset[str]) -> Iterator[OperatorFacts]:
    if not any(tensor.channel_scales and not tensor.constant for tensor in facts.tensors):
        return
    for operator in facts.operators:
        activations = [tensor for tensor in (*operator.inputs, *operator.outputs) if not tensor.constant]
        real = any(tensor.dtype in FLOAT_TYPES for tensor in activations)
        if real and operator.name not in CONVERSIONS and not _is_kept(operator, kept):
            yield operator


def _float_in_onnx(graph: OnnxGraph, kept: frozenset[str]) -> Iterator[OperatorFacts]:
    """Yield what reads real numbers that did not come out of integers, and what has no integer form.

    What is fused into the layer before it counts as a part of that; what only moves values computes nothing.
    """
    meant: set[str] = set()
    for operator in graph.facts.operators:
        inputs = graph.computed_inputs(operator)
        if operator.name in HELPERS or not inputs:
            continue
        fused = meant if operator.name in FUSED else set[str]()
        integer = all(tensor.name in fused or graph.comes_from(tensor, DEQUANTIZED) for tensor in inputs)
        integer = integer and not _has_real_weights(operator)
        if (integer and operator.name in ONNX_QUANTIZED) or _is_kept(operator, kept) or _is_last(graph, operator):
            meant.update(tensor.name for tensor in operator.outputs)
        else:
            yield operator


def _has_real_weights(operator: OperatorFacts) -> bool:
    weights = operator.inputs[1:2] if operator.name in WEIGHTED else ()
    return any(tensor.constant and tensor.dtype in FLOAT_TYPES for tensor in weights)


def _is_last(graph: OnnxGraph, operator: OperatorFacts) -> bool:
    """Return whether it turns the model's outputs into probabilities, which are real numbers anyway."""
    outputs = {tensor.name for tensor in graph.facts.outputs}
    return operator.name in PROBABILITIES and not outputs.isdisjoint(tensor.name for tensor in operator.outputs)


def _is_kept(operator: OperatorFacts, kept: frozenset[str]) -> bool:
    return not kept.isdisjoint(tensor.name for tensor in operator.outputs)


def _holds_float_weights(operator: OperatorFacts) -> bool:
    if any(tensor.constant and tensor.dtype in NARROW_TYPES for tensor in operator.inputs):
        return False
    return any(
        tensor.constant and tensor.dtype == "float32" and len(tensor.shape) > 1 and prod(tensor.shape) >= LEAST_WEIGHTS
        for tensor in operator.inputs
    )
