"""What Jetson profiles refuse of a Q/DQ model: each rule broken once in a real file; and the layout that we write."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepick_host.compress import onnx_file, onnx_guard
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.passes import onnx_static_qdq
from edgepick_host.compress.predictor import OnnxPredictor, int8_sums_may_saturate, predict
from edgepick_host.compress.quality import agreement
from edgepick_host.compress.source import describe, load_source
from edgepick_host.compress.step import StepContext
from edgepick_host.core.left_in_float import float_operators
from edgepick_host.core.operator_tables import Confidence
from edgepick_host.core.plan import make_plan
from edgepick_host.core.tensorrt_rules import TENSORRT_RULES, tensorrt_objections
from edgepick_host.core.verify import profile_objection
from edgepick_profiles.load import load_profile
from edgepick_wire.manifest import ModelFormat
from host.devices_rules.conftest import DEMO

INTEGERS = ("jetson-orin-nano", "jetson-agx-orin", "jetson-xavier-nx", "jetson-agx-xavier")
HALVES = ("jetson-nano", "jetson-tx2")


def facts_of(message: onnx.ModelProto):
    return describe(message.SerializeToString(), ModelFormat.ONNX, DEMO / "model.onnx")


def objections(message: onnx.ModelProto) -> str:
    return "\n".join(tensorrt_objections(facts_of(message)))


@pytest.fixture
def qdq(tiny_qdq) -> onnx.ModelProto:
    return onnx.load_model_from_string(tiny_qdq)


def node(message: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(each for each in message.graph.node if each.name == name)


def producer(message: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    return next(each for each in message.graph.node if tensor in each.output)


def replace_constant(message: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    stored = next(each for each in message.graph.initializer if each.name == name)
    stored.CopyFrom(numpy_helper.from_array(array, name))


def activation_pair(message: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the pair in front of the second convolution."""
    dequantize = producer(message, node(message, "second").input[0])
    return [producer(message, dequantize.input[0]), dequantize]


@pytest.mark.parametrize("profile", INTEGERS)
def test_our_layout_breaks_no_rule(qdq, profile):
    """What the symmetric recipe writes is taken by Xavier and Orin profiles."""
    assert objections(qdq) == ""
    assert profile_objection(facts_of(qdq), load_profile(profile), None) is None


@pytest.mark.parametrize("profile", HALVES)
def test_no_integers_for_chips_without_them(tiny, qdq, profile):
    """Nano and TX2 get float16 only: int8 is refused before any work, and so is a file that holds it."""
    models = {ModelFormat.ONNX: load_source(tiny.onnx).facts}

    plan = make_plan(models, [load_profile(profile)], recipes=["static_wi8_ai8", "float16", "weight_only_wi8"])
    objection = profile_objection(facts_of(qdq), load_profile(profile), None)

    assert [candidate.name for candidate in plan.candidates] == ["float16-onnx"]
    assert all("does not run int8" in rejection.reason for rejection in plan.rejections)
    assert "8-bit integers" in str(objection)


def test_layers_are_fused_with_what_follows(qdq):
    """No pair parts a layer from its activation, and an addition takes one branch bare, the other quantized."""
    kinds = [each.op_type for each in qdq.graph.node]

    relu, add = node(qdq, "relu1"), node(qdq, "residual")
    assert producer(qdq, relu.input[0]).op_type == "Conv"
    assert sorted(producer(qdq, name).op_type for name in add.input) == ["Conv", "DequantizeLinear"]
    assert producer(qdq, node(qdq, "relu2").input[0]).op_type == "Add"
    assert kinds.count("DequantizeLinear") > kinds.count("QuantizeLinear")


