"""What to try next, from what is known so far. Pure: the same findings give the same round, in every process.

The search goes in rounds. Each asks every profile what it wants (:func:`wanted`), drops what was tried, and merges what
profiles share. A round's candidates are computed in any order, so the number of workers changes nothing.

What a profile wants, cheap first:

1. the recipes it names, then every other base that its rules allow;
2. once plain int8 is known: other calibrations, corrected biases, equalized layers, by expected gain;
3. with the best of those: the same with float inputs and outputs, then ladders of pruning, clustering and low rank. A
   rung is climbed only if the one below it held: a more aggressive sibling of what failed cannot win;
4. where all of int8 lost too much and floats are allowed: mixed precision, the number of layers by bisection; where a
   task file is given, training.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgepick_host.core.model_facts import ModelFacts
from edgepick_host.core.plan import DENSE_OPERATORS, Candidate, objection, variant_name
from edgepick_host.core.recipe_names import EXTRA_BASES, LONGEST_NAME, compose, parse
from edgepick_host.core.recipes import specialise, traits
from edgepick_host.core.variants import Recipe, RejectionCode, Step
from edgepick_profiles.schema import KNOWN_RECIPES, Profile
from edgepick_wire.manifest import ModelFormat

STATIC = "static_wi8_ai8"
FLOAT_IO = "static_wi8_ai8_float_io"

REFINEMENTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ("mse", "bias")),
    (("eq",), ("mse", "bias")),
    ((), ("bias",)),
    ((), ("percentile", "bias")),
    ((), ("entropy", "bias")),
)
"""(before, after) of plain int8, by expected gain: measured on MLPerf Tiny ResNet8 and the demo model."""

COSTLY = ((), ("auto", "adaptive", "bias"))
"""Means, rounding and bias chosen together by what they do to answers: minutes instead of seconds, so it is tried only
where the cheap refinements use up more than half of the tolerance."""

LADDERS: tuple[tuple[str, ...], ...] = (
    ("cluster32", "cluster16"),
    ("low_rank95", "low_rank90"),
    ("prune20", "prune40"),
    ("prune2of4",),
)
"""Each from mild to aggressive."""

TRAINED: tuple[tuple[str, ...], ...] = (
    ("qat",),
    ("channels20_shallow",),
    ("channels50", "distilled"),
    ("student",),
    ("derived75",),
    ("sparse80",),
)
"""Before plain int8, where a task file is given. Pruning channels trains with the answers of the whole network."""

WEIGHTED = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "Conv", "ConvTranspose", "Gemm", "MatMul"}
)
"""Operators that hold weights: the layers that mixed precision chooses from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one candidate.

    Attributes:
        kept: Profiles that may have it.
        fell: Profile -> the gate at which it fell.
        loss: On the evaluation set, in share; where evaluation stopped early, what it loses at least.
        error: Mean absolute error of its outputs; infinite if not known.
    """

    kept: frozenset[str] = frozenset()
    fell: Mapping[str, RejectionCode] = field(default_factory=dict)
    loss: float | None = None
    error: float = float("inf")

    def lost_too_much(self, profile: str) -> bool:
        """Return whether it fell at the accuracy gate."""
        return self.fell.get(profile) is RejectionCode.ACCURACY


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What may be composed.

    Attributes:
        models: The float model in each format.
        profiles: Whom it is for.
        passes: File passes that exist here.
        training: Training passes that exist and may be used; empty without a task file.
        cleans: Formats in which the clean-up makes the graph smaller.
        tolerance: Largest loss, in share.
        trainings: How many networks one round trains at most; 0 for all. Under a budget, each round's are evaluated
            before the next ones begin, so that what the budget allows is not all training and no result.
    """

    models: Mapping[ModelFormat, ModelFacts]
    profiles: tuple[Profile, ...]
    passes: frozenset[str]
    training: frozenset[str] = frozenset()
    cleans: frozenset[ModelFormat] = frozenset()
    tolerance: float = 0.01
    trainings: int = 0


Findings = Mapping[str, Finding]
"""Variant name -> what became of it."""


