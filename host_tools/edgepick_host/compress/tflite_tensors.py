"""Running a ``.tflite`` model and looking at every tensor on the way, in real numbers."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepick_host.compress import tflite_file
from edgepick_host.compress.dataset import Array
from edgepick_host.compress.predictor import dequantize, quantize
from edgepick_host.compress.quiet import quiet
from edgepick_host.errors import CompressionError

Floats = npt.NDArray[np.float32]


class TensorRunner:
    """One loaded model whose intermediate results stay readable.

    Delegates are left out: they fuse operators and give several tensors the same memory. One thread: sums over several
    come in no fixed order, and digests must not depend on the machine's cores.

    Args:
        model: The file's bytes.
        names: Of the tensors wanted; all computed ones if not given.

    Raises:
        CompressionError: LiteRT does not load the model.
    """

    def __init__(self, model: bytes, names: Iterable[str] | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            with quiet():
                self._interpreter = Interpreter(
                    model_content=model,
                    num_threads=1,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                    experimental_preserve_all_tensors=True,
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise CompressionError(f"LiteRT does not load the model: {first}") from error
        self._inputs = self._interpreter.get_input_details()
        computed = _computed(model)
        wanted = computed if names is None else computed & set(names)
        details = {each["name"]: each for each in reversed(self._interpreter.get_tensor_details())}
        self._details = {name: each for name, each in details.items() if name in wanted}

    def run(self, sample: Sequence[Array]) -> dict[str, Floats]:
        """Return the wanted tensors for one sample, batch included, in their real scale."""
        for array, details in zip(sample, self._inputs, strict=True):
            typed = quantize(array, details["quantization"], np.dtype(details["dtype"]))
            self._interpreter.set_tensor(details["index"], typed)
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


def _computed(model: bytes) -> set[str]:
    """Return the names of the main graph's inputs and of what its operators compute."""
    parsed = tflite_file.read(model, Path("model.tflite"))
    graph = parsed.subgraphs[0]
    return {tflite_file.tensor_name(graph.tensors[i]) for i in _filled(graph)}


def _filled(graph: Any) -> Iterator[int]:
    yield from (int(i) for i in graph.inputs)
    for operator in graph.operators:
        yield from (int(i) for i in operator.outputs)
