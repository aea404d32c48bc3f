"""From a float model to a set of variants: plan, try every candidate, choose, write.

A candidate that fails becomes a :class:`~edgepick_host.core.variants.Rejection` with its reason; only the user's own
files stop the whole run.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepick_host.compress.bench import Bench, open_bench
from edgepick_host.compress.dataset import Array, key_of
from edgepick_host.compress.quality import accuracy, loss
from edgepick_host.compress.request import CompressRequest, Say
from edgepick_host.compress.result_folder import GOLDEN_FILE, RECIPE_FILE, check_target, staged
from edgepick_host.compress.step import PassLoader
from edgepick_host.compress.trial import Outcome, try_candidate
from edgepick_host.core.pareto import pareto_front
from edgepick_host.core.plan import Plan, make_plan
from edgepick_host.core.variants import VARIANTS_FILE, Variant, VariantSet
from edgepick_host.errors import InputFileError
from edgepick_wire.codec import encode_document
from edgepick_wire.errors import BadNameError
from edgepick_wire.ids import check_name


def compress(request: CompressRequest, *, passes: PassLoader, say: Say) -> VariantSet:
    """Return what was found, after writing it to ``request.out``.

    Raises:
        InputFileError: A model or an archive is not what it should be; nothing was written.
        MissingExtraError: A package that compresses is not installed.
    """
    name = model_name(request)
    check_target(request.out, force=request.force)
    bench = open_bench(request, say)
    facts = {model_format: source.facts for model_format, source in bench.sources.items()}
    plan = make_plan(facts, request.profiles, recipes=request.recipes)
    with staged(request.out, force=request.force) as folder:
        outcome = _run_plan(plan, bench, passes, say)
        found = _variant_set(name, bench, outcome)
        _write(folder, found, outcome, bench)
    return found


def model_name(request: CompressRequest) -> str:
    """Return the model's name: the one asked for, else the first file's stem in the alphabet of names.

    Raises:
        InputFileError: The name that was asked for cannot be one.
    """
    if not request.name:
        stem = request.models[0].stem.lower()
        kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem)
        return kept.strip("._-")[:64] or "model"
    try:
        return check_name("model", request.name)
    except BadNameError as error:
        raise InputFileError(str(error), hint="Give another --name.") from error


def _run_plan(plan: Plan, bench: Bench, passes: PassLoader, say: Say) -> Outcome:
    outcome = Outcome(rejections=list(plan.rejections))
    for number, candidate in enumerate(plan.candidates, 1):
        say(f"[{number}/{len(plan.candidates)}] {candidate.name} for {', '.join(candidate.profiles)}")
        try_candidate(candidate, bench, passes, outcome)
    return outcome


def _variant_set(name: str, bench: Bench, outcome: Outcome) -> VariantSet:
    request = bench.request
    variants = tuple(outcome.variants.values())
    fronts = {profile.name: _front(variants, profile.name) for profile in request.profiles}
    return VariantSet(
        model=name,
        source_sha256=bench.first.sha256,
        golden=GOLDEN_FILE,
        float_accuracy=accuracy(bench.reference, bench.evaluation.labels),
        max_accuracy_drop=request.max_accuracy_drop,
        profiles=tuple(profile.name for profile in request.profiles),
        variants=tuple(
            replace(v, pareto=tuple(profile for profile, front in fronts.items() if v.name in front)) for v in variants
        ),
        rejections=tuple(outcome.rejections),
    )


def _front(variants: Sequence[Variant], profile: str) -> frozenset[str]:
    """Return the names of the variants on a profile's Pareto front of quality, size and host latency."""
    offered = [variant for variant in variants if profile in variant.profiles]
    points = [(loss(v.quality), v.size_bytes, v.host_latency_ns) for v in offered]
    return frozenset(offered[i].name for i in pareto_front(points))


def _write(folder: Path, found: VariantSet, outcome: Outcome, bench: Bench) -> None:
    for variant in found.variants:
        place = folder / variant.folder
        place.mkdir()
        (place / variant.file).write_bytes(outcome.files[variant.sha256])
        (place / RECIPE_FILE).write_bytes(encode_document(variant.recipe, indent=2) + b"\n")
    np.savez(folder / GOLDEN_FILE, **_golden_arrays(bench))  # type: ignore[arg-type]  # its stub knows no arrays by name
    (folder / VARIANTS_FILE).write_bytes(encode_document(found, indent=2) + b"\n")


def _golden_arrays(bench: Bench) -> dict[str, Array]:
    """Return the archive's arrays: integers as they were given, every other input as float32."""
    golden, inputs = bench.golden_set, bench.first.facts.inputs
    given = {key: golden.arrays[key] for key in (key_of(tensor, len(inputs)) for tensor in inputs)}
    arrays = {key: x if x.dtype.kind in "iu" else x.astype(np.float32) for key, x in given.items()}
    arrays["expected"] = bench.reference[list(bench.golden)]
    return arrays if golden.labels is None else {**arrays, "y": golden.labels}
