"""The table of recipes and what a profile's rules make of them."""

from dataclasses import replace

import pytest

from edgepick_host import app
from edgepick_host.app import composition
from edgepick_host.core.plan import variant_name
from edgepick_host.core.recipes import RECIPES, is_quantized, specialise
from edgepick_profiles.load import load_profile
from edgepick_profiles.schema import KNOWN_RECIPES
from edgepick_wire.ids import check_name
from edgepick_wire.manifest import ModelFormat

STATIC_TFLITE = RECIPES["static_wi8_ai8", ModelFormat.TFLITE]
STATIC_ONNX = RECIPES["static_wi8_ai8", ModelFormat.ONNX]


@pytest.fixture
def rules():
    return load_profile("generic-linux").rules


def test_every_recipe_that_a_profile_may_name_exists_in_both_formats():
    """The profiles' list of recipes and the compressor's are the same."""
    assert {name for name, _ in RECIPES} == set(KNOWN_RECIPES)
    assert len(RECIPES) == 2 * len(KNOWN_RECIPES)


def test_every_step_names_a_pass_that_can_be_loaded():
    """No recipe refers to a pass that the composition root does not have."""
    names = {step.pass_name for recipe in RECIPES.values() for step in recipe.steps}

    assert names <= set(composition.PASSES)
    assert all(callable(app.compression_pass(name)) for name in names)


def test_dynamic_recipe_keeps_dense_layers_per_tensor():
    """Per-channel hybrid dense layers answer wrongly in tflite-runtime 2.14, so no recipe makes them."""
    (step,) = RECIPES["dynamic_wi8_afp32", ModelFormat.TFLITE].steps

    assert step.parameters["dense"] == "per_tensor"


def test_float_io_of_onnx_is_the_plain_recipe():
    """ONNX int8 models keep float inputs, so asking for that gives no duplicate."""
    assert RECIPES["static_wi8_ai8_float_io", ModelFormat.ONNX] is STATIC_ONNX


def test_rules_that_ask_for_nothing_leave_a_recipe_alone(rules):
    """A profile without special rules gets the recipe under its own name."""
    assert specialise(STATIC_TFLITE, rules, has_dense=True) == STATIC_TFLITE
    assert specialise(STATIC_ONNX, rules, has_dense=False) == STATIC_ONNX


def test_per_tensor_dense_layers_make_another_variant(rules):
    """Where dense layers must be per tensor, steps and name say so."""
    found = specialise(STATIC_TFLITE, replace(rules, per_channel_dense=False), has_dense=True)

    assert found.name == "static_wi8_ai8_dense_per_tensor"
    assert found.steps[0].parameters["dense"] == "per_tensor"


def test_a_model_without_dense_layers_is_shared(rules):
    """The dense rule changes nothing for a model that has none, so the variant stays the same."""
    assert specialise(STATIC_TFLITE, replace(rules, per_channel_dense=False), has_dense=False) == STATIC_TFLITE


def test_symmetric_layout_makes_another_variant(rules):
    """Where zero points must be 0, steps and name of the ONNX recipe say so; the ``.tflite`` one is untouched."""
    symmetric = replace(rules, symmetric_qdq=True)

    assert variant_name(specialise(STATIC_ONNX, symmetric, has_dense=False)) == "static_wi8_ai8_symmetric-onnx"
    assert specialise(STATIC_TFLITE, symmetric, has_dense=True) == STATIC_TFLITE


def test_every_possible_name_fits_into_a_topic(rules):
    """However a recipe is adapted, its variant's name is a valid name on the wire."""
    strict = replace(rules, symmetric_qdq=True, per_channel_dense=False)

    for recipe in RECIPES.values():
        name = variant_name(specialise(recipe, strict, has_dense=True))
        assert check_name("variant", name) == name


def test_only_the_float_recipe_promises_no_compression():
    """Every recipe but float32 must leave a narrow constant behind."""
    assert {recipe.name for recipe in RECIPES.values() if not is_quantized(recipe)} == {"float32"}
