"""The recipes that exist: ordered passes with parameters, per model format. Data, no code to run.

A profile names those that are tried first; :mod:`edgepick_host.core.recipe_names` composes many more.
:func:`traits` says what a recipe asks of a device, from its steps. :func:`specialise` turns one into the exact steps
for the profile's rules, and the name says so, because a model that differs in layout is another variant.
"""

from collections.abc import Mapping
from dataclasses import replace

from edgepick_host.core.variants import Recipe, Step
from edgepick_profiles.schema import NumberType, RecipeTraits, Rules
from edgepick_wire.manifest import ModelFormat

DENSE_PER_TENSOR = "_dense_per_tensor"
SYMMETRIC = "_symmetric"
SHORT_DENSE = ".dense1"
SHORT_SYMMETRIC = ".sym"
"""What a composed recipe's name gets instead: names are at most 64 characters long."""
PRUNED_SHARE = "0.5"

IDENTITY = "identity"
TFLITE_STATIC = "tflite_static_int8"
ONNX_STATIC = "onnx_static_qdq"


def _step(pass_name: str, **parameters: str) -> Step:
    return Step(pass_name=pass_name, parameters=parameters)


def _tflite(name: str, *steps: Step) -> Recipe:
    return Recipe(name=name, format=ModelFormat.TFLITE, steps=steps)


def _onnx(name: str, *steps: Step) -> Recipe:
    return Recipe(name=name, format=ModelFormat.ONNX, steps=steps)


_TFLITE_INT8 = _step(TFLITE_STATIC, weights="per_channel", dense="per_channel", io="int8")
_TFLITE_INT8_FLOAT_IO = _step(TFLITE_STATIC, weights="per_channel", dense="per_channel", io="float32")
# Per-channel hybrid FULLY_CONNECTED loads in tflite-runtime 2.14 and answers wrongly (MLPerf Tiny ResNet8 on CIFAR-10:
# 10.6 % instead of 76.6 %, measured), so dense layers are per tensor in this recipe everywhere.
_TFLITE_DYNAMIC = _step("tflite_dynamic_int8", weights="per_channel", dense="per_tensor")
_ONNX_QDQ = _step(ONNX_STATIC, weights="per_channel", layout="default")
_ONNX_STATIC_WI8_AI8 = _onnx("static_wi8_ai8", _ONNX_QDQ)

RECIPES: Mapping[tuple[str, ModelFormat], Recipe] = {
    ("float32", ModelFormat.TFLITE): _tflite("float32", _step(IDENTITY)),
    ("float16", ModelFormat.TFLITE): _tflite("float16", _step("tflite_float16")),
    ("dynamic_wi8_afp32", ModelFormat.TFLITE): _tflite("dynamic_wi8_afp32", _TFLITE_DYNAMIC),
    ("static_wi8_ai8", ModelFormat.TFLITE): _tflite("static_wi8_ai8", _TFLITE_INT8),
    ("static_wi8_ai8_float_io", ModelFormat.TFLITE): _tflite("static_wi8_ai8_float_io", _TFLITE_INT8_FLOAT_IO),
    ("pruned50_static_wi8_ai8", ModelFormat.TFLITE): _tflite(
        "pruned50_static_wi8_ai8", _step("tflite_prune", share=PRUNED_SHARE), _TFLITE_INT8
    ),
    ("float32", ModelFormat.ONNX): _onnx("float32", _step(IDENTITY)),
    ("float16", ModelFormat.ONNX): _onnx("float16", _step("onnx_float16", io="float32")),
    ("dynamic_wi8_afp32", ModelFormat.ONNX): _onnx("dynamic_wi8_afp32", _step("onnx_dynamic_int8")),
    ("static_wi8_ai8", ModelFormat.ONNX): _ONNX_STATIC_WI8_AI8,
    # An ONNX int8 model keeps float inputs and outputs anyway: asking for that names the same recipe.
    ("static_wi8_ai8_float_io", ModelFormat.ONNX): _ONNX_STATIC_WI8_AI8,
    ("pruned50_static_wi8_ai8", ModelFormat.ONNX): _onnx(
        "pruned50_static_wi8_ai8", _step("onnx_prune", share=PRUNED_SHARE), _ONNX_QDQ
    ),
}
"""(name, format) -> recipe; a format without an entry has no such recipe."""


FLOAT_SUFFIXES = ("cleanup", "equalize", "low_rank", "cluster", "prune")
"""Ends of the names of passes that leave a model in float32."""


def is_quantized(recipe: Recipe) -> bool:
    """Return whether a model made by ``recipe`` must hold constants of a narrow type."""
    return any(not _leaves_float(step) for step in recipe.steps)


def _leaves_float(step: Step) -> bool:
    return step.pass_name == IDENTITY or step.pass_name.endswith(FLOAT_SUFFIXES)


def traits(recipe: Recipe) -> RecipeTraits:
    """Return what a model made by ``recipe`` asks of a device, as its steps tell."""
    last = recipe.steps[-1]
    if _leaves_float(last):
        return RecipeTraits(number_types=frozenset({NumberType.FLOAT32}))
    if last.pass_name.endswith("_float16"):
        return RecipeTraits(number_types=frozenset({NumberType.FLOAT32, NumberType.FLOAT16}))
    if last.pass_name == TFLITE_STATIC:
        return _static_traits(last)
    types = {NumberType.FLOAT32, NumberType.INT8}
    if last.parameters.get("activations") == "int16":
        types.add(NumberType.INT16)
    return RecipeTraits(number_types=frozenset(types), hybrid=last.pass_name.endswith("_dynamic_int8"))


def _static_traits(step: Step) -> RecipeTraits:
    floats = step.parameters.get("io") == "float32" or bool(
        step.parameters.get("keep") or step.parameters.get("keep_float")
    )
    types = {NumberType.INT8} | ({NumberType.FLOAT32} if floats else set())
    if step.parameters.get("activations") == "int16":
        types.add(NumberType.INT16)
    return RecipeTraits(number_types=frozenset(types), integer_only=not floats)


def specialise(recipe: Recipe, rules: Rules, *, has_dense: bool) -> Recipe:
    """Return the recipe with the layout that ``rules`` ask for, under a name that says so.

    Args:
        recipe: The recipe to adapt.
        rules: Of the profile.
        has_dense: The model has fully-connected layers; without any, their granularity changes nothing.
    """
    composed = "." in recipe.name
    if rules.symmetric_qdq and _has(recipe, ONNX_STATIC):
        suffix = SHORT_SYMMETRIC if composed else SYMMETRIC
        return _adapted(recipe, suffix, ONNX_STATIC, {"layout": "symmetric"})
    if has_dense and not rules.per_channel_dense and _has(recipe, TFLITE_STATIC):
        suffix = SHORT_DENSE if composed else DENSE_PER_TENSOR
        return _adapted(recipe, suffix, TFLITE_STATIC, {"dense": "per_tensor"})
    return recipe


def _has(recipe: Recipe, pass_name: str) -> bool:
    return any(step.pass_name == pass_name for step in recipe.steps)


def _adapted(recipe: Recipe, suffix: str, pass_name: str, parameters: Mapping[str, str]) -> Recipe:
    steps = tuple(
        replace(step, parameters={**step.parameters, **parameters}) if step.pass_name == pass_name else step
        for step in recipe.steps
    )
    return replace(recipe, name=recipe.name + suffix, steps=steps)
