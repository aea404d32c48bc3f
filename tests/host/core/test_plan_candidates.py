"""What is planned, and what is refused before any work."""

from dataclasses import replace

import pytest

from edgepick_host.core.model_facts import ModelFacts, OperatorFacts, TensorFacts
from edgepick_host.core.operator_tables import EDGE_TPU_OPERATORS, TFLM_OPERATORS, TFLM_WITHOUT_INT8
from edgepick_host.core.plan import make_plan
from edgepick_host.core.variants import RejectionCode
from edgepick_profiles.load import load_all, load_profile
from edgepick_profiles.schema import NumberType
from edgepick_wire.manifest import ModelFormat


def facts(model_format: ModelFormat, *operators: str, opset: int = 17) -> ModelFacts:
    image = TensorFacts(name="x", dtype="float32", shape=(1, 8, 8, 1))
    return ModelFacts(
        format=model_format,
        size_bytes=1000,
        opset=opset,
        inputs=(image,),
        outputs=(image,),
        tensors=(image,),
        operators=tuple(OperatorFacts(name=name, version=1) for name in operators),
    )


TFLITE = facts(ModelFormat.TFLITE, "CONV_2D", "FULLY_CONNECTED")
ONNX = facts(ModelFormat.ONNX, "Conv", "Gemm")
BOTH = {ModelFormat.TFLITE: TFLITE, ModelFormat.ONNX: ONNX}


def names(plan):
    return [candidate.name for candidate in plan.candidates]


def reasons(plan):
    return {(rejection.recipe, rejection.profile): rejection.reason for rejection in plan.rejections}


def test_a_candidate_is_computed_once_for_all_its_profiles():
    """Profiles with the same needs share a candidate."""
    plan = make_plan(BOTH, [load_profile("raspberry-pi-3"), load_profile("raspberry-pi-4")])

    (shared,) = (candidate for candidate in plan.candidates if candidate.name == "static_wi8_ai8-tflite")
    assert shared.profiles == ("raspberry-pi-3", "raspberry-pi-4")
    assert len(set(names(plan))) == len(plan.candidates)


def test_every_shipped_profile_has_a_candidate():
    """For a plain network in both formats, no shipped profile is left without anything to compute."""
    profiles = load_all()

    plan = make_plan(BOTH, list(profiles.values()))

    assert {name for candidate in plan.candidates for name in candidate.profiles} == set(profiles)


def test_a_missing_format_is_said():
    """Candidates in a format that was not given are refused with what is needed."""
    plan = make_plan({ModelFormat.TFLITE: TFLITE}, [load_profile("jetson-nano")])

    assert plan.candidates == ()
    assert set(reasons(plan).values()) == {"needs the model as .onnx"}
    assert {rejection.code for rejection in plan.rejections} == {RejectionCode.RULES}


@pytest.mark.parametrize("recipe", ["sparse80.static_wi8_ai8", "qat.static_wi8_ai8", "student.float16"])
def test_what_trains_needs_a_task_file(recipe):
    """Recipes that train are refused with what they need, whoever names them; with a task file they are planned."""
    profile = load_profile("raspberry-pi-3")

    asked = make_plan(BOTH, [profile], recipes=[recipe, "static_wi8_ai8"])
    named = make_plan(BOTH, [replace(profile, recipes=(recipe,))])
    with_task = make_plan(BOTH, [profile], recipes=[recipe], task=True)

    assert names(asked) == ["static_wi8_ai8-tflite"]
    assert names(named) == []
    assert set(reasons(asked).values()) == set(reasons(named).values()) == {"needs a task file (--task)"}
    assert {rejection.code for rejection in asked.rejections} == {RejectionCode.RULES}
    assert names(with_task) == [f"{recipe}-tflite"]


@pytest.mark.parametrize("recipe", ["float32", "float16", "dynamic_wi8_afp32", "static_wi8_ai8_float_io"])
@pytest.mark.parametrize("profile", ["coral-dev-board", "mcu-cortex-m4"])
def test_integer_only_devices_get_no_float(recipe, profile):
    """Recipes that leave float tensors are refused for Coral and microcontrollers before any work."""
    plan = make_plan(BOTH, [load_profile(profile)], recipes=[recipe])

    assert plan.candidates == ()
    assert "does not run float" in plan.rejections[0].reason


