"""Weights and activations in integers as QuantizeLinear/DequantizeLinear pairs, with calibrated ranges."""

from collections.abc import Mapping

from edgepick_host.compress import onnx_auto, onnx_guard
from edgepick_host.compress.observers import Method
from edgepick_host.compress.range_search import AUTO
from edgepick_host.compress.step import Pass, StepContext, parameter

METHODS = (*(str(method) for method in Method), AUTO)


def build() -> Pass:
    """Return the pass.

    Parameters, with the first of each as default: ``weights`` (per_channel, per_tensor), ``layout`` (default,
    symmetric), ``activations`` (int8, uint8, int16), ``calibration`` (minmax, moving_average, percentile, entropy, mse,
    auto), ``bias_correction`` (off, on), ``rounding`` (nearest, adaptive), ``keep_float`` (output tensors of nodes that
    stay float, one per line).
    """
    return _static_qdq


def _static_qdq(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    def one_of(name: str, *allowed: str) -> str:
        return parameter(parameters, name, allowed, default=allowed[0])

    options = onnx_guard.StaticOptions(
        per_channel=one_of("weights", "per_channel", "per_tensor") == "per_channel",
        symmetric=one_of("layout", "default", "symmetric") == "symmetric",
        activations=one_of("activations", *onnx_guard.ACTIVATION_BITS),
        keep_float=tuple(parameters.get("keep_float", "").splitlines()),
    )
    return onnx_auto.quantize_static(
        model,
        options,
        context,
        calibration=one_of("calibration", *METHODS),
        rounding=one_of("rounding", onnx_auto.NEAREST, onnx_auto.ADAPTIVE),
        bias_correction=one_of("bias_correction", "off", "on") == "on",
    )
