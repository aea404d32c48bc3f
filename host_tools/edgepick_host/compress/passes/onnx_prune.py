"""One-shot magnitude pruning of an ONNX model: the smallest weights of each layer become zero."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import TensorProto, numpy_helper

from edgepick_host.compress import onnx_file
from edgepick_host.compress.magnitude import pruned, share_of
from edgepick_host.compress.step import Pass, StepContext

PRUNED_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})


def build() -> Pass:
    """Return the pass; parameter: ``share`` of each layer's weights that become zero."""
    return _prune


def _prune(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    share = share_of(parameters.get("share", ""))
    parsed = onnx_file.read(model, Path("model.onnx"))
    weights = {node.input[1] for node in parsed.graph.node if node.op_type in PRUNED_OPERATORS}
    for tensor in parsed.graph.initializer:
        if tensor.name in weights and _is_pruned(tensor):
            array = pruned(numpy_helper.to_array(tensor), share)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return onnx_file.write(parsed)


def _is_pruned(weights: Any) -> bool:
    """Return whether these are a layer's weights to prune.

    Filters of one channel (depthwise, a first layer on grey images) are left alone: a handful of weights each, all of
    them needed.
    """
    return bool(weights.data_type == TensorProto.FLOAT and len(weights.dims) > 1 and weights.dims[1] > 1)
