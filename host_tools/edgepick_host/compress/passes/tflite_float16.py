"""Weights in float16, widened to float32 before use: half the size, the same arithmetic."""

from collections.abc import Mapping

from edgepick_host.compress import tflite_guard
from edgepick_host.compress.step import Pass, StepContext


def build() -> Pass:
    """Return the pass."""
    return _float16


def _float16(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del parameters, context
    return tflite_guard.quantize(model, tflite_guard.float16_recipe())
