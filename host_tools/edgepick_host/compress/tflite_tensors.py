"""Running a ``.tflite`` model and looking at every tensor on the way, in real numbers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepick_host.compress import tflite_file, tflite_graph
from edgepick_host.compress.dataset import Array
from edgepick_host.compress.predictor import dequantize, quantize
from edgepick_host.compress.quiet import quiet
from edgepick_host.errors import CompressionError

Floats = npt.NDArray[np.float32]


class TensorRunner:
    """One loaded model whose intermediate results can be read.

    With names, the model is cut: these tensors become its outputs, and what they do not need is dropped, so that it
    runs no longer than it must. Without names, every tensor stays readable.

    Delegates are left out: they fuse operators and give several tensors the same memory, and how they round differs
    between processors. One thread: sums over several come in no fixed order, and digests must not depend on the
    machine's cores.

    Args:
        model: The file's bytes.
        names: Of the tensors wanted, those that the model computes are found; all of them if not given.

    Raises:
        CompressionError: LiteRT does not load the model.
    """

    def __init__(self, model: bytes, names: Iterable[str] | None = None) -> None:
        computed, given = _computed(model), _inputs(model)
        wanted = computed | given if names is None else (computed | given) & set(names)
        self._whole = names is None or bool(wanted & given)
        self._interpreter = _loaded(model if self._whole else _cut(model, wanted), whole=self._whole)
        self._inputs = self._interpreter.get_input_details()
        readable = self._interpreter.get_tensor_details() if self._whole else self._interpreter.get_output_details()
        details = {each["name"]: each for each in reversed(readable)}
        self._details = {name: each for name, each in details.items() if name in wanted}

    def run(self, sample: Sequence[Array]) -> dict[str, Floats]:
        """Return the wanted tensors for one sample, batch included, in their real scale."""
        for array, details in zip(sample, self._inputs, strict=True):
            typed = quantize(array, details["quantization"], np.dtype(details["dtype"]))
            self._interpreter.set_tensor(details["index"], typed)
        self._interpreter.reset_all_variables()
        self._interpreter.invoke()
        return {name: self._read(each) for name, each in self._details.items()}

    def stacked(self, samples: Iterable[Sequence[Array]]) -> dict[str, Floats]:
        """Return the wanted tensors for all samples, ``[N, 1, ...]``; at least one sample is needed."""
        found = [self.run(sample) for sample in samples]
        return {name: np.stack([each[name] for each in found]) for name in found[0]}

    def _read(self, details: Any) -> Floats:
        return dequantize(self._interpreter.get_tensor(details["index"]), details["quantization"])


def output_names(model: bytes) -> tuple[str, ...]:
    """Return the names of the main graph's outputs, in order."""
    graph = tflite_file.read(model, Path("model.tflite")).subgraphs[0]
    return tuple(tflite_file.tensor_name(graph.tensors[int(i)]) for i in graph.outputs)


def _loaded(model: bytes, *, whole: bool) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        with quiet():
            interpreter = Interpreter(
                model_content=model,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=whole,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise CompressionError(f"LiteRT does not load the model: {first}") from error
    return interpreter


def _cut(model: bytes, names: set[str]) -> bytes:
    """Return the model with these tensors as its only outputs; its inputs stay."""
    parsed = tflite_file.read(model, Path("model.tflite"))
    graph = parsed.subgraphs[0]
    produced = {int(i) for operator in graph.operators for i in operator.outputs}
    graph.outputs = [i for i in sorted(produced) if tflite_file.tensor_name(graph.tensors[i]) in names]
    parsed.signatureDefs = None
    if len(parsed.subgraphs) == 1:
        tflite_graph.drop_unused(parsed)
    return tflite_file.write(parsed)


def _computed(model: bytes) -> set[str]:
    graph = tflite_file.read(model, Path("model.tflite")).subgraphs[0]
    return {tflite_file.tensor_name(graph.tensors[int(i)]) for operator in graph.operators for i in operator.outputs}


def _inputs(model: bytes) -> set[str]:
    graph = tflite_file.read(model, Path("model.tflite")).subgraphs[0]
    return {tflite_file.tensor_name(graph.tensors[int(i)]) for i in graph.inputs}
