"""Weights and activations in integers, with ranges calibrated on samples."""

from collections.abc import Mapping

from edgepick_host.compress import tflite_auto, tflite_guard
from edgepick_host.compress.observers import Method
from edgepick_host.compress.range_search import AUTO
from edgepick_host.compress.step import Pass, StepContext, parameter

METHODS = (*(str(method) for method in Method), AUTO)


def build() -> Pass:
    """Return the pass.

    Parameters, with the first of each as default: ``weights`` and ``dense`` (per_channel, per_tensor), ``io`` (int8,
    float32), ``activations`` (int8, int16), ``weight_bits`` (8, 4), ``calibration`` (minmax, moving_average,
    percentile, entropy, mse, auto), ``bias_correction`` (off, on), ``rounding`` (nearest, adaptive), ``keep_float``
    (output tensors of layers that stay float, one per line).
    """
    return _static_int8


def _static_int8(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    def one_of(name: str, *allowed: str) -> str:
        return parameter(parameters, name, allowed, default=allowed[0])

    options = tflite_guard.StaticOptions(
        weights=one_of("weights", *tflite_guard.GRANULARITY_NAMES),
        dense=one_of("dense", *tflite_guard.GRANULARITY_NAMES),
        io=one_of("io", "int8", "float32"),
        activations=one_of("activations", *tflite_guard.ACTIVATION_BITS),
        weight_bits=int(one_of("weight_bits", "8", "4")),
        keep_float=tuple(parameters.get("keep_float", "").splitlines()),
    )
    return tflite_auto.quantize_static(
        model,
        options,
        context,
        calibration=one_of("calibration", *METHODS),
        rounding=one_of("rounding", tflite_auto.NEAREST, tflite_auto.ADAPTIVE),
        bias_correction=one_of("bias_correction", "off", "on") == "on",
    )
