"""What a finished model must be, checked on facts alone."""

from dataclasses import replace

import pytest

from edgepick_host.core.model_facts import ModelFacts, OperatorFacts, QuantizerFacts, TensorFacts
from edgepick_host.core.recipes import RECIPES
from edgepick_host.core.variants import RejectionCode
from edgepick_host.core.verify import ArenaFacts, engine_objection, profile_objection
from edgepick_profiles.load import load_profile
from edgepick_wire.manifest import ModelFormat

IMAGE = TensorFacts(name="x", dtype="int8", shape=(1, 8, 8, 4))
KERNEL = TensorFacts(name="w", dtype="int8", shape=(4, 3, 3, 4), constant=True, channel_scales=4)
CONV = OperatorFacts(name="CONV_2D", version=3, inputs=(IMAGE, KERNEL), outputs=(IMAGE,))
GOOD = ModelFacts(
    format=ModelFormat.TFLITE,
    size_bytes=1000,
    inputs=(IMAGE,),
    outputs=(IMAGE,),
    tensors=(IMAGE, KERNEL),
    operators=(CONV,),
)
ZERO_POINT = QuantizerFacts(name="q", dtype="int8", zero_points_are_zero=True)
SYMMETRIC = replace(GOOD, format=ModelFormat.ONNX, opset=17, operators=(), quantizers=(ZERO_POINT,))
FLOAT_RESIDUAL = (
    OperatorFacts(name="Relu", version=17, inputs=(IMAGE,), outputs=(replace(IMAGE, name="b", dtype="float32"),)),
    OperatorFacts(
        name="Add",
        version=17,
        inputs=tuple(replace(IMAGE, name=name, dtype="float32") for name in "xb"),
        outputs=(replace(IMAGE, name="a", dtype="float32"),),
    ),
)
STATIC = RECIPES["static_wi8_ai8", ModelFormat.TFLITE]


def with_operator(**changes) -> ModelFacts:
    return replace(GOOD, operators=(replace(CONV, **changes),))


def with_tensor(**changes) -> ModelFacts:
    return replace(GOOD, tensors=(*GOOD.tensors, replace(IMAGE, name="odd", **changes)))


def test_a_good_model_meets_no_objection():
    """The model that every case below departs from is accepted."""
    assert engine_objection(STATIC, GOOD) is None
    assert profile_objection(GOOD, load_profile("coral-dev-board"), None) is None
    assert profile_objection(SYMMETRIC, load_profile("jetson-orin-nano"), None) is None


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(GOOD, tensors=(IMAGE,)), "changed nothing"),
        (replace(GOOD, external_buffers=2), "outside"),
        (replace(GOOD, saturated_biases=("b",)), "32 bits"),
    ],
)
def test_engines_that_did_not_do_their_work_are_caught(facts, said):
    """A silent no-op, buffers outside of the file, and an overflowing bias are each refused."""
    assert said in str(engine_objection(STATIC, facts))


def test_an_unchanged_model_is_right_for_the_float_recipe():
    """The float32 recipe is allowed to change nothing."""
    assert engine_objection(RECIPES["float32", ModelFormat.TFLITE], replace(GOOD, tensors=(IMAGE,))) is None


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (with_tensor(dtype="float32"), "float tensors are left"),
        (with_tensor(shape=(1, -1, 8, 4)), "open size"),
        (with_operator(name="GELU"), "GELU"),
        (with_operator(version=6), "version 6"),
        (with_operator(name="MAX_POOL_2D", version=2, fused_activation="RELU"), "RELU"),
        (with_operator(inputs=(IMAGE, IMAGE)), "constants"),
        (with_tensor(shape=(2, 8, 8, 4)), "three innermost"),
        (with_tensor(dtype="int4", constant=True), "8-bit weights"),
    ],
)
def test_coral_rules(facts, said):
    """Floats, open sizes, unknown operators, newer versions, fused activations, computed and narrow weights fall."""
    objection = profile_objection(facts, load_profile("coral-dev-board"), None)

    assert objection is not None
    assert objection.code is RejectionCode.VERIFICATION
    assert said in objection.reason


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(SYMMETRIC, quantizers=(replace(ZERO_POINT, zero_points_are_zero=False),)), "zero point"),
        (replace(SYMMETRIC, quantizers=(replace(ZERO_POINT, dtype="uint8"),)), "uint8"),
        (replace(SYMMETRIC, quantizers=(replace(ZERO_POINT, dtype="int32"),)), "int32"),
        (replace(SYMMETRIC, operators=FLOAT_RESIDUAL), "Add (a)"),
    ],
)
def test_tensorrt_rules(facts, said):
    """Zero points other than 0, unsigned or bias quantizers, and float residuals fall for TensorRT profiles only."""
    objection = profile_objection(facts, load_profile("jetson-orin-nano"), None)

    assert objection is not None
    assert said in objection.reason
    assert profile_objection(facts, load_profile("generic-linux"), None) is None


def test_float_onnx_needs_no_quantized_residuals():
    """A float model for TensorRT is not asked for quantizers."""
    plain = replace(SYMMETRIC, quantizers=(), operators=FLOAT_RESIDUAL)

    assert profile_objection(plain, load_profile("jetson-orin-nano"), None) is None


@pytest.mark.parametrize(
    ("arena", "code"),
    [
        (ArenaFacts(failure="Didn't find op"), RejectionCode.VERIFICATION),
        (ArenaFacts(arena_bytes=1000, max_lsb=2), RejectionCode.VERIFICATION),
        (ArenaFacts(arena_bytes=1 << 20, max_lsb=0), RejectionCode.BUDGET),
        (ArenaFacts(arena_bytes=1000, max_lsb=1), None),
    ],
)
def test_microcontroller_rules(arena, code):
    """A model that does not run, answers otherwise, or needs too large an arena is not offered."""
    objection = profile_objection(GOOD, load_profile("mcu-cortex-m4"), arena)

    assert (objection and objection.code) == code


def test_a_large_model_is_over_budget():
    """A file above the profile's budget falls with both sizes."""
    objection = profile_objection(replace(GOOD, size_bytes=9_000_000), load_profile("coral-dev-board"), None)

    assert objection is not None
    assert objection.code is RejectionCode.BUDGET
    assert "9,000,000" in objection.reason
