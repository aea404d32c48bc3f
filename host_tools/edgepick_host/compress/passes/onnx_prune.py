"""One-shot magnitude pruning of an ONNX model: the smallest weights of each layer become zero."""

from collections.abc import Mapping

import numpy as np

from edgepick_host.compress.magnitude import FloatArray, pruned, share_of, two_of_four
from edgepick_host.compress.onnx_weights import mapped
from edgepick_host.compress.step import Pass, StepContext, parameter


def build() -> Pass:
    """Return the pass; parameters: ``pattern`` ("unstructured", "2:4"), and ``share`` of zeros for the former."""
    return _prune


def _prune(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    if parameter(parameters, "pattern", ("unstructured", "2:4"), default="unstructured") == "2:4":
        return mapped(model, _along_input_channels)
    share = share_of(parameters.get("share", ""))
    return mapped(model, lambda weights: pruned(weights, share))


def _along_input_channels(weights: FloatArray) -> FloatArray:
    """Return weights with the pattern along axis 1, where ONNX has the input channels."""
    return np.moveaxis(two_of_four(np.moveaxis(weights, 1, -1)), -1, 1)
