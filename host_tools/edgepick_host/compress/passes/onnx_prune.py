"""One-shot magnitude pruning of an ONNX model: the smallest weights of each layer become zero."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import TensorProto, numpy_helper

from edgepick_host.compress import onnx_file
from edgepick_host.compress.magnitude import pruned, share_of
from edgepick_host.compress.step import Pass, StepContext

MATRIX_OPERATORS = frozenset({"Gemm", "MatMul"})


def build() -> Pass:
    """Return the pass; parameter: ``share`` of each layer's weights that become zero."""
    return _prune


def _prune(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del context
    share = share_of(parameters.get("share", ""))
    parsed = onnx_file.read(model, Path("model.onnx"))
    weights = {node.input[1] for node in parsed.graph.node if _is_pruned(node)}
    for tensor in parsed.graph.initializer:
        if tensor.name in weights and tensor.data_type == TensorProto.FLOAT:
            array = pruned(numpy_helper.to_array(tensor), share)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return onnx_file.write(parsed)


def _is_pruned(node: Any) -> bool:
    """Depthwise convolutions are left alone: a few weights per channel, each of them needed."""
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return node.op_type in MATRIX_OPERATORS or (node.op_type == "Conv" and groups == 1)
