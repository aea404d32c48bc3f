"""What a search has to say besides its results: techniques that are missing, sets that are too small. Pure."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from edgepick_host.core.recipe_names import EXTRA_BASES, compose, parse
from edgepick_host.core.search import LADDERS, REFINEMENTS, STATIC, TRAINED, Findings, Space, missing_passes
from edgepick_host.core.search_record import Attempt, NotTried
from edgepick_host.core.variants import Recipe, VariantSet


def notes_of(found: VariantSet, space: Space, *, searched: bool) -> tuple[str, ...]:
    """Return what a person should know, each said once."""
    notes = list(_unsure(found))
    if searched and not space.training:
        notes.append("techniques that train are left out: give a task file with --task to have them")
    missing = sorted({name for recipe in _all_recipes(space) for name in missing_passes(recipe, space)})
    files = [name for name in missing if not name.startswith("train_")]
    if searched and files:
        notes.append(f"not available in this build, and left out: {', '.join(files)}")
    return tuple(notes)


def remarks(found: VariantSet, attempts: Mapping[str, Attempt]) -> tuple[str, ...]:
    """Return what one should know about variants that were kept, by what is said of them."""
    said: dict[str, list[str]] = {}
    for variant in found.variants:
        for reason in dict.fromkeys(v.reason for v in attempts[variant.name].verdicts if v.kept and v.reason):
            said.setdefault(reason, []).append(variant.name)
    return tuple(f"{', '.join(names)}: {reason}" for reason, names in said.items())


def _unsure(found: VariantSet) -> Iterator[str]:
    limit = found.max_accuracy_drop
    unsure = [v for v in found.variants if v.quality.loss_high is not None and v.quality.loss_high > limit]
    if unsure:
        widest = max(v.quality.loss_high or 0.0 for v in unsure)
        yield (
            f"the evaluation set is too small to tell for {len(unsure)} of {len(found.variants)} variants: they are "
            f"within {limit * 100:.2f} points on its {unsure[0].quality.samples} samples, but with 95 % confidence "
            f"only within {widest * 100:.2f} (--strict refuses such variants)"
        )


def _all_recipes(space: Space) -> Iterator[Recipe]:
    for model_format in space.models:
        names = [compose(before, STATIC, after) for before, after in REFINEMENTS]
        names += [compose((rung,), STATIC) for ladder in LADDERS for rung in ladder]
        names += [compose(words, STATIC) for words in TRAINED] if space.training else []
        for name in (*EXTRA_BASES, *names):
            recipe = parse(name, model_format)
            if recipe is not None:
                yield recipe


def not_composed(found: Findings) -> tuple[NotTried, ...]:
    """Return the rungs that were not climbed because a milder one fell."""
    left: list[NotTried] = []
    for ladder in LADDERS:
        for milder, bolder in pairwise(ladder):
            for name, finding in found.items():
                fallen = tuple(profile for profile in finding.fell if profile not in finding.kept)
                sibling = name.replace(f"{milder}.", f"{bolder}.", 1)
                if f"{milder}." in name and fallen and sibling not in found:
                    left.append(NotTried(name=sibling, profiles=fallen, reason=f"{name}, which is milder, fell"))
    return tuple(left)
