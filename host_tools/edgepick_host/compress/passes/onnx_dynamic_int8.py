"""Weights in int8, activations quantized at run time, for ONNX models without convolutions."""

from collections.abc import Mapping

from edgepick_host.compress import onnx_guard
from edgepick_host.compress.step import Pass, StepContext


def build() -> Pass:
    """Return the pass."""
    return _dynamic_int8


def _dynamic_int8(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del parameters, context
    return onnx_guard.quantize_dynamic(model)
