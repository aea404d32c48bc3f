"""Weights and activations in int8, with ranges calibrated on samples."""

from collections.abc import Mapping

from edgepick_host.compress import tflite_guard
from edgepick_host.compress.step import Pass, StepContext, parameter


def build() -> Pass:
    """Return the pass; parameters: ``weights``, ``dense`` ("per_channel", "per_tensor"), ``io`` ("int8", "float32")."""
    return _static_int8


def _static_int8(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    return tflite_guard.quantize_static(
        model,
        context,
        weights=parameter(parameters, "weights", tflite_guard.GRANULARITY_NAMES),
        dense=parameter(parameters, "dense", tflite_guard.GRANULARITY_NAMES),
        io=parameter(parameters, "io", ("int8", "float32")),
    )
