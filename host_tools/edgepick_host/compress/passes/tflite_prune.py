"""One-shot magnitude pruning of a ``.tflite`` model: the smallest weights of each layer become zero."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepick_host.compress import tflite_file
from edgepick_host.compress.magnitude import pruned, share_of
from edgepick_host.compress.step import Pass, StepContext

PRUNED_OPERATORS = frozenset({"CONV_2D", "FULLY_CONNECTED"})


def build() -> Pass:
    """Return the pass; parameter: ``share`` of each layer's weights that become zero."""
    return _prune


def _prune(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    share = share_of(parameters.get("share", ""))
    parsed = tflite_file.read(model, Path("model.tflite"))
    for buffer in dict.fromkeys(_weight_buffers(parsed)):
        weights = np.frombuffer(bytes(parsed.buffers[buffer].data), dtype=np.float32)
        parsed.buffers[buffer].data = np.frombuffer(pruned(weights, share).tobytes(), dtype=np.uint8)
    return tflite_file.write(parsed)


def _weight_buffers(model: Any) -> Iterator[int]:
    """Yield the buffers of the layers' weights.

    Filters of one channel (depthwise, a first layer on grey images) are left alone: a handful of weights each, all of
    them needed.
    """
    for graph in model.subgraphs:
        for operator in graph.operators:
            if tflite_file.operator_name(model, operator) not in PRUNED_OPERATORS:
                continue
            weights = graph.tensors[operator.inputs[1]]
            if tflite_file.constant_bytes(model, weights) is not None and weights.shape[-1] > 1:
                yield int(weights.buffer)
