"""Which layers hurt: one door to what the two formats measure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import cast

from edgepick_host.compress.step import PassLoader, StepContext
from edgepick_host.core.layer_errors import LayerError
from edgepick_host.core.recipe_names import KEEP
from edgepick_host.core.variants import Recipe, Step
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat

LAYER_SAMPLES = 16
"""Errors of a layer settle on far fewer samples than accuracy does."""

LARGEST_SQNR_DB = 200.0
"""Stands for no error at all: beyond float32's own precision (about 150 dB), and JSON has no infinity."""

_MODULES: Mapping[ModelFormat, str] = {
    ModelFormat.TFLITE: "edgepick_host.compress.tflite_layers",
    ModelFormat.ONNX: "edgepick_host.compress.onnx_layers",
}


def measured_layers(
    float_model: bytes, compressed: bytes, model_format: ModelFormat, context: StepContext
) -> tuple[LayerError, ...]:
    """Return each layer's error in the compressed model, worst first."""
    module = import_module(_MODULES[model_format])
    found = module.layer_errors(float_model, compressed, _few(context).calibration, context.source.inputs)
    return tuple(sorted((_finite(error) for error in found), key=lambda error: error.sqnr_db))


def most_hurting(recipe: Recipe, model: bytes, context: StepContext, passes: PassLoader) -> tuple[LayerError, ...]:
    """Return each layer's error when it alone is quantized as by the recipe, the one that hurts most first."""
    *before, last = recipe.steps
    for step in before:
        model = passes(step.pass_name)(model, step.parameters, context)
    module = import_module(_MODULES[recipe.format])
    found = cast("tuple[LayerError, ...]", module.sensitivity(model, _few(context), _alone(last, passes)))
    return tuple(_finite(error) for error in found)


def _alone(step: Step, passes: PassLoader) -> Callable[[bytes, StepContext, tuple[str, ...]], bytes]:
    """Return a function that quantizes a model but for the layers that it is told to keep."""

    def quantize(model: bytes, context: StepContext, kept: tuple[str, ...]) -> bytes:
        parameters = {key: value for key, value in step.parameters.items() if key != KEEP}
        return passes(step.pass_name)(model, {**parameters, "keep_float": "\n".join(kept)}, context)

    return quantize


def kept_in_float(recipe: Recipe, worst_first: tuple[LayerError, ...]) -> Recipe:
    """Return the recipe with the names of the layers that stay in float.

    Raises:
        CompressionError: No layer was measured.
    """
    last = recipe.steps[-1]
    count = int(last.parameters.get(KEEP, "0"))
    if not worst_first:
        raise CompressionError("no layer's sensitivity could be measured, so none is chosen to stay in float")
    names = "\n".join(error.layer for error in worst_first[:count])
    parameters = {key: value for key, value in last.parameters.items() if key != KEEP}
    return replace(recipe, steps=(*recipe.steps[:-1], replace(last, parameters={**parameters, "keep_float": names})))


def asks_for_layers(recipe: Recipe) -> bool:
    """Return whether the recipe says how many layers stay in float, but not yet which."""
    return KEEP in recipe.steps[-1].parameters


def _few(context: StepContext) -> StepContext:
    return replace(context, calibration=context.calibration.subset(range(min(LAYER_SAMPLES, len(context.calibration)))))


def _finite(error: LayerError) -> LayerError:
    alone = error.alone_sqnr_db
    return replace(
        error,
        sqnr_db=min(error.sqnr_db, LARGEST_SQNR_DB),
        alone_sqnr_db=None if alone is None else min(alone, LARGEST_SQNR_DB),
    )