def test_integer_only_holds_even_if_floats_are_declared():
    """The integer-only rule alone is enough to refuse float tensors, in either format."""
    coral = load_profile("coral-dev-board")
    lax = replace(
        coral.rules,
        number_types=(NumberType.FLOAT32, NumberType.INT8),
        formats=(ModelFormat.TFLITE, ModelFormat.ONNX),
    )

    plan = make_plan(BOTH, [replace(coral, rules=lax)], recipes=["float32", "static_wi8_ai8"])

    assert names(plan) == ["static_wi8_ai8_dense_per_tensor-tflite"]
    assert all("integers only" in reason for reason in reasons(plan).values())


def test_int8_is_not_tried_where_the_hardware_has_none():
    """Jetson Nano has no int8 arithmetic, so asking for it is refused before any work."""
    plan = make_plan(BOTH, [load_profile("jetson-nano")], recipes=["static_wi8_ai8"])

    assert reasons(plan) == {("static_wi8_ai8-onnx", "jetson-nano"): "the device does not run int8"}


def test_hybrid_models_are_refused_where_the_device_refuses_them():
    """Dynamic range is not offered to devices that do not mix float activations with int8 weights."""
    plan = make_plan(BOTH, [load_profile("jetson-orin-nano")], recipes=["dynamic_wi8_afp32"])

    assert "dynamic range" in plan.rejections[0].reason


def test_dynamic_onnx_is_for_graphs_without_convolutions():
    """ConvInteger is not optimised: dynamic ONNX is refused with Conv and planned without."""
    profile = load_profile("generic-linux")
    dense = {ModelFormat.ONNX: facts(ModelFormat.ONNX, "MatMul", "Relu")}

    refused = make_plan(BOTH, [profile], recipes=["dynamic_wi8_afp32"])
    planned = make_plan(dense, [profile], recipes=["dynamic_wi8_afp32"])

    assert "ConvInteger" in reasons(refused)["dynamic_wi8_afp32-onnx", "generic-linux"]
    assert names(planned) == ["dynamic_wi8_afp32-onnx"]


def test_an_old_operator_set_is_refused_with_the_version_needed():
    """Per-channel Q/DQ needs ONNX operator set 13; older models are told so."""
    old = {ModelFormat.ONNX: facts(ModelFormat.ONNX, "Conv", opset=11)}

    plan = make_plan(old, [load_profile("jetson-orin-nano")], recipes=["static_wi8_ai8"])

    assert "operator set 11" in plan.rejections[0].reason
    assert "13" in plan.rejections[0].reason


@pytest.mark.parametrize(
    ("profile", "operator", "owner"),
    [("coral-dev-board", "HARD_SWISH", "Edge TPU"), ("mcu-cortex-m4", "TILE", "tflite-micro"),
     ("mcu-cortex-m4", "SQRT", "tflite-micro")],
)  # fmt: skip
def test_operators_that_the_device_lacks_are_named(profile, operator, owner):
    """A model with an operator outside of the device's set is refused before any work, naming the operator."""
    models = {ModelFormat.TFLITE: facts(ModelFormat.TFLITE, "CONV_2D", operator)}

    plan = make_plan(models, [load_profile(profile)])

    assert plan.candidates == ()
    assert all(owner in reason and operator in reason for reason in reasons(plan).values())


def test_recipes_given_by_hand_replace_the_profiles_own():
    """``--recipe`` tries exactly what it names."""
    plan = make_plan(BOTH, [load_profile("raspberry-pi-4")], recipes=["float16"])

    assert names(plan) == ["float16-tflite", "float16-onnx"]


def test_operator_tables_are_consistent():
    """What has no int8 kernel is an operator that exists, and every Edge TPU line has a version and its sources."""
    assert TFLM_WITHOUT_INT8 < TFLM_OPERATORS
    assert all(line.max_version >= 1 for line in EDGE_TPU_OPERATORS.values())
    assert all(line.source and line.version_source for line in EDGE_TPU_OPERATORS.values())
    assert list(EDGE_TPU_OPERATORS) == sorted(EDGE_TPU_OPERATORS)
