"""The ONNX graph in float16, with float32 inputs and outputs."""

from collections.abc import Mapping

from edgepick_host.compress import onnx_guard
from edgepick_host.compress.step import Pass, StepContext, parameter


def build() -> Pass:
    """Return the pass; parameter: ``io``, "float32"."""
    return _float16


def _float16(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    parameter(parameters, "io", ("float32",))
    return onnx_guard.to_float16(model)
