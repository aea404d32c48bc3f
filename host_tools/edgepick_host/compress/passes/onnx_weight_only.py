"""Weights in 8 or 4 bits, widened to float32 before use: smaller files, the same arithmetic, no calibration."""

from collections.abc import Mapping

from edgepick_host.compress.onnx_weight_only import weight_only
from edgepick_host.compress.step import Pass, StepContext, parameter


def build() -> Pass:
    """Return the pass; parameter: ``bits`` (8, 4)."""
    return _weight_only


def _weight_only(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    return weight_only(model, bits=int(parameter(parameters, "bits", ("8", "4"), default="8")))
