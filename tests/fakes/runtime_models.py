"""Tiny model files made on the spot, each for one property that a test needs."""

from functools import cache
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
from onnx import TensorProto, helper
from tflite_micro import runtime as micro

import edgepick_host.demo

schema = micro.schema_fb
DIGITS = Path(edgepick_host.demo.__file__).parent / "data" / "digits.tflite"
DIGITS_ONNX = DIGITS.with_suffix(".onnx")
EVALUATION = DIGITS.with_name("evaluation.npz")

SCALE, ZERO_POINT = 0.5, -10
OPERATORS = {"relu": schema.BuiltinOperator.RELU, "gelu": schema.BuiltinOperator.GELU}


@cache
def tflite(operator: str = "relu", *, quantized: bool = False, open_batch: bool = False) -> bytes:
    """Return a model of one operator on ``[1, 4]``: float32, or int8 at SCALE and ZERO_POINT.

    With ``open_batch`` the first size may vary.
    """
    model = schema.ModelT()
    model.version, model.description = 3, "test"
    code = schema.OperatorCodeT()
    code.builtinCode = OPERATORS[operator]
    code.deprecatedBuiltinCode = min(OPERATORS[operator], 127)
    code.version = 1
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(name, quantized=quantized, open_batch=open_batch) for name in ("a", "b")]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [op]
    model.operatorCodes, model.subgraphs, model.buffers = [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, *, quantized: bool, open_batch: bool):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, [1, 4], 0
    tensor.shapeSignature = [-1, 4] if open_batch else None
    tensor.type = schema.TensorType.INT8 if quantized else schema.TensorType.FLOAT32
    if quantized:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [SCALE], [ZERO_POINT]
    return tensor


def _onnx(nodes: list, inputs: list, outputs: list, initializers: tuple = ()) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@cache
def onnx_relu(width: int = 4, batch: "int | str" = 1) -> bytes:
    """Return Relu from ``a`` to ``b``, float32 ``[batch, width]``."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width]) for name in ("a", "b")]
    return _onnx([helper.make_node("Relu", ["a"], ["b"])], values[:1], values[1:])


@cache
def onnx_logarithm(width: int = 4) -> bytes:
    """Return the logarithm of ``a``: NaN for everything below zero."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("a", "b")]
    return _onnx([helper.make_node("Log", ["a"], ["b"])], values[:1], values[1:])


@cache
def onnx_positions() -> bytes:
    """Return where ``a`` is not zero, int64 ``[2, n]``; it declares ``[2, 4]``, as if that were everywhere."""
    given = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 4])
    promised = helper.make_tensor_value_info("b", TensorProto.INT64, [2, 4])
    return _onnx([helper.make_node("NonZero", ["a"], ["b"])], [given], [promised])


@cache
def onnx_add() -> bytes:
    """Return the sum of two inputs ``p`` and ``q``, int64 and open in size."""
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in ("p", "q", "sum")]
    return _onnx([helper.make_node("Add", ["p", "q"], ["sum"])], values[:2], values[2:])


@cache
def onnx_endless(shape: tuple[int, ...] = (1,)) -> bytes:
    """Return a model of one input ``a`` whose inference does not end within a lifetime."""
    often = helper.make_tensor("often", TensorProto.INT64, [], [2**62])
    return _loop([_value("a", shape)], (often,), shape)


@cache
def onnx_as_long_as_told() -> bytes:
    """Return a model that negates its input ``a`` as often as its input ``often`` says."""
    return _loop([_value("a"), helper.make_tensor_value_info("often", TensorProto.INT64, [])])


def _value(name: str, shape: tuple[int, ...] = (1,)):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _loop(inputs: list, initializers: tuple = (), shape: tuple[int, ...] = (1,)) -> bytes:
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    step = helper.make_tensor_value_info("step", TensorProto.INT64, [])
    kept = helper.make_tensor_value_info("kept", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["flag"], ["kept"]), helper.make_node("Neg", ["before"], ["after"])],
        "body",
        [step, flag, _value("before", shape)],
        [kept, _value("after", shape)],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    loop = helper.make_node("Loop", ["often", "yes", "a"], ["b"], body=body)
    return _onnx([loop], inputs, [_value("b", shape)], (*initializers, yes))


def digits_image() -> tuple[np.ndarray, int]:
    """Return one image of the evaluation set, float32 of ``[1, 32, 32, 1]``, and what it shows."""
    with np.load(EVALUATION) as data:
        return data["x"][:1].astype(np.float32), int(data["y"][0])


def digits_golden(path: Path, *, samples: int = 24, wrong: bool = False) -> Path:
    """Write the demo model's self-test: evaluation images, LiteRT's own float answers, labels."""
    from ai_edge_litert.interpreter import Interpreter

    with np.load(EVALUATION) as data:
        x, y = data["x"][:samples], data["y"][:samples]
    interpreter = Interpreter(model_path=str(DIGITS))
    interpreter.allocate_tensors()
    answers = []
    for image in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis].astype(np.float32))
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    expected = np.stack(answers)
    np.savez(path, x=x, expected=expected[:, ::-1] if wrong else expected, y=y)
    return path
