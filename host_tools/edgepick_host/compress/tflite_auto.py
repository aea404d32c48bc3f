"""Static quantization without knobs: every choice is made by what it does to answers on calibration samples.

Ranges by ``range_search``; then integer weights by ``tflite_rounding`` or biases by ``tflite_bias``, whichever does
best on samples that it has not seen: it is fitted on each half of them and judged on the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np

from edgepick_host.compress import tflite_file
from edgepick_host.compress.observers import Method
from edgepick_host.compress.range_search import AUTO, LEAST_SAMPLES, NEGLIGIBLE, Ranges, affordable, search_ranges
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_bias import correct_biases
from edgepick_host.compress.tflite_fidelity import Fidelity
from edgepick_host.compress.tflite_guard import StaticOptions
from edgepick_host.compress.tflite_rounding import round_adaptively
from edgepick_host.compress.tflite_static import StaticQuantizer
from edgepick_host.core.model_facts import OperatorFacts

NEAREST, ADAPTIVE = "nearest", "adaptive"

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
    """Return the model in integers.

    Args:
        model: The float file's bytes.
        options: What the result looks like.
        context: Calibration samples and learned ranges.
        calibration: A :class:`Method`, or "auto", which decides about rounding and biases too.
        rounding: "nearest" or "adaptive".
        bias_correction: Take mean errors off the biases.

    Raises:
        CompressionError: The quantizer refuses.
    """
    quantizer = StaticQuantizer(model, options, context)
    small = len(context.calibration) < LEAST_SAMPLES
    if calibration == AUTO and not small:
        ranges = _searched(model, quantizer, context)
    else:
        ranges = quantizer.calibrated(context, Method.MINMAX if calibration == AUTO else Method(calibration))
    quantized = quantizer.quantized(ranges)
    if calibration == AUTO or rounding == ADAPTIVE:
        return improved(model, quantized, context, nearest=calibration == AUTO)
    return correct_biases(model, quantized, context) if bias_correction else quantized


def _searched(model: bytes, quantizer: StaticQuantizer, context: StepContext) -> Ranges:
    allowed = affordable_models(model, len(context.calibration))
    return search_ranges(quantizer, Fidelity(model, context), context, models=allowed)


def affordable_models(model: bytes, samples: int) -> int:
    """Return how many models the search may judge on so many samples."""
    facts = tflite_file.describe(model, Path("model.tflite"))
    return affordable(sum(_multiplications(operator) for operator in facts.operators), samples)


def _multiplications(operator: OperatorFacts) -> int:
    outputs = int(np.prod(operator.outputs[0].shape, dtype=np.int64)) if operator.outputs else 0
    if operator.name not in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}:
        return outputs
    weights = operator.inputs[1].shape
    per_output = weights[1:3] if operator.name == "DEPTHWISE_CONV_2D" else weights[1:]
    return outputs * int(np.prod(per_output, dtype=np.int64))


def improved(model: bytes, quantized: bytes, context: StepContext, *, nearest: bool = True) -> bytes:
    """Return the quantized model with the integers that answer best on samples that they were not fitted to.

    Args:
        model: The float file's bytes.
        quantized: The same model, quantized.
        context: Calibration samples.
        nearest: Consider leaving the weights at their nearest integers, with biases corrected or not, too.
    """
    ways: list[Improve] = [lambda m, _: m, lambda m, c: correct_biases(model, m, c)] if nearest else []
    ways += [lambda m, c, hold=hold: round_adaptively(model, m, c, hold=hold) for hold in HOLDS]  # type: ignore[misc]
    if len(context.calibration) < LEAST_SAMPLES:
        return ways[0](quantized, context)
    if nearest and float(Fidelity(model, context).errors(quantized).mean()) < NEGLIGIBLE:
        return quantized
    halves = [replace(context, calibration=context.calibration.subset(part)) for part in _halves(context)]
    judges = [Fidelity(model, half) for half in halves]
    errors = [sum(float(judges[1 - i].errors(way(quantized, halves[i])).mean()) for i in (0, 1)) for way in ways]
    return ways[int(np.argmin(errors))](quantized, context)


def _halves(context: StepContext) -> tuple[Sequence[int], Sequence[int]]:
    count = len(context.calibration)
    return range(0, count, 2), range(1, count, 2)
