"""A published float ``.tflite`` file as ONNX, operator by operator: both formats can be compared on one network.

Only what MLPerf Tiny's ResNet8 and anomaly detector are made of; anything else is refused by name.

    python benchmarks/tflite_to_onnx.py model.tflite model.onnx
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgepick_host.compress import tflite_file

OPSET = 18
RELU = schema.ActivationFunctionType.RELU
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class _Converter:
    """Translates one graph; every tensor of rank 4 has its channels first inside."""

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.subgraphs[0]
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def name(self, index: int) -> str:
        return f"t{int(index)}"

    def shape(self, index: int) -> list[int]:
        return [int(n) for n in self.graph.tensors[int(index)].shape]

    def array(self, index: int) -> np.ndarray:
        tensor = self.graph.tensors[int(index)]
        kind = tflite_file.tensor_type(tensor)
        return tflite_file.constant_bytes(self.model, tensor).view(kind).reshape(self.shape(index))

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, activation: int = 0, **attributes: Any) -> None:
        """Add a node, with a Relu behind it if the operator applies one."""
        before = f"{output}_linear" if activation == RELU else output
        self.nodes.append(helper.make_node(kind, inputs, [before], f"{kind}_{output}", **attributes))
        if activation == RELU:
            self.nodes.append(helper.make_node("Relu", [before], [output], f"Relu_{output}"))
        elif activation:
            raise ValueError(f"activation {activation} is not translated")

    def conv_2d(self, op: Any) -> None:
        x, w, b = (int(i) for i in op.inputs)
        options, out = op.builtinOptions, self.name(op.outputs[0])
        size, kernel, stride = self.shape(x)[1:3], self.shape(w)[1:3], (options.strideH, options.strideW)
        pads = [0, 0, 0, 0]
        if options.padding == schema.Padding.SAME:
            missing = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
            pads = [missing[0] // 2, missing[1] // 2, missing[0] - missing[0] // 2, missing[1] - missing[1] // 2]
        weights = self.constant(f"w{w}", self.array(w).transpose(0, 3, 1, 2))
        bias = self.constant(f"b{b}", self.array(b))
        self.add("Conv", [self.name(x), weights, bias], out, options.fusedActivationFunction,
                 kernel_shape=kernel, strides=list(stride), pads=pads)  # fmt: skip

    def add_(self, op: Any) -> None:
        names = [self.name(i) for i in op.inputs]
        self.add("Add", names, self.name(op.outputs[0]), op.builtinOptions.fusedActivationFunction)

    def average_pool_2d(self, op: Any) -> None:
        options = op.builtinOptions
        self.add("AveragePool", [self.name(op.inputs[0])], self.name(op.outputs[0]),
                 kernel_shape=[options.filterHeight, options.filterWidth],
                 strides=[options.strideH, options.strideW])  # fmt: skip

    def reshape(self, op: Any) -> None:
        out = int(op.outputs[0])
        self.add("Flatten", [self.name(op.inputs[0])], self.name(out), axis=1)

    def fully_connected(self, op: Any) -> None:
        x, w, b = (int(i) for i in op.inputs)
        weights, bias = self.constant(f"w{w}", self.array(w)), self.constant(f"b{b}", self.array(b))
        activation = op.builtinOptions.fusedActivationFunction
        self.add("Gemm", [self.name(x), weights, bias], self.name(op.outputs[0]), activation, transB=1)

    def softmax(self, op: Any) -> None:
        self.add("Softmax", [self.name(op.inputs[0])], self.name(op.outputs[0]), axis=-1)


def converted(data: bytes) -> bytes:
    """Return the model as ONNX, with the same input layout (channels last).

    Raises:
        ValueError: It holds an operator that is not translated.
    """
    model = tflite_file.read(data, Path("model.tflite"))
    work = _Converter(model)
    source, target = int(work.graph.inputs[0]), int(work.graph.outputs[0])
    given = work.name(source)
    if len(work.shape(source)) == 4:
        given = "image"
        work.nodes.append(helper.make_node("Transpose", [given], [work.name(source)], "to_first", perm=TO_FIRST))
    for op in work.graph.operators:
        kind = tflite_file.operator_name(model, op).lower()
        translate = getattr(work, "add_" if kind == "add" else kind, None)
        if translate is None:
            raise ValueError(f"operator {kind.upper()} is not translated")
        translate(op)
    graph = helper.make_graph(
        work.nodes,
        "converted",
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, work.shape(source))],
        [helper.make_tensor_value_info(work.name(target), TensorProto.FLOAT, work.shape(target))],
        work.constants,
    )
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(result, full_check=True)
    return bytes(result.SerializeToString())


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(converted(Path(sys.argv[1]).read_bytes()))
