"""How far a quantized ONNX model answers from its float model, as one number that small changes move smoothly."""

from pathlib import Path
from typing import Any

import numpy as np

from edgepick_host.compress import onnx_file
from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.divergence import Compare, Errors, sigmoid_divergence, softmax_divergence, squared_error
from edgepick_host.compress.onnx_tensors import TensorRunner
from edgepick_host.compress.step import StepContext

_BEFORE = {"Softmax": softmax_divergence, "Sigmoid": sigmoid_divergence}


class Fidelity:
    """Measures models against one float model, on calibration samples.

    A softmax or sigmoid at the end is left out, and what goes into it compared as probabilities: its own integers, if
    there are any, are too coarse to tell small changes.

    Args:
        model: The float file's bytes.
        context: The samples.
    """

    def __init__(self, model: bytes, context: StepContext) -> None:
        self._places = _places(model)
        self._context = context
        self._ideal = self._values(model, context.calibration)

    def errors(self, model: bytes) -> Errors:
        """Return each sample's error, summed over the outputs."""
        found = self._values(model, self._context.calibration)
        pairs = zip(self._places, self._ideal, found, strict=True)
        errors: Errors = np.sum([compare(ideal, values) for (_, compare), ideal, values in pairs], axis=0)
        return errors

    def _values(self, model: bytes, samples: Dataset) -> list[Errors]:
        # Looked up anew: a Q/DQ pair may stand between the last layer and what it ends in.
        names = [tensor for tensor, _ in _places(model)]
        found = TensorRunner(model, names).stacked(samples.samples(self._context.source.inputs))
        return [found[name].astype(np.float64) for name in names]


def _places(model: bytes) -> list[tuple[str, Compare]]:
    graph = onnx_file.read(model, Path("model.onnx")).graph
    return [_place(graph, value.name) for value in graph.output]


def _place(graph: Any, output: str) -> tuple[str, Compare]:
    producer = next((node for node in graph.node if output in node.output), None)
    while producer is not None and producer.op_type in onnx_file.QUANTIZERS:
        producer = next((node for node in graph.node if producer.input[0] in node.output), None)
    if producer is None or producer.op_type not in _BEFORE:
        return output, squared_error
    return producer.input[0], _BEFORE[producer.op_type]
