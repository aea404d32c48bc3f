"""Weight clustering of an ONNX model: the weights of each layer share a few values."""

from collections.abc import Mapping

from edgepick_host.compress.codebook import clustered, clusters_of
from edgepick_host.compress.onnx_weights import mapped
from edgepick_host.compress.step import Pass, StepContext


def build() -> Pass:
    """Return the pass; parameter: ``clusters`` (32), the number of values that a layer's weights may have besides 0."""
    return _cluster


def _cluster(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    clusters = clusters_of(parameters.get("clusters", "32"))
    return mapped(model, lambda weights: clustered(weights, clusters))
