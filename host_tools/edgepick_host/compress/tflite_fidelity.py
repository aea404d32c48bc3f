"""How far a quantized ``.tflite`` model answers from its float model, as one number that small changes move smoothly.

Where the float model ends in a softmax or a sigmoid, the integers after it are too coarse to tell (steps of 1/256): the
tensor before it is compared, as probabilities. Anything else is compared as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepick_host.compress import tflite_file
from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_tensors import TensorRunner, output_names

Errors = npt.NDArray[np.float64]
"""Per sample, ``[N]``."""

TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A tensor to compare, and how; without a name it is the model's output of that number."""

    tensor: str
    number: int
    compare: Callable[[Errors, Errors], Errors]


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
        return _Place(tensor="", number=number, compare=_squared)
    before = tflite_file.tensor_name(graph.tensors[int(producer.inputs[0])])
    return _Place(tensor=before, number=number, compare=_BEFORE[kind])


def _squared(ideal: Errors, found: Errors) -> Errors:
    spread = float(np.var(ideal)) or 1.0
    return np.asarray(_per_sample(np.square(found - ideal)) / spread)


def _softmax_divergence(ideal: Errors, found: Errors) -> Errors:
    a, b = _log_softmax(ideal), _log_softmax(found)
    return np.asarray(_per_sample(np.exp(a) * (a - b)) * ideal.shape[-1])


def _log_softmax(values: Errors) -> Errors:
    shifted = values - values.max(axis=-1, keepdims=True)
    found: Errors = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def _sigmoid_divergence(ideal: Errors, found: Errors) -> Errors:
    a, b = (np.clip(1 / (1 + np.exp(-values)), TINY, 1 - TINY) for values in (ideal, found))
    return _per_sample(a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)))


def _per_sample(values: Errors) -> Errors:
    found: Errors = values.reshape(len(values), -1).mean(axis=1)
    return found


_BEFORE = {"SOFTMAX": _softmax_divergence, "LOGISTIC": _sigmoid_divergence}
