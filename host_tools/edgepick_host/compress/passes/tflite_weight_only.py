"""Weights in 8 or 4 bits, widened to float32 before use: smaller files, the same arithmetic, no calibration."""

from collections.abc import Mapping

from edgepick_host.compress import tflite_guard
from edgepick_host.compress.step import Pass, StepContext, parameter


def build() -> Pass:
    """Return the pass; parameter: ``bits`` (8, 4). Depthwise convolutions keep 8 bits."""
    return _weight_only


def _weight_only(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    bits = int(parameter(parameters, "bits", ("8", "4"), default="8"))
    return tflite_guard.quantize(model, tflite_guard.weight_only_recipe(bits))
