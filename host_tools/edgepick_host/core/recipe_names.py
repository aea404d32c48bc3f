"""The names of composed recipes: what stands before, in, and after a base, joined by dots. Pure.

``clean.eq.static_wi8_ai8.mse.bias`` is: clean the graph up, equalize the layers, quantize to int8 with ranges of least
squared error and corrected biases. :func:`parse` is the only reader of this grammar, and every name that it accepts is
a valid part of a variant's name (:func:`edgepick_wire.ids.check_name`). Order within a name is the order of the steps.

=====================  =================================================================================
training, first        ``channels50`` ``channels20_shallow`` ``sparse80`` ``factored95`` ``shared32``
                       ``distilled`` ``student`` ``derived75`` ``qat`` ``qat4``
before                 ``clean`` ``eq`` ``low_rank95`` ``cluster16`` ``prune50`` ``prune2of4``
base                   ``float32`` ``float16`` ``dynamic_wi8_afp32`` ``weight_only_wi8`` ``weight_only_wi4``
                       ``static_wi8_ai8`` ``static_wi8_ai8_float_io`` ``static_wi8_ai16`` ``static_wi4_ai8``
                       ``static_wi8_au8`` (ONNX: unsigned activations)
                       ``static_wi8_ai16_int_io`` (``.tflite``: integers at inputs and outputs too)
after a static base    ``moving_average`` ``percentile`` ``entropy`` ``mse`` ``auto`` ``bias`` ``adaptive``
                       ``per_tensor`` ``keep3``
=====================  =================================================================================
"""

import re
from collections.abc import Mapping, Sequence

from edgepick_host.core.recipes import IDENTITY, ONNX_STATIC, RECIPES, TFLITE_STATIC
from edgepick_host.core.variants import Recipe, Step
from edgepick_wire.manifest import ModelFormat

SEPARATOR = "."
LONGEST_NAME = 64
"""Of a variant; the alphabet and the length are :func:`edgepick_wire.ids.check_name`'s."""

KEEP = "keep"
"""Parameter of a static step: how many of the layers that hurt most stay in float, before their names are known."""

RECIPE_GRAMMAR = (
    "Bases: float32, float16, dynamic_wi8_afp32, weight_only_wi8, weight_only_wi4, static_wi8_ai8, "
    "static_wi8_ai8_float_io, static_wi8_ai16, static_wi8_ai16_int_io, static_wi4_ai8, static_wi8_au8. "
    "Before one: clean, eq, low_rank95, cluster16, prune50, prune2of4; after a static one: moving_average, percentile, "
    "entropy, mse, auto, bias, adaptive, per_tensor, keep3; with --task, first of all: channels50, channels20_shallow, "
    "sparse80, factored95, shared32, distilled, student, derived75, qat, qat4; joined by dots."
)
"""For a person who wrote a name that is none."""

_TRAINING: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (r"channels(\d\d)", "train_prune_channels", {"ratio": "0.{}"}),
    # Narrower layers alone save int8 kernels no time; leaving out residual blocks does: docs/adr/0038.
    (
        r"channels(\d\d)_shallow",
        "train_prune_channels",
        {"ratio": "0.{}", "round_to": "4", "depth": "0", "steps": "1", "epochs": "60"},
    ),
    (r"sparse(\d\d)", "train_prune", {"final": "0.{}"}),
    (r"factored(\d\d)", "train_low_rank", {"energy": "0.{}"}),
    (r"shared(\d+)", "train_cluster", {"clusters": "{}"}),
    (r"distilled", "train_distill", {"student": "current"}),
    (r"student", "train_distill", {"student": "given"}),
    (r"derived(\d\d)", "train_distill", {"student": "derived", "width": "0.{}"}),
    (r"qat", "train_qat", {}),
    (r"qat4", "train_qat", {"weight_bits": "4"}),
)
_BEFORE: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (r"clean", "cleanup", {}),
    (r"eq", "equalize", {}),
    (r"low_rank(\d\d)", "low_rank", {"energy": "0.{}"}),
    (r"cluster(\d+)", "cluster", {"clusters": "{}"}),
    (r"prune(\d\d)", "prune", {"share": "0.{}"}),
    (r"prune2of4", "prune", {"pattern": "2:4"}),
)
_AFTER: tuple[tuple[str, Mapping[str, str]], ...] = (
    (r"(moving_average|percentile|entropy|mse|auto)", {"calibration": "{}"}),
    (r"bias", {"bias_correction": "on"}),
    (r"adaptive", {"rounding": "adaptive"}),
    (r"per_tensor", {"weights": "per_tensor", "dense": "per_tensor"}),
    (rf"{KEEP}(\d+)", {KEEP: "{}"}),
)


def _only(pass_name: str, **parameters: str) -> tuple[Step, ...]:
    return (Step(pass_name=pass_name, parameters=parameters),)


