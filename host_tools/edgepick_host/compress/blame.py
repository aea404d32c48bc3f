"""After the search: what each layer adds to the noise of what was kept, and which layers a loss comes from."""

from collections.abc import Iterable
from dataclasses import replace

from edgepick_host.compress.bench import Bench
from edgepick_host.compress.laboratory import Laboratory
from edgepick_host.compress.trial import Outcome
from edgepick_host.compress.work import Layers, LayersJob, SensitivityJob
from edgepick_host.core.blame import most_of_it
from edgepick_host.core.recipe_names import parse
from edgepick_host.core.search import FLOAT_IO
from edgepick_host.core.search_record import Attempt
from edgepick_host.core.variants import Recipe, RejectionCode
from edgepick_wire.manifest import ModelFormat

EXPLAINED_LOSERS = 16
"""So many variants that lost too much are compared layer by layer; the first ones are the plain ones."""


def explain_layers(outcome: Outcome, bench: Bench, laboratory: Laboratory) -> None:
    """Note the errors by layer of static variants, and say with each loss of accuracy where it comes from."""
    _compare_layers(outcome, laboratory)
    _measure_sensitivity(outcome, bench, laboratory)
    for name, attempt in outcome.attempts.items():
        where = "" if RejectionCode.ACCURACY not in attempt.fell_at.values() else _where(attempt, outcome)
        if where:
            outcome.attempts[name] = _blamed(attempt, where)
            outcome.rejections = [
                replace(each, reason=f"{each.reason}; {where}")
                if each.recipe == name and each.code is RejectionCode.ACCURACY
                else each
                for each in outcome.rejections
            ]


def _compare_layers(outcome: Outcome, laboratory: Laboratory) -> None:
    """Compare the layers of each static variant that was kept, and of some that lost too much, with the float ones.

    What was trained is compared with what training ended with: the noise is that of the integers alone.
    """
    static = [a for a in outcome.attempts.values() if _is_static(a.recipe) and not a.same_as]
    kept = [a for a in static if a.sha256 in outcome.variants]
    lost = [a for a in static if RejectionCode.ACCURACY in a.fell_at.values()]
    attempts = [*kept, *lost[:EXPLAINED_LOSERS]]
    jobs = [
        LayersJob(
            model=outcome.files[a.sha256],
            format=a.recipe.format,
            before=_same_answers(a.recipe).steps,
            start=outcome.starts.get(a.name),
        )
        for a in attempts
    ]
    results = laboratory.results(jobs, "comparing layers") if jobs else []
    for attempt, found in zip(attempts, results, strict=True):
        if isinstance(found, Layers):
            outcome.attempts[attempt.name] = replace(attempt, layers=found.errors)


def _measure_sensitivity(outcome: Outcome, bench: Bench, laboratory: Laboratory) -> None:
    """Quantize each layer alone in the formats in which an integer-only profile lost every static variant.

    Elsewhere the search has done it, to choose the layers that stay in float.
    """
    formats = [f for f in _formats_without_integers(outcome, bench) if f not in outcome.sensitivity]
    recipes = [recipe for f in formats if (recipe := parse(FLOAT_IO, ModelFormat(f))) is not None]
    jobs = [SensitivityJob(recipe=recipe) for recipe in recipes]
    results = laboratory.results(jobs, "measuring how much each layer hurts") if jobs else []
    for recipe, found in zip(recipes, results, strict=True):
        if isinstance(found, Layers) and not found.failure:
            outcome.sensitivity[recipe.format.value] = found.errors


def _formats_without_integers(outcome: Outcome, bench: Bench) -> Iterable[str]:
    served = {profile for variant in outcome.variants.values() for profile in variant.profiles}
    left = {p.name for p in bench.request.profiles if p.rules.integer_only and p.name not in served}
    lost = [a for a in outcome.attempts.values() if any(a.fell_at.get(p) is RejectionCode.ACCURACY for p in left)]
    return dict.fromkeys(a.recipe.format.value for a in lost if _only_integers(a.recipe))


def _where(attempt: Attempt, outcome: Outcome) -> str:
    """Return which layers hurt: measured alone where integers are all that was done, else by comparison."""
    alone = outcome.sensitivity.get(attempt.recipe.format.value, ())
    return most_of_it(alone if alone and _only_integers(attempt.recipe) else attempt.layers)


def _blamed(attempt: Attempt, where: str) -> Attempt:
    verdicts = tuple(
        replace(v, reason=f"{v.reason}; {where}") if v.code is RejectionCode.ACCURACY else v for v in attempt.verdicts
    )
    return replace(attempt, verdicts=verdicts)


def _is_static(recipe: Recipe) -> bool:
    return "_static_" in recipe.steps[-1].pass_name


def _only_integers(recipe: Recipe) -> bool:
    return _is_static(recipe) and not recipe.training and len(recipe.steps) == len(_same_answers(recipe).steps) + 1


def _same_answers(recipe: Recipe) -> Recipe:
    """Return the recipe's first steps, those that change no answer: a layer is compared with what it is after them."""
    kept = []
    for step in recipe.steps:
        if not step.pass_name.endswith(("_cleanup", "_equalize")):
            break
        kept.append(step)
    return replace(recipe, steps=tuple(kept))
