"""Small models with what engines do not expect: operators without integer form, several inputs and outputs."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from onnx import TensorProto, helper, numpy_helper

from host.compress.tiny_models import TfliteBuilder

STEPS, FEATURES, UNITS, CLASSES = 6, 8, 32, 4


def normal(seed: int, *shape: int, scale: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def written(b: TfliteBuilder, inputs: list[int], outputs: list[int]) -> bytes:
    b.graph.inputs, b.graph.outputs = inputs, outputs
    return bytes(flatbuffer_utils.convert_object_to_bytearray(b.model))


def dense(b: TfliteBuilder, source: int, width: int, name: str) -> int:
    """Add a fully-connected layer from ``width`` to the classes; return its output."""
    w, bias = normal(7, CLASSES, width, scale=1.0), normal(8, CLASSES)
    out = b.tensor(name, [1, CLASSES])
    inputs = [source, b.tensor(f"{name}/w", [CLASSES, width], w), b.tensor(f"{name}/b", [CLASSES], bias)]
    b.operator("FULLY_CONNECTED", inputs, out, schema.FullyConnectedOptionsT(), "FullyConnectedOptions")
    return out


def rectified_tflite() -> bytes:
    """Return conv, LEAKY_RELU, PRELU, mean, SQUEEZE, dense."""
    b = TfliteBuilder()
    x = b.tensor("image", [1, 8, 8, 2])
    conv, leaky, prelu = (b.tensor(name, [1, 8, 8, 4]) for name in ("conv", "leaky", "prelu"))
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.SAME, 1, 1
    options.dilationWFactor = options.dilationHFactor = 1
    weights = [b.tensor("conv/w", [4, 3, 3, 2], normal(1, 4, 3, 3, 2)), b.tensor("conv/b", [4], normal(2, 4))]
    b.operator("CONV_2D", [x, *weights], conv, options, "Conv2DOptions")
    slope = schema.LeakyReluOptionsT()
    slope.alpha = 0.1
    b.operator("LEAKY_RELU", [conv], leaky, slope, "LeakyReluOptions")
    alpha = b.tensor("prelu/alpha", [1, 1, 4], normal(3, 1, 1, 4))
    b.operator("PRELU", [leaky, alpha], prelu, None, "NONE")
    mean, flat = b.tensor("mean", [1, 1, 1, 4]), b.tensor("flat", [1, 4])
    reducer = schema.ReducerOptionsT()
    reducer.keepDims = True
    b.operator("MEAN", [prelu, b.tensor("axes", [2], np.array([1, 2], np.int32))], mean, reducer, "ReducerOptions")
    squeeze = schema.SqueezeOptionsT()
    squeeze.squeezeDims = [1, 2]
    b.operator("SQUEEZE", [mean], flat, squeeze, "SqueezeOptions")
    return written(b, [x], [dense(b, flat, 4, "logits")])


def recurrent_tflite() -> bytes:
    """Return a sequence LSTM whose last step is classified."""
    b = TfliteBuilder()
    x = b.tensor("sequence", [1, STEPS, FEATURES])
    gates = [b.tensor(f"w{i}", [UNITS, FEATURES], normal(10 + i, UNITS, FEATURES)) for i in range(4)]
    recurrent = [b.tensor(f"r{i}", [UNITS, UNITS], normal(20 + i, UNITS, UNITS)) for i in range(4)]
    biases = [b.tensor(f"b{i}", [UNITS], normal(30 + i, UNITS)) for i in range(4)]
    states = [b.tensor(name, [1, UNITS]) for name in ("output_state", "cell_state")]
    for index in states:
        b.graph.tensors[index].isVariable = True
    out = b.tensor("lstm", [1, STEPS, UNITS])
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    inputs = [x, *gates, *recurrent, -1, -1, -1, *biases, -1, -1, *states, -1, -1, -1, -1]
    b.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, out, options, "UnidirectionalSequenceLSTMOptions")
    mean = b.tensor("mean", [1, UNITS])
    axes = b.tensor("axes", [1], np.array([1], np.int32))
    b.operator("MEAN", [out, axes], mean, schema.ReducerOptionsT(), "ReducerOptions")
    return written(b, [x], [dense(b, mean, UNITS, "logits")])


def recurrent_onnx() -> bytes:
    """Return an LSTM and a PRelu, then a dense layer; batch of 1, steps in front as the format has them."""
    constants = {
        "w": normal(1, 1, 4 * UNITS, FEATURES), "r": normal(2, 1, 4 * UNITS, UNITS), "b": normal(3, 1, 8 * UNITS),
        "slope": normal(4, UNITS), "d": normal(5, UNITS, CLASSES, scale=1.0),
        "axes": np.array([1], np.int64), "flat": np.array([1, UNITS], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], "steps", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r", "b"], ["", "last"], "lstm", hidden_size=UNITS),
        helper.make_node("Reshape", ["last", "flat"], ["h"], "reshape"),
        helper.make_node("PRelu", ["h", "slope"], ["p"], "prelu"),
        helper.make_node("MatMul", ["p", "d"], ["y"], "dense"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, STEPS, FEATURES])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])]
    used = {name for node in nodes for name in node.input}
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
    graph = helper.make_graph(nodes, "recurrent", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def pair_tflite() -> bytes:
    """Return a model with two inputs and two outputs: the dense layer of their sum, and of their product."""
    b = TfliteBuilder()
    left, right = b.tensor("left", [1, 6]), b.tensor("right", [1, 6])
    added, product = b.tensor("added", [1, 6]), b.tensor("product", [1, 6])
    b.operator("ADD", [left, right], added, schema.AddOptionsT(), "AddOptions")
    b.operator("MUL", [left, right], product, schema.MulOptionsT(), "MulOptions")
    return written(b, [left, right], [dense(b, added, 6, "sum"), dense(b, product, 6, "mix")])


def pair_onnx() -> bytes:
    """Return the same network in ONNX."""
    names = ("first", "second")
    stored = [numpy_helper.from_array(normal(7, CLASSES, 6, scale=1.0), f"{name}_w") for name in names]
    stored += [numpy_helper.from_array(normal(8, CLASSES), f"{name}_b") for name in names]
    nodes = [
        helper.make_node("Add", ["left", "right"], ["added"], "add"),
        helper.make_node("Mul", ["left", "right"], ["product"], "mul"),
        helper.make_node("Gemm", ["added", "first_w", "first_b"], ["sum"], "first", transB=1),
        helper.make_node("Gemm", ["product", "second_w", "second_b"], ["mix"], "second", transB=1),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 6]) for name in ("left", "right")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CLASSES]) for name in ("sum", "mix")]
    graph = helper.make_graph(nodes, "pair", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