_TFLITE_BASES: Mapping[str, tuple[Step, ...]] = {
    "static_wi8_ai16": _only(
        TFLITE_STATIC, weights="per_channel", dense="per_channel", io="float32", activations="int16"
    ),
    "static_wi8_ai16_int_io": _only(
        TFLITE_STATIC, weights="per_channel", dense="per_channel", io="int8", activations="int16"
    ),
    "static_wi4_ai8": _only(TFLITE_STATIC, weights="per_channel", dense="per_channel", io="int8", weight_bits="4"),
    "weight_only_wi8": _only("tflite_weight_only", bits="8"),
    "weight_only_wi4": _only("tflite_weight_only", bits="4"),
}
_ONNX_BASES: Mapping[str, tuple[Step, ...]] = {
    "static_wi8_ai16": _only(ONNX_STATIC, weights="per_channel", layout="default", activations="int16"),
    # ONNX Runtime's x86 kernels are fast with unsigned activations only: 0.65 of float's time against 1.56, measured.
    "static_wi8_au8": _only(ONNX_STATIC, weights="per_channel", layout="default", activations="uint8"),
    "weight_only_wi8": _only("onnx_weight_only", bits="8"),
    "weight_only_wi4": _only("onnx_weight_only", bits="4"),
}
_MORE_BASES = {ModelFormat.TFLITE: _TFLITE_BASES, ModelFormat.ONNX: _ONNX_BASES}
EXTRA_BASES = tuple(dict.fromkeys((*_TFLITE_BASES, *_ONNX_BASES)))
"""Bases that no profile names; the search tries them where the rules allow."""


def parse(name: str, model_format: ModelFormat) -> Recipe | None:
    """Return the recipe of that name, or ``None`` if there is none in this format."""
    known = RECIPES.get((name, model_format))
    if known is not None:
        return known
    parts = name.split(SEPARATOR)
    index = next((i for i, part in enumerate(parts) if _base(part, model_format) is not None), None)
    if index is None or len(variant_of(name, model_format)) > LONGEST_NAME:
        return None
    training, before = _front(parts[:index], model_format)
    steps = _with_after(_base(parts[index], model_format) or (), parts[index + 1 :])
    if training is None or before is None or steps is None:
        return None
    return Recipe(name=name, format=model_format, training=training, steps=_shortened((*before, *steps)))


def variant_of(name: str, model_format: ModelFormat) -> str:
    """Return the variant's name: recipe and format."""
    return f"{name}-{model_format.value}"


def compose(before: Sequence[str], base: str, after: Sequence[str] = ()) -> str:
    """Return the name of the composition."""
    return SEPARATOR.join((*before, base, *after))


def _base(part: str, model_format: ModelFormat) -> tuple[Step, ...] | None:
    more = _MORE_BASES[model_format].get(part)
    if more is not None:
        return more
    known = RECIPES.get((part, model_format))
    return None if known is None else known.steps


def _front(parts: Sequence[str], model_format: ModelFormat) -> tuple[tuple[Step, ...] | None, tuple[Step, ...] | None]:
    """Return the training steps and the steps before the base; ``None`` where a part is no word of the grammar."""
    training: list[Step] = []
    before: list[Step] = []
    for part in parts:
        trains, rewrites = _step(part, _TRAINING, ""), _step(part, _BEFORE, f"{model_format.value}_")
        if trains is not None and not before:
            training.append(trains)
        elif rewrites is not None:
            before.append(rewrites)
        else:
            return None, None
    names = [step.pass_name for step in (*training, *before)]
    return (tuple(training), tuple(before)) if len(set(names)) == len(names) else (None, None)


def _step(part: str, words: Sequence[tuple[str, str, Mapping[str, str]]], prefix: str) -> Step | None:
    for pattern, pass_name, parameters in words:
        found = re.fullmatch(pattern, part)
        if found:
            return Step(pass_name=prefix + pass_name, parameters=_filled(parameters, found))
    return None


def _filled(parameters: Mapping[str, str], found: "re.Match[str]") -> dict[str, str]:
    return {key: value.format(*found.groups()) for key, value in parameters.items()}


def _with_after(steps: tuple[Step, ...], parts: Sequence[str]) -> tuple[Step, ...] | None:
    """Return the base's steps with the parameters that ``parts`` ask of its static step."""
    if not parts:
        return steps
    if steps[-1].pass_name not in {TFLITE_STATIC, ONNX_STATIC}:
        return None
    added: dict[str, str] = {}
    for part in parts:
        word = next(((p, m) for w, p in _AFTER if (m := re.fullmatch(w, part))), None)
        if word is None or set(word[0]) & set(added):
            return None
        added |= _filled(*word)
    return (*steps[:-1], Step(pass_name=steps[-1].pass_name, parameters={**steps[-1].parameters, **added}))


def _shortened(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps without an identity that others make needless."""
    kept = tuple(step for step in steps if step.pass_name != IDENTITY)
    return kept or steps
