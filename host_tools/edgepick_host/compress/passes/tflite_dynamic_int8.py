"""Weights in int8, activations in float32 and quantized at run time: no calibration."""

from collections.abc import Mapping

from edgepick_host.compress import tflite_guard
from edgepick_host.compress.step import Pass, StepContext, parameter


def build() -> Pass:
    """Return the pass; parameters: ``weights`` and ``dense``, "per_channel" or "per_tensor"."""
    return _dynamic_int8


def _dynamic_int8(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    recipe = tflite_guard.dynamic_recipe(
        weights=parameter(parameters, "weights", tflite_guard.GRANULARITY_NAMES),
        dense=parameter(parameters, "dense", tflite_guard.GRANULARITY_NAMES),
    )
    return tflite_guard.quantize(model, recipe)