def next_round(space: Space, found: Findings) -> tuple[Candidate, ...]:
    """Return the candidates to compute now, cheap ones first; none if the search is over.

    What trains takes minutes where the rest takes seconds: it waits until nothing else is wanted, so that a budget
    that it uses up costs none of the rest.
    """
    recipes: dict[str, Recipe] = {}
    takers: dict[str, list[str]] = {}
    for profile in space.profiles:
        for recipe in wanted(space, profile, found):
            name = variant_name(recipe)
            if name not in found:
                recipes.setdefault(name, recipe)
                takers.setdefault(name, []).append(profile.name)
    cheap = {name: recipe for name, recipe in recipes.items() if not recipe.training}
    if not cheap and space.trainings:
        recipes = _first_trained(recipes, space.trainings)
    return tuple(
        Candidate(recipe=recipe, profiles=tuple(dict.fromkeys(takers[name])))
        for name, recipe in (cheap or recipes).items()
    )


def _first_trained(recipes: Mapping[str, Recipe], count: int) -> dict[str, Recipe]:
    """Return the recipes of the first so many trainings; one serves several formats and quantizers."""
    allowed: list[tuple[Step, ...]] = []
    for recipe in recipes.values():
        if recipe.training not in allowed and len(allowed) < count:
            allowed.append(recipe.training)
    return {name: recipe for name, recipe in recipes.items() if recipe.training in allowed}


def wanted(space: Space, profile: Profile, found: Findings) -> Iterator[Recipe]:
    """Yield every recipe that a profile wants tried, given what is known; those that were tried included."""
    for model_format in profile.rules.formats:
        if model_format in space.models:
            yield from _Line(space=space, profile=profile, format=model_format, found=found).recipes()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """The search of one profile in one format."""

    space: Space
    profile: Profile
    format: ModelFormat
    found: Findings

    def recipes(self) -> Iterator[Recipe]:
        """Yield what is wanted now."""
        for base in dict.fromkeys((*self.profile.recipes, *KNOWN_RECIPES, *EXTRA_BASES)):
            yield from self._if_allowed((), base)
        plain = self._made((), STATIC)
        if plain is None or variant_name(plain) not in self.found:
            return
        yield from self._trained(plain)
        if self._finding(plain).fell.get(self.profile.name) in {RejectionCode.ENGINE, RejectionCode.VERIFICATION}:
            return
        tried = [plain, *self._refined()]
        yield from tried[1:]
        if all(variant_name(recipe) in self.found for recipe in tried):
            costly = self._costly(tried)
            yield from costly
            if all(variant_name(recipe) in self.found for recipe in costly):
                yield from self._after_refinement([*tried, *costly])

    def _costly(self, tried: Sequence[Recipe]) -> tuple[Recipe, ...]:
        if min(self._rank(recipe)[0] for recipe in tried) <= self.space.tolerance / 2:
            return ()
        before, after = COSTLY
        return tuple(self._if_allowed(self._cleaned(before), STATIC, after))

    def _refined(self) -> Iterator[Recipe]:
        for before, after in REFINEMENTS:
            yield from self._if_allowed(self._cleaned(before), STATIC, after)

    def _after_refinement(self, tried: Sequence[Recipe]) -> Iterator[Recipe]:
        kept = [recipe for recipe in tried if self.profile.name in self._finding(recipe).kept]
        if kept:
            before, after = _words_of(min(kept, key=self._rank))
            yield from self._if_allowed(before, FLOAT_IO, after)
            for ladder in LADDERS:
                yield from self._climbed(ladder, before, after)
        elif any(self._finding(recipe).lost_too_much(self.profile.name) for recipe in tried):
            yield from self._mixed(*_words_of(min(tried, key=self._rank)))

    def _climbed(self, ladder: Sequence[str], before: Sequence[str], after: Sequence[str]) -> Iterator[Recipe]:
        for rung in ladder:
            recipes = tuple(self._if_allowed((*before, rung), STATIC, after))
            yield from recipes
            if not all(self._held(recipe) for recipe in recipes):
                return

    def _held(self, recipe: Recipe) -> bool:
        """Return whether a bolder one may win: this one is kept, or fell to a rival and not at a gate."""
        finding, name = self._finding(recipe), self.profile.name
        return name in finding.kept or finding.fell.get(name) is RejectionCode.DOMINATED

    def _mixed(self, before: Sequence[str], after: Sequence[str]) -> Iterator[Recipe]:
        """Yield the number of float layers to try next, halving between too few and enough."""
        base = FLOAT_IO if self.format is ModelFormat.TFLITE else STATIC
        few, enough = 0, weighted_layers(self.space.models[self.format])
        while enough - few > 1:
            middle = (few + enough) // 2
            recipes = tuple(self._if_allowed(before, base, (*after, f"keep{middle}")))
            yield from recipes
            if not recipes or variant_name(recipes[0]) not in self.found:
                return
            if self.profile.name in self._finding(recipes[0]).kept:
                enough = middle
            else:
                few = middle

    def _trained(self, plain: Recipe) -> Iterator[Recipe]:
        """Yield what training can add: all of it where plain int8 lost too much, else what makes the model smaller."""
        lost = self._finding(plain).lost_too_much(self.profile.name)
        for words in TRAINED:
            if lost or words != ("qat",):
                yield from self._if_allowed(words, STATIC)

    def _cleaned(self, before: Sequence[str]) -> tuple[str, ...]:
        return ("clean", *before) if self.format in self.space.cleans else tuple(before)

    def _rank(self, recipe: Recipe) -> tuple[float, float]:
        finding = self._finding(recipe)
        return (float("inf") if finding.loss is None else finding.loss, finding.error)

    def _finding(self, recipe: Recipe) -> Finding:
        return self.found.get(variant_name(recipe), Finding())

    def _made(self, before: Sequence[str], base: str, after: Sequence[str] = ()) -> Recipe | None:
        return next(iter(self._if_allowed(before, base, after)), None)

    def _if_allowed(self, before: Sequence[str], base: str, after: Sequence[str] = ()) -> Iterator[Recipe]:
        """Yield the recipe if it exists, every pass of it is there, and the rules allow it."""
        recipe = parse(compose(before, base, after), self.format)
        if recipe is None or missing_passes(recipe, self.space):
            return
        facts, rules = self.space.models[self.format], self.profile.rules
        if objection(recipe, facts, rules) is not None:
            return
        fitted = specialise(recipe, rules, has_dense=bool(facts.operator_names & DENSE_OPERATORS))
        if len(variant_name(fitted)) <= LONGEST_NAME:
            yield fitted


