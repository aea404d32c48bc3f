"""Static quantization of ONNX models without knobs: every choice is made by its answers on calibration samples.

Ranges by the same descent as for ``.tflite``; then integer weights or biases, whichever does best on samples that it
has not seen: it is fitted on each half of them and judged on the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np

from edgepick_host.compress import onnx_file
from edgepick_host.compress.observers import Method
from edgepick_host.compress.onnx_fidelity import Fidelity
from edgepick_host.compress.onnx_guard import StaticOptions
from edgepick_host.compress.onnx_rounding import correct_biases, round_adaptively
from edgepick_host.compress.onnx_static import StaticQuantizer
from edgepick_host.compress.range_search import AUTO, LEAST_SAMPLES, Ranges, affordable, search_ranges
from edgepick_host.compress.step import StepContext
from edgepick_host.core.model_facts import OperatorFacts

ADAPTIVE, NEAREST = "adaptive", "nearest"
HOLDS = (inf, 10.0, 1.0)
"""Adaptive rounding without a fit, and with one held strongly or less so."""

Improve = Callable[[bytes, StepContext], bytes]
"""Takes a quantized model and samples."""


def quantize_static(
    model: bytes,
    options: StaticOptions,
    context: StepContext,
    *,
    calibration: str = Method.MINMAX,
    rounding: str = NEAREST,
    bias_correction: bool = False,
) -> bytes:
    """Return the model as Q/DQ pairs.

    Args:
        model: The float file's bytes.
        options: What the result looks like.
        context: Calibration samples and learned ranges.
        calibration: A :class:`Method`, or "auto", which decides about rounding and biases too.
        rounding: "nearest" or "adaptive".
        bias_correction: Take mean errors off the biases.

    Raises:
        CompressionError: ONNX Runtime refuses.
    """
    quantizer = StaticQuantizer(model, options, context)
    searches = calibration == AUTO and len(context.calibration) >= LEAST_SAMPLES
    if searches:
        ranges = _searched(quantizer, context)
    else:
        ranges = quantizer.calibrated(context, Method.MINMAX if calibration == AUTO else Method(calibration))
    quantized = quantizer.quantized(ranges)
    if searches or rounding == ADAPTIVE:
        return _improved(quantizer.model, quantized, context, nearest=searches)
    return correct_biases(quantizer.model, quantized, context) if bias_correction else quantized


def _searched(quantizer: StaticQuantizer, context: StepContext) -> Ranges:
    facts = onnx_file.describe(quantizer.model, Path("model.onnx"))
    work = sum(_multiplications(operator) for operator in facts.operators)
    models = affordable(work, len(context.calibration))
    return search_ranges(quantizer, Fidelity(quantizer.model, context), context, models=models)


def _multiplications(operator: OperatorFacts) -> int:
    outputs = int(np.prod(np.abs(operator.outputs[0].shape), dtype=np.int64)) if operator.outputs else 0
    if operator.name not in {"Conv", "Gemm", "MatMul"} or len(operator.inputs) < 2:
        return outputs
    weights = operator.inputs[1].shape
    return outputs * int(np.prod(weights[1:], dtype=np.int64))


def _improved(model: bytes, quantized: bytes, context: StepContext, *, nearest: bool) -> bytes:
    """Return the quantized model with the integers that answer best on samples that they were not fitted to."""
    ways: list[Improve] = [lambda m, _: m, lambda m, c: correct_biases(model, m, c)] if nearest else []
    ways += [lambda m, c, hold=hold: round_adaptively(model, m, c, hold=hold) for hold in HOLDS]  # type: ignore[misc]
    if len(context.calibration) < LEAST_SAMPLES:
        return ways[0](quantized, context)
    halves = [replace(context, calibration=context.calibration.subset(part)) for part in _halves(context)]
    judges = [Fidelity(model, half) for half in halves]
    errors = [sum(float(judges[1 - i].errors(way(quantized, halves[i])).mean()) for i in (0, 1)) for way in ways]
    return ways[int(np.argmin(errors))](quantized, context)


def _halves(context: StepContext) -> tuple[Sequence[int], Sequence[int]]:
    count = len(context.calibration)
    return range(0, count, 2), range(1, count, 2)
