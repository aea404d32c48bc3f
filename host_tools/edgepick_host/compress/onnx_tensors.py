"""Running an ONNX model and looking at every float tensor on the way.

Without graph optimisation: nothing is fused away, and Q/DQ pairs are computed as they are written, in float, so that a
host whose fast int8 kernels saturate gives the same figures as any other.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from edgepick_host.compress import onnx_file
from edgepick_host.compress.dataset import Array
from edgepick_host.compress.quiet import quiet
from edgepick_host.errors import CompressionError

Floats = npt.NDArray[np.float32]

_WHERE = Path("model.onnx")


class TensorRunner:
    """One loaded model whose intermediate results stay readable.

    Args:
        model: The file's bytes.
        names: Of the tensors wanted; all float ones that are computed, and the inputs, if not given.

    Raises:
        CompressionError: ONNX Runtime does not load the model.
    """

    def __init__(self, model: bytes, names: Iterable[str] | None = None) -> None:
        parsed = onnx_file.read(model, _WHERE)
        self._inputs = _inputs(parsed)
        # What a quantizer has put in has no type in the file; who names such a tensor knows that it is float.
        found = computed_floats(parsed) if names is None else _computed(parsed)
        self._names = [name for name in found if names is None or name in set(names)]
        self._outputs = [name for name in self._names if name not in self._inputs]
        if self._outputs:
            del parsed.graph.output[:]
            parsed.graph.output.extend(
                onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._outputs
            )
            onnx_file.drop_unused(parsed.graph)  # what comes after the last of them is not computed
        self._session = _session(parsed.SerializeToString())

    def run(self, sample: Sequence[Array]) -> dict[str, Floats]:
        """Return the wanted tensors for one sample, batch included."""
        feeds = dict(zip(self._inputs, sample, strict=True))
        found = self._session.run(self._outputs, feeds) if self._outputs else []
        given = {name: array.astype(np.float32) for name, array in feeds.items() if name in self._names}
        return {**given, **dict(zip(self._outputs, found, strict=True))}

    def stacked(self, samples: Iterable[Sequence[Array]]) -> dict[str, Floats]:
        """Return the wanted tensors for all samples, ``[N, 1, ...]``; at least one sample is needed."""
        found = [self.run(sample) for sample in samples]
        return {name: np.stack([each[name] for each in found]) for name in found[0]}


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with quiet():
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class of their own
        first = str(error).strip().partition("\n")[0]
        raise CompressionError(f"ONNX Runtime does not load the model: {first}") from error


def _inputs(parsed: Any) -> list[str]:
    constants = {tensor.name for tensor in parsed.graph.initializer}
    return [value.name for value in parsed.graph.input if value.name not in constants]


def _computed(parsed: Any) -> list[str]:
    return [*_inputs(parsed), *(name for node in parsed.graph.node for name in node.output if name)]


def computed_floats(parsed: Any) -> list[str]:
    """Return the names of the inputs and of every float32 tensor that a node computes, in the graph's order."""
    values = (*parsed.graph.input, *parsed.graph.value_info, *parsed.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return [name for name in _computed(parsed) if types.get(name) == TensorProto.FLOAT]


def output_names(model: bytes) -> tuple[str, ...]:
    """Return the names of the graph's outputs, in order."""
    return tuple(value.name for value in onnx_file.read(model, _WHERE).graph.output)