@pytest.mark.parametrize("name", ["digits"])
def test_the_fused_layout_answers_as_the_float_model(name):
    """On the demo's model, the layout with fewer pairs loses nothing: at least as near as one with every pair."""
    source, evaluation = load_source(DEMO / f"{name}.onnx"), load_dataset(DEMO / "evaluation.npz").subset(range(100))
    context = StepContext(calibration=load_dataset(DEMO / "calibration.npz").subset(range(64)), source=source.facts)

    model = onnx_static_qdq.build()(source.data, {"layout": "symmetric"}, context)

    exact = not int8_sums_may_saturate()
    found = predict(OnnxPredictor(model, optimise=exact), evaluation, source.facts.inputs)
    reference = predict(OnnxPredictor(source.data), evaluation, source.facts.inputs)
    assert objections(onnx.load_model_from_string(model)) == ""
    assert agreement(found, reference) >= 0.98


def unsigned(message: onnx.ModelProto) -> None:
    for each in activation_pair(message):
        zero = next(i for i in message.graph.initializer if i.name == each.input[2])
        zero.CopyFrom(numpy_helper.from_array(np.array(0, dtype=np.uint8), zero.name))


def shifted(message: onnx.ModelProto) -> None:
    replace_constant(message, activation_pair(message)[0].input[2], np.array(3, dtype=np.int8))


def without_zero_point(message: onnx.ModelProto) -> None:
    # The specification's default is uint8.
    weights = producer(message, node(message, "second").input[1])
    content = next(i for i in message.graph.initializer if i.name == weights.input[0])
    content.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(content).view(np.uint8), content.name))
    del weights.input[2]


def no_scale(message: onnx.ModelProto) -> None:
    replace_constant(message, activation_pair(message)[0].input[1], np.array(0.0, dtype=np.float32))


def computed_scale(message: onnx.ModelProto) -> None:
    name = activation_pair(message)[0].input[1]
    message.graph.node.insert(0, helper.make_node("Identity", [name], ["computed"]))
    for each in activation_pair(message):
        each.input[1] = "computed"


def many_scales(message: onnx.ModelProto) -> None:
    for each, suffix in zip(activation_pair(message), "qd", strict=True):
        scales = np.full(4, 0.1, dtype=np.float32)
        message.graph.initializer.append(numpy_helper.from_array(scales, f"scales_{suffix}"))
        zeros = np.zeros(4, dtype=np.int8)
        message.graph.initializer.append(numpy_helper.from_array(zeros, f"zeros_{suffix}"))
        each.input[1], each.input[2] = f"scales_{suffix}", f"zeros_{suffix}"


def other_axis(message: onnx.ModelProto) -> None:
    # The second convolution has as many inputs as outputs.
    weights = producer(message, node(message, "second").input[1])
    axis = next(each for each in weights.attribute if each.name == "axis")
    axis.i = 1


def float_input(message: onnx.ModelProto) -> None:
    quantize = activation_pair(message)[0]
    node(message, "second").input[0] = quantize.input[0]
    onnx_file.drop_unused(message.graph)


def float_weights(message: onnx.ModelProto) -> None:
    weights = producer(message, node(message, "second").input[1])
    content = next(i for i in message.graph.initializer if i.name == weights.input[0])
    real = numpy_helper.to_array(content).astype(np.float32)
    message.graph.initializer.append(numpy_helper.from_array(real, "real"))
    node(message, "second").input[1] = "real"
    onnx_file.drop_unused(message.graph)


def parted(message: onnx.ModelProto) -> None:
    relu = node(message, "relu1")
    pair(message, relu, 0)


def pair(message: onnx.ModelProto, reader: onnx.NodeProto, index: int) -> None:
    message.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")]
    )
    place = list(message.graph.node).index(reader)
    quantize = helper.make_node("QuantizeLinear", [reader.input[index], "s", "z"], ["q"])
    dequantize = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"])
    reader.input[index] = "dq"
    message.graph.node.insert(place, quantize)
    message.graph.node.insert(place + 1, dequantize)


