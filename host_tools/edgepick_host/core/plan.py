"""Which candidates are worth computing for which profiles, and why the others are not. Pure.

Everything that can be known from the float model and the profile alone is decided here, before any work; what only
the compressed model shows is decided in :mod:`edgepick_host.core.verify`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edgepick_host.core.model_facts import ModelFacts
from edgepick_host.core.operator_tables import EDGE_TPU_OPERATORS, TFLM_OPERATORS, TFLM_WITHOUT_INT8
from edgepick_host.core.recipe_names import parse
from edgepick_host.core.recipes import ONNX_STATIC, specialise, traits
from edgepick_host.core.variants import Recipe, Rejection, RejectionCode
from edgepick_profiles.schema import NumberType, OperatorSet, Profile, RecipeTraits, Rules
from edgepick_wire.manifest import ModelFormat

MIN_PER_CHANNEL_OPSET = 13
"""QuantizeLinear and DequantizeLinear have an axis since ONNX operator set 13."""

NEEDS_TASK = "needs a task file (--task)"

DENSE_OPERATORS = frozenset({"FULLY_CONNECTED"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model to compute, and the profiles that would take it."""

    recipe: Recipe
    profiles: tuple[str, ...]

    @property
    def name(self) -> str:
        """The variant's name: recipe and format."""
        return variant_name(self.recipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to compute, in order, and what not."""

    candidates: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]


def variant_name(recipe: Recipe) -> str:
    """Return the name of the variant that ``recipe`` makes, e.g. ``static_wi8_ai8-tflite``."""
    return f"{recipe.name}-{recipe.format.value}"


def make_plan(
    models: Mapping[ModelFormat, ModelFacts],
    profiles: Sequence[Profile],
    *,
    recipes: Sequence[str] = (),
    task: bool = False,
) -> Plan:
    """Return every candidate once, with the profiles that share it.

    Args:
        models: The float model in each format that was given.
        profiles: Whom it is for.
        recipes: Recipes to try instead of those that each profile names.
        task: There is a task file, so that recipes may train.
    """
    takers: dict[str, list[str]] = {}
    kept: dict[str, Recipe] = {}
    rejections: list[Rejection] = []
    for profile in profiles:
        rules = _on_request(profile.rules) if recipes else profile.rules
        for recipe, found in _outcomes(models, rules, recipes or profile.recipes):
            reason = NEEDS_TASK if recipe.training and not task else found
            if reason is not None:
                rejections.append(_rejection(recipe, profile, reason))
            else:
                kept[variant_name(recipe)] = recipe
                takers.setdefault(variant_name(recipe), []).append(profile.name)
    candidates = tuple(Candidate(recipe=kept[name], profiles=tuple(dict.fromkeys(takers[name]))) for name in kept)
    return Plan(candidates=candidates, rejections=tuple(dict.fromkeys(rejections)))


def _on_request(rules: Rules) -> Rules:
    """Return what a recipe that a person names may use: 16-bit activations on a microcontroller too.

    Its kernels have them, at twice the arena and slower; nobody gets them unasked.
    """
    if rules.operators is not OperatorSet.TFLM:
        return rules
    return replace(rules, number_types=tuple(dict.fromkeys((*rules.number_types, NumberType.INT16))))


def _outcomes(
    models: Mapping[ModelFormat, ModelFacts], rules: Rules, names: Iterable[str]
) -> Iterator[tuple[Recipe, str | None]]:
    for name in names:
        for model_format in rules.formats:
            recipe = parse(name, model_format)
            if recipe is None:
                continue
            facts = models.get(model_format)
            if facts is None:
                yield recipe, f"needs the model as .{model_format.value}"
                continue
            reason = objection(recipe, facts, rules)
            has_dense = bool(facts.operator_names & DENSE_OPERATORS)
            yield specialise(recipe, rules, has_dense=has_dense), reason


def _rejection(recipe: Recipe, profile: Profile, reason: str) -> Rejection:
    return Rejection(recipe=variant_name(recipe), profile=profile.name, code=RejectionCode.RULES, reason=reason)


def objection(recipe: Recipe, facts: ModelFacts, rules: Rules) -> str | None:
    """Return why ``rules`` do not allow this recipe for this model, or ``None``."""
    asked = traits(recipe)
    found = (
        _number_types(asked, rules)
        or _integer_only(recipe, asked, rules)
        or _hybrid(recipe, asked, facts, rules)
        or _opset(recipe, facts)
        or _unsigned(recipe, rules)
    )
    return found or operator_objection(facts, rules)


def _number_types(asked: RecipeTraits, rules: Rules) -> str | None:
    missing = sorted(t.value for t in asked.number_types - set(rules.number_types))
    return f"the device does not run {' or '.join(missing)}" if missing else None


def _integer_only(recipe: Recipe, asked: RecipeTraits, rules: Rules) -> str | None:
    if not rules.integer_only:
        return None
    if recipe.format is ModelFormat.ONNX:
        return "the device runs integers only, and ONNX int8 models keep float tensors"
    return None if asked.integer_only else "the device runs integers only, and this recipe keeps float tensors"


def _hybrid(recipe: Recipe, asked: RecipeTraits, facts: ModelFacts, rules: Rules) -> str | None:
    if not asked.hybrid:
        return None
    if not rules.hybrid:
        return "the device refuses float activations with int8 weights (dynamic range)"
    if recipe.format is ModelFormat.ONNX and facts.operator_names & CONVOLUTIONS:
        return "dynamic quantization turns Conv into ConvInteger, which ONNX Runtime does not optimise"
    return None


def _opset(recipe: Recipe, facts: ModelFacts) -> str | None:
    static = any(step.pass_name == ONNX_STATIC for step in recipe.steps)
    if not static or facts.opset >= MIN_PER_CHANNEL_OPSET:
        return None
    return f"the model uses ONNX operator set {facts.opset}; per-channel int8 needs {MIN_PER_CHANNEL_OPSET} or newer"


def _unsigned(recipe: Recipe, rules: Rules) -> str | None:
    unsigned = any(step.parameters.get("activations") == "uint8" for step in recipe.steps)
    return "TensorRT takes signed int8 only" if unsigned and rules.symmetric_qdq else None


def operator_objection(facts: ModelFacts, rules: Rules) -> str | None:
    """Return which operators of the model the device does not have, or ``None``."""
    if facts.format is not ModelFormat.TFLITE or rules.operators is OperatorSet.ANY:
        return None
    if rules.operators is OperatorSet.EDGE_TPU:
        known, owner = frozenset(EDGE_TPU_OPERATORS), "the Edge TPU has"
    else:
        floats = NumberType.FLOAT32 in rules.number_types
        known, owner = TFLM_OPERATORS - (frozenset() if floats else TFLM_WITHOUT_INT8), "tflite-micro has"
    missing = sorted(facts.operator_names - known)
    return f"{owner} no {', '.join(missing)}" if missing else None
