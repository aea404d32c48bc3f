"""Weights and activations in int8 as QuantizeLinear/DequantizeLinear pairs, with calibrated ranges."""

from collections.abc import Mapping

from edgepick_host.compress import onnx_guard
from edgepick_host.compress.step import Pass, StepContext, parameter


def build() -> Pass:
    """Return the pass; parameters: ``weights`` ("per_channel"), ``layout`` ("default", "symmetric")."""
    return _static_qdq


def _static_qdq(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    parameter(parameters, "weights", ("per_channel",))
    symmetric = parameter(parameters, "layout", ("default", "symmetric")) == "symmetric"
    return onnx_guard.quantize_static(model, context, symmetric=symmetric)