def missing_passes(recipe: Recipe, space: Space) -> frozenset[str]:
    """Return the passes of a recipe that do not exist here, or may not be used."""
    files = {step.pass_name for step in recipe.steps} - space.passes
    return frozenset(files | ({step.pass_name for step in recipe.training} - space.training))


def weighted_layers(facts: ModelFacts) -> int:
    """Return how many layers have weights."""
    return sum(operator.name in WEIGHTED for operator in facts.operators)


def _words_of(recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what stands before and after plain int8 in a recipe's name, without what the rules added."""
    parts = [part for part in recipe.name.split(".") if part not in {"dense1", "sym"}]
    place = next(i for i, part in enumerate(parts) if part.startswith(STATIC))
    return tuple(parts[:place]), tuple(parts[place + 1 :])


def family(recipe: Recipe) -> str:
    """Return what a variant's cost on a device depends on: format, what was done to the weights, number types, layout.

    Variants of one family have the same operators on the same tensors of the same types; they differ in numbers only,
    so size, memory and latency are equal on every device, and the one that answers best is better than its siblings.
    """
    free = {"calibration", "bias_correction", "rounding"}
    steps = [
        f"{step.pass_name}{sorted((k, v) for k, v in step.parameters.items() if k not in free)}"
        for step in (*recipe.training, *recipe.steps)
        if not step.pass_name.endswith("equalize")
    ]
    return f"{recipe.format.value} {' '.join(steps)} {sorted(traits(recipe).number_types)}"
