"""How far a quantized ``.tflite`` model answers from its float model, as one number that small changes move smoothly.

Where the float model ends in a softmax or a sigmoid, the integers after it are too coarse to tell (steps of 1/256): the
tensor before it is compared, as probabilities. Anything else is compared as it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepick_host.compress import tflite_file
from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.divergence import Compare, Errors, sigmoid_divergence, softmax_divergence, squared_error
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_tensors import TensorRunner, output_names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A tensor to compare, and how; without a name it is the model's output of that number."""

    tensor: str
    number: int
    compare: Compare


class Fidelity:
    """Measures models against one float model, on calibration samples.

    Args:
        model: The float file's bytes.
        context: The samples.
    """

    def __init__(self, model: bytes, context: StepContext) -> None:
        self._places = _places(model)
        self._context = context
        self._ideal = self._values(model, context.calibration)

    def errors(self, model: bytes) -> Errors:
        """Return each sample's error, summed over the outputs.

        That is the divergence of probabilities, or the squared error in shares of the output's variance.
        """
        found = self._values(model, self._context.calibration)
        pairs = zip(self._places, self._ideal, found, strict=True)
        errors: Errors = np.sum([place.compare(ideal, values) for place, ideal, values in pairs], axis=0)
        return errors

    def _values(self, model: bytes, samples: Dataset) -> list[Errors]:
        outputs = output_names(model)
        names = [place.tensor or outputs[place.number] for place in self._places]
        found = TensorRunner(model, names).stacked(samples.samples(self._context.source.inputs))
        return [found[name].astype(np.float64) for name in names]


def _places(model: bytes) -> tuple[_Place, ...]:
    parsed = tflite_file.read(model, Path("model.tflite"))
    graph = parsed.subgraphs[0]
    return tuple(_place(parsed, graph, number, int(i)) for number, i in enumerate(graph.outputs))


def _place(parsed: Any, graph: Any, number: int, output: int) -> _Place:
    producer = next((op for op in graph.operators if output in [int(i) for i in op.outputs]), None)
    kind = "" if producer is None else tflite_file.operator_name(parsed, producer)
    if producer is None or kind not in _BEFORE:
        return _Place(tensor="", number=number, compare=squared_error)
    before = tflite_file.tensor_name(graph.tensors[int(producer.inputs[0])])
    return _Place(tensor=before, number=number, compare=_BEFORE[kind])


_BEFORE = {"SOFTMAX": softmax_divergence, "LOGISTIC": sigmoid_divergence}