def float_residual(message: onnx.ModelProto) -> None:
    add = node(message, "residual")
    index = next(i for i in (0, 1) if producer(message, add.input[i]).op_type == "DequantizeLinear")
    quantize = producer(message, producer(message, add.input[index]).input[0])
    add.input[index] = quantize.input[0]


def dynamic(message: onnx.ModelProto) -> None:
    made = helper.make_node("DynamicQuantizeLinear", ["x"], ["dyn", "dyn_s", "dyn_z"])
    message.graph.node.insert(0, made)


BROKEN = {
    unsigned: "quantizes to uint8",
    shifted: "zero point other than 0",
    without_zero_point: "quantizes to uint8",
    no_scale: "scale that is not above 0",
    computed_scale: "computed scale",
    many_scales: "an activation 4 scales",
    other_axis: "along axis 1 of Conv's weights",
    float_input: "not its input",
    parted: "parts Conv (c1) from its Relu",
    float_residual: "adds a tensor that is not quantized",
    dynamic: "DynamicQuantizeLinear belongs to another scheme",
}


def test_real_weights_are_allowed_and_named_if_nobody_asked(qdq):
    """A layer that a recipe keeps in float is fine for TensorRT; one that the quantizer skipped is named."""
    float_weights(qdq)
    left = float_operators(facts_of(qdq))

    assert objections(qdq) == ""
    assert left[0].outputs[0].name == node(qdq, "second").output[0]
    assert float_operators(facts_of(qdq), frozenset(node(qdq, "second").output)) == ()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_layers_kept_in_float_are_taken(tiny, count):
    """Mixed precision is open to Orin: any layers may stay in float beside the integer ones."""
    source = load_source(tiny.onnx)
    context = StepContext(calibration=load_dataset(tiny.calibration), source=source.facts)
    layers = [each for each in onnx.load(tiny.onnx).graph.node if each.op_type in {"Conv", "Gemm"}]
    kept = "\n".join(each.output[0] for each in layers[:count])

    model = onnx_static_qdq.build()(source.data, {"layout": "symmetric", "keep_float": kept}, context)

    facts = facts_of(onnx.load_model_from_string(model))
    assert profile_objection(facts, load_profile("jetson-orin-nano"), None) is None
    assert len(float_operators(facts)) >= count


@pytest.mark.parametrize("damage", BROKEN)
def test_each_broken_rule_is_named(qdq, damage):
    """A file that breaks one rule is refused for Orin with what broke it and how sure that is; a Pi may have it."""
    damage(qdq)

    found = objections(qdq)
    refused = profile_objection(facts_of(qdq), load_profile("jetson-orin-nano"), None)

    assert BROKEN[damage] in found
    assert refused is not None
    assert "documented:" in refused.reason or "inferred:" in refused.reason
    assert profile_objection(facts_of(qdq), load_profile("generic-linux"), None) is None


def test_the_quantizers_own_layout_is_refused(tiny):
    """ONNX Runtime's default layout, with its uint8 or shifted zero points and int32 biases, is not for TensorRT."""
    source = load_source(tiny.onnx)
    context = StepContext(calibration=load_dataset(tiny.calibration), source=source.facts)

    plain = onnx.load_model_from_string(onnx_static_qdq.build()(source.data, {"layout": "default"}, context))

    assert "zero point other than 0" in objections(plain)
    assert "quantizes to int32" in objections(plain)


def test_every_rule_has_a_source():
    """Each rule says where it comes from and how sure it is, and a test above breaks each of them."""
    assert all(rule.source and rule.title and isinstance(rule.confidence, Confidence) for rule in TENSORRT_RULES)
    assert len({rule.check for rule in TENSORRT_RULES}) == len(TENSORRT_RULES) <= len(BROKEN)


def test_guarding_asks_for_the_same_options():
    """The engine is asked for signed symmetric integers and no quantized bias."""
    assert onnx_guard.SYMMETRIC_OPTIONS["ActivationSymmetric"]
    assert not onnx_guard.SYMMETRIC_OPTIONS["QuantizeBias"]
