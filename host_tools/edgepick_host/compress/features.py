"""What a float model makes of its inputs just before its last layer, where samples that matter alike lie close."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgepick_host.compress import onnx_file, onnx_tensors, tflite_file, tflite_tensors
from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.quality import answers, middle_of
from edgepick_host.compress.source import SourceModel
from edgepick_wire.manifest import ModelFormat

LAST_LAYERS = frozenset({"FULLY_CONNECTED", "CONV_2D", "Gemm", "MatMul", "Conv"})
MOST_FEATURES = 4096
"""Of longer vectors, evenly spread elements are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Of a dataset.

    Attributes:
        values: ``[N, F]``.
        groups: The labels, or else what the model answers, ``[N]``.
    """

    values: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int64]


def features_of(source: SourceModel, dataset: Dataset) -> Features:
    """Return what the model makes of every sample.

    Raises:
        CompressionError: It does not run.
    """
    inner, outer = _places(source)
    runner = tflite_tensors.TensorRunner if source.facts.format is ModelFormat.TFLITE else onnx_tensors.TensorRunner
    found = runner(source.data, [inner, outer]).stacked(dataset.samples(source.facts.inputs))
    values = found[inner].reshape(len(dataset), -1)
    step = -(-values.shape[1] // MOST_FEATURES)
    groups = answers(found[outer], middle_of(found[outer])) if dataset.labels is None else dataset.labels
    return Features(values=values[:, ::step], groups=groups)


def _places(source: SourceModel) -> tuple[str, str]:
    """Return the tensor that the last layer reads, and the model's first output."""
    if source.facts.format is ModelFormat.TFLITE:
        return _in_tflite(source.data)
    graph = onnx_file.read(source.data, Path("model.onnx")).graph
    last = [node.input[0] for node in graph.node if node.op_type in LAST_LAYERS]
    return (last[-1] if last else graph.output[0].name), graph.output[0].name


def _in_tflite(data: bytes) -> tuple[str, str]:
    parsed = tflite_file.read(data, Path("model.tflite"))
    graph = parsed.subgraphs[0]
    names = [tflite_file.tensor_name(tensor) for tensor in graph.tensors]
    output = names[int(graph.outputs[0])]
    operators = [(tflite_file.operator_name(parsed, operator), operator) for operator in graph.operators]
    last = [names[int(operator.inputs[0])] for kind, operator in operators if kind in LAST_LAYERS]
    return (last[-1] if last else output), output
