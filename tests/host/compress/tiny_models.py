"""A residual network of a few hundred weights, as ``.tflite`` and as ONNX, and data for it. Built, not shipped."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from onnx import TensorProto, helper, numpy_helper

SIZE, CHANNELS, CLASSES = 8, 4, 5


@dataclass
class Weights:
    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    second_bias: np.ndarray
    dense: np.ndarray
    dense_bias: np.ndarray


def weights(seed: int = 0, hidden: int = CHANNELS) -> Weights:
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return rng.normal(0, scale, shape).astype(np.float32)

    return Weights(
        first=normal(hidden, 3, 3, 2, scale=0.4),
        first_bias=normal(hidden, scale=0.2),
        second=normal(hidden, 3, 3, hidden, scale=0.4 * (CHANNELS / hidden) ** 0.5),
        second_bias=normal(hidden, scale=0.2),
        dense=normal(CLASSES, hidden, scale=1.5),
        dense_bias=normal(CLASSES, scale=0.2),
    )


class TfliteBuilder:
    """Just enough of a FlatBuffer writer for the network below."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name: str, shape: list[int], content: np.ndarray | None = None) -> int:
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = shape
        tensor.type = schema.TensorType.FLOAT32 if content is None or content.dtype.kind == "f" else 2
        tensor.buffer = 0
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content.tobytes(), dtype=np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int, options: object, kind: str) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = code.builtinCode
        code.version = 1
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
        self.graph.operators.append(operator)


def _convolution(activation: int) -> schema.Conv2DOptionsT:
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.SAME, 1, 1
    options.dilationWFactor = options.dilationHFactor = 1
    options.fusedActivationFunction = activation
    return options


def tflite_model(w: Weights, *, signature: bool = True, deprecated_only: bool = False, batch: int = 1) -> bytes:
    """Return conv-relu, conv, residual add with relu, mean, dense, softmax."""
    hidden = len(w.first)
    b = TfliteBuilder()
    x = b.tensor("image", [1, SIZE, SIZE, 2])
    first = b.tensor("first", [1, SIZE, SIZE, hidden])
    second = b.tensor("second", [1, SIZE, SIZE, hidden])
    added = b.tensor("added", [1, SIZE, SIZE, hidden])
    mean = b.tensor("mean", [1, hidden])
    logits = b.tensor("logits", [1, CLASSES])
    out = b.tensor("probabilities", [1, CLASSES])
    parameters = {
        name: b.tensor(name, list(getattr(w, field).shape), getattr(w, field))
        for name, field in (
            ("first/w", "first"), ("first/b", "first_bias"), ("second/w", "second"), ("second/b", "second_bias"),
            ("dense/w", "dense"), ("dense/b", "dense_bias"),
        )
    }  # fmt: skip
    axes = b.tensor("axes", [2], np.array([1, 2], dtype=np.int32))
    b.operator("CONV_2D", [x, parameters["first/w"], parameters["first/b"]], first, _convolution(1), "Conv2DOptions")
    b.operator(
        "CONV_2D", [first, parameters["second/w"], parameters["second/b"]], second, _convolution(0), "Conv2DOptions"
    )
    add = schema.AddOptionsT()
    add.fusedActivationFunction = 1
    b.operator("ADD", [first, second], added, add, "AddOptions")
    b.operator("MEAN", [added, axes], mean, schema.ReducerOptionsT(), "ReducerOptions")
    b.operator(
        "FULLY_CONNECTED",
        [mean, parameters["dense/w"], parameters["dense/b"]],
        logits,
        schema.FullyConnectedOptionsT(),
        "FullyConnectedOptions",
    )
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    b.operator("SOFTMAX", [logits], out, softmax, "SoftmaxOptions")
    b.graph.inputs, b.graph.outputs = [x], [out]
    if batch != 1:
        b.graph.tensors[x].shapeSignature = [batch, SIZE, SIZE, 2]
    if signature:
        b.model.signatureDefs = [_signature(x, out)]
    if deprecated_only:
        for code in b.model.operatorCodes:
            code.builtinCode = 0
    return bytes(flatbuffer_utils.convert_object_to_bytearray(b.model))


def _signature(x: int, out: int) -> schema.SignatureDefT:
    found = schema.SignatureDefT()
    found.signatureKey, found.subgraphIndex = "serving_default", 0
    found.inputs, found.outputs = [_entry("x", x)], [_entry("y", out)]
    return found


def _entry(name: str, index: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def onnx_model(w: Weights, *, batch: int | str = 1, opset: int = 17, height: int | str = SIZE) -> bytes:
    """Return the same network with the same input layout (channels last)."""
    constants = {
        "first_w": w.first.transpose(0, 3, 1, 2), "first_b": w.first_bias,
        "second_w": w.second.transpose(0, 3, 1, 2), "second_b": w.second_bias,
        "dense_w": w.dense, "dense_b": w.dense_bias,
    }  # fmt: skip
    pads = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Transpose", ["x"], ["nchw"], "to_nchw", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "first_w", "first_b"], ["c1"], "first", **pads),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "second_w", "second_b"], ["c2"], "second", **pads),
        helper.make_node("Add", ["r1", "c2"], ["a"], "residual"),
        helper.make_node("Relu", ["a"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "dense_w", "dense_b"], ["l"], "dense", transB=1),
        helper.make_node("Softmax", ["l"], ["y"], "softmax", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, height, SIZE, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def dense_onnx(seed: int = 0) -> bytes:
    """Return a network of matrix products only."""
    rng = np.random.default_rng(seed)
    constants = {
        "a": rng.normal(0, 0.5, (6, 32)).astype(np.float32),
        "b": rng.normal(0, 0.5, (32, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], "one"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "b"], ["y"], "two"),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def images(count: int, seed: int = 1) -> np.ndarray:
    """Return inputs ``[count, 8, 8, 2]`` whose mean and texture vary, so that the classes differ."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 1.5, (count, 1, 1, 2))
    return (base + rng.normal(0, 0.5, (count, SIZE, SIZE, 2))).astype(np.float32)


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path
