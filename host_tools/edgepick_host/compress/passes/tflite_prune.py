"""One-shot magnitude pruning of a ``.tflite`` model: the smallest weights of each layer become zero."""

from collections.abc import Mapping

from edgepick_host.compress.magnitude import pruned, share_of, two_of_four
from edgepick_host.compress.step import Pass, StepContext, parameter
from edgepick_host.compress.tflite_weights import mapped


def build() -> Pass:
    """Return the pass; parameters: ``pattern`` ("unstructured", "2:4"), and ``share`` of zeros for the former."""
    return _prune


def _prune(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    if parameter(parameters, "pattern", ("unstructured", "2:4"), default="unstructured") == "2:4":
        return mapped(model, two_of_four)
    share = share_of(parameters.get("share", ""))
    return mapped(model, lambda weights: pruned(weights, share))
