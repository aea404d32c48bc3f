"""From a float model to a set of variants: try candidates round by round, choose, explain, write.

A candidate that fails becomes a :class:`~edgepick_host.core.variants.Rejection` with its reason; only the user's own
files stop the whole run. With named recipes there is one round; a search goes on until nothing is wanted any more or
the budget is spent.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepick_host.compress.bench import Bench, open_bench
from edgepick_host.compress.blame import explain_layers
from edgepick_host.compress.cache import Cache, cpu_name, key_of_work
from edgepick_host.compress.dataset import Array, key_of
from edgepick_host.compress.edgetpu_variants import compile_for_edge_tpus
from edgepick_host.compress.executor import Executor
from edgepick_host.compress.laboratory import Laboratory
from edgepick_host.compress.picture import front_picture
from edgepick_host.compress.predictor import median_latency_ns, open_predictor
from edgepick_host.compress.request import CompressRequest, Say
from edgepick_host.compress.result_folder import GOLDEN_FILE, RECIPE_FILE, check_target, staged, writing
from edgepick_host.compress.trial import Outcome, Trials, score_loss
from edgepick_host.compress.work import Made, MakeJob, Material
from edgepick_host.core.pareto import pareto_front
from edgepick_host.core.plan import make_plan
from edgepick_host.core.search import Space, family, next_round
from edgepick_host.core.search_notes import not_composed, notes_of, remarks
from edgepick_host.core.search_record import PICTURE_FILE, SEARCH_FILE, NotTried, SearchRecord, Verdict
from edgepick_host.core.variants import VARIANTS_FILE, Recipe, Rejection, RejectionCode, Step, Variant, VariantSet
from edgepick_host.errors import InputFileError
from edgepick_wire.codec import encode_document
from edgepick_wire.errors import BadNameError
from edgepick_wire.ids import check_name, digest_of
from edgepick_wire.manifest import ModelFormat

TAIL_SHARE, TAIL_SECONDS = 0.15, 20.0
"""Of a budget, what is kept for the end: comparing layers, measuring latencies, drawing."""

OpenExecutor = Callable[[CompressRequest, Material], Executor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the composition root provides.

    Attributes:
        passes: Names of the file passes that exist.
        training: Names of the training passes that exist.
        training_passes: ``name -> training pass``.
        open_executor: Starts whatever does the work.
    """

    passes: frozenset[str]
    training: frozenset[str]
    training_passes: Callable[[str], Any]
    open_executor: OpenExecutor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What a search leaves."""

    found: VariantSet
    record: SearchRecord
    outcome: Outcome


def compress(request: CompressRequest, *, means: Means, say: Say) -> VariantSet:
    """Return what was found, after writing it to ``request.out``.

    Raises:
        InputFileError: A model or an archive is not what it should be; nothing was written.
        MissingExtraError: A package that compresses is not installed.
        UnreachableError: The cluster of ``request.executor`` does not answer.
        CompressionError: The disk became full, or failed; nothing was written.
    """
    begun = time.monotonic()
    name = model_name(request)
    check_target(request.out, force=request.force)
    bench = open_bench(request, say)
    laboratory = _laboratory(request, bench, means, say, begun)
    with staged(request.out, force=request.force) as folder:
        try:
            done = _search(name, bench, laboratory, means, say)
        finally:
            laboratory.close()
        with writing(request.out):
            _write(folder, done, bench, laboratory.cache)
    laboratory.cache.prune()
    return done.found


def spent_on_search(budget_seconds: float) -> float:
    """Return how long candidates may be tried, so that what comes after ends within the budget."""
    return budget_seconds - min(TAIL_SECONDS, TAIL_SHARE * budget_seconds)


def model_name(request: CompressRequest) -> str:
    """Return the model's name: the one asked for, else the first file's stem in the alphabet of names.

    Raises:
        InputFileError: The name that was asked for cannot be one.
    """
    if not request.name:
        stem = next(path.stem for path in (*request.models, request.task, Path("model")) if path is not None).lower()
        kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem)
        return kept.strip("._-")[:64] or "model"
    try:
        return check_name("model", request.name)
    except BadNameError as error:
        raise InputFileError(str(error), hint="Give another --name.") from error


def _laboratory(request: CompressRequest, bench: Bench, means: Means, say: Say, begun: float) -> Laboratory:
    material = Material(
        sources={model_format: source.data for model_format, source in bench.sources.items()},
        facts={model_format: source.facts for model_format, source in bench.sources.items()},
        calibration=bench.calibration,
        evaluation=bench.evaluation,
        reference=bench.reference,
        golden=bench.golden,
        task=request.task,
        training_passes=means.training_passes,
        max_accuracy_drop=bench.limit,
        seed=request.seed,
    )
    budget = request.budget_seconds
    return Laboratory(
        material=material,
        open_executor=lambda: means.open_executor(request, material),
        cache=Cache(request.cache),
        say=say,
        deadline=None if budget is None else begun + spent_on_search(budget),
        end=None if budget is None else begun + budget,
    )


def _search(name: str, bench: Bench, laboratory: Laboratory, means: Means, say: Say) -> _Done:
    request = bench.request
    facts = {model_format: source.facts for model_format, source in bench.sources.items()}
    trials = Trials(bench=bench, laboratory=laboratory, limit=bench.limit, races=request.search, strict=request.strict)
    plan = make_plan(facts, request.profiles, recipes=request.recipes, task=request.task is not None)
    trials.outcome.rejections += plan.rejections
    rounds = 1
    if request.search:
        space = Space(
            models=facts,
            profiles=request.profiles,
            passes=means.passes,
            training=means.training if request.task else frozenset(),
            cleans=_cleaned_formats(bench, laboratory, means),
            tolerance=bench.limit,
            trainings=_workers(request) if request.budget_seconds is not None else 0,
        )
        rounds = _rounds(space, trials, say)
    else:
        space = Space(models=facts, profiles=request.profiles, passes=means.passes)
        trials.run(plan.candidates, 1)
    if request.search:
        _drop_beaten(trials.outcome, bench)
    laboratory.deadline = laboratory.end
    explain_layers(trials.outcome, bench, laboratory)
    _measure_latency(trials.outcome, bench, laboratory, say)
    compile_for_edge_tpus(trials.outcome, bench, laboratory, say)
    found = _variant_set(name, bench, trials.outcome)
    record = _record(found, trials, space, rounds)
    return _Done(found=found, record=record, outcome=trials.outcome)


def _workers(request: CompressRequest) -> int:
    return request.workers or os.cpu_count() or 1


def _rounds(space: Space, trials: Trials, say: Say) -> int:
    """Return how many rounds were run until nothing was wanted any more, or the budget was spent."""
    number = 0
    while not trials.outcome.unfinished:
        candidates = next_round(space, trials.outcome.findings)
        if not candidates:
            break
        number += 1
        say(f"round {number}: {len(candidates)} candidates: {', '.join(c.name for c in candidates)}")
        trials.run(candidates, number)
    if trials.outcome.unfinished:
        left = {candidate.name for candidate in trials.outcome.unfinished}
        wanted = next_round(replace(space, trainings=0), trials.outcome.findings)
        trials.outcome.unfinished += [candidate for candidate in wanted if candidate.name not in left]
    return number


def _cleaned_formats(bench: Bench, laboratory: Laboratory, means: Means) -> frozenset[ModelFormat]:
    """Return the formats in which the clean-up leaves fewer operators."""
    formats = [f for f in bench.sources if f"{f.value}_cleanup" in means.passes]
    jobs = [MakeJob(recipe=_clean_up(model_format)) for model_format in formats]
    found: set[ModelFormat] = set()
    for model_format, result in zip(formats, laboratory.results(jobs, "cleaning the graph up"), strict=True):
        if isinstance(result, Made) and result.model:
            facts = bench.facts_of(result.model, model_format)
            if len(facts.operators) < len(bench.sources[model_format].facts.operators):
                found.add(model_format)
    return frozenset(found)


def _clean_up(model_format: ModelFormat) -> Recipe:
    return Recipe(name="clean", format=model_format, steps=(Step(pass_name=f"{model_format.value}_cleanup"),))


def _drop_beaten(outcome: Outcome, bench: Bench) -> None:
    """Leave each profile the best variant of every family; siblings cost the same on every device."""
    for profile in bench.request.profiles:
        best: dict[str, Variant] = {}
        offered = [variant for variant in outcome.variants.values() if profile.name in variant.profiles]
        for variant in sorted(offered, key=_rank):
            best.setdefault(family(variant.recipe), variant)
        for variant in offered:
            winner = best[family(variant.recipe)]
            if winner.sha256 != variant.sha256:
                _withdraw(outcome, variant.sha256, profile.name, winner)


def _rank(variant: Variant) -> tuple[float, float]:
    return (score_loss(variant), variant.quality.mean_abs_error)


def _withdraw(outcome: Outcome, sha256: str, profile: str, winner: Variant) -> None:
    variant = outcome.variants[sha256]
    left = tuple(name for name in variant.profiles if name != profile)
    reason = f"answers no better than {winner.name}, which costs the same"
    outcome.rejections.append(
        Rejection(recipe=variant.name, profile=profile, code=RejectionCode.DOMINATED, reason=reason)
    )
    fallen = Verdict(profile=profile, kept=False, code=RejectionCode.DOMINATED, reason=reason)
    attempt = outcome.attempts[variant.name]
    verdicts = tuple(fallen if verdict.profile == profile else verdict for verdict in attempt.verdicts)
    outcome.attempts[variant.name] = replace(attempt, verdicts=verdicts)
    if left:
        outcome.variants[sha256] = replace(variant, profiles=left)
    else:
        del outcome.variants[sha256]


def _measure_latency(outcome: Outcome, bench: Bench, laboratory: Laboratory, say: Say) -> None:
    """Fill in each variant's latency on this host, measured here while nothing else runs."""
    laboratory.close()
    for digest, variant in outcome.variants.items():
        model_format = variant.recipe.format
        facts = {"model": digest, "format": model_format.value, "cpu": cpu_name()}
        key = key_of_work("latency", facts)
        known = laboratory.cache.read(key)
        if known is None:
            say(f"measuring the latency of {variant.name}")
            predictor = open_predictor(outcome.files[digest], model_format)
            inputs = bench.sources[model_format].facts.inputs
            known = str(median_latency_ns(predictor, bench.evaluation, inputs)).encode()
            laboratory.cache.write(key, known)
        outcome.variants[digest] = replace(variant, host_latency_ns=int(known))


def _variant_set(name: str, bench: Bench, outcome: Outcome) -> VariantSet:
    request = bench.request
    variants = tuple(outcome.variants.values())
    fronts = {profile.name: _front(variants, profile.name) for profile in request.profiles}
    return VariantSet(
        model=name,
        source_sha256=bench.first.sha256,
        golden=GOLDEN_FILE,
        float_accuracy=bench.float_accuracy,
        max_accuracy_drop=bench.limit,
        profiles=tuple(profile.name for profile in request.profiles),
        variants=tuple(
            replace(v, pareto=tuple(profile for profile, front in fronts.items() if v.name in front)) for v in variants
        ),
        rejections=tuple(outcome.rejections),
    )


def _front(variants: Sequence[Variant], profile: str) -> frozenset[str]:
    """Return the names of the variants on a profile's front: quality, size on disk and wire, memory, host latency."""
    offered = [variant for variant in variants if profile in variant.profiles]
    points = [
        (score_loss(v), v.size_bytes, v.compressed_bytes, v.arena_bytes or v.size_bytes, v.host_latency_ns)
        for v in offered
    ]
    return frozenset(offered[i].name for i in pareto_front(points))


def _record(found: VariantSet, trials: Trials, space: Space, rounds: int) -> SearchRecord:
    outcome, request = trials.outcome, trials.bench.request
    unfinished = tuple(
        NotTried(name=c.name, profiles=c.profiles, reason="the budget was spent") for c in outcome.unfinished
    )
    return SearchRecord(
        model=found.model,
        searched=request.search,
        max_accuracy_drop=found.max_accuracy_drop,
        strict=request.strict,
        samples=len(trials.bench.evaluation),
        float_accuracy=found.float_accuracy,
        finished=not unfinished,
        computed=trials.laboratory.computed,
        remembered=trials.laboratory.remembered,
        rounds=rounds,
        attempts=tuple(outcome.attempts.values()),
        not_tried=(*unfinished, *(not_composed(outcome.findings) if request.search else ())),
        notes=(*remarks(found, outcome.attempts), *notes_of(found, space, searched=request.search)),
        sensitivity=outcome.sensitivity,
    )


def _write(folder: Path, done: _Done, bench: Bench, cache: Cache) -> None:
    for variant in done.found.variants:
        place = folder / variant.folder
        place.mkdir()
        (place / variant.file).write_bytes(done.outcome.files[variant.sha256])
        (place / RECIPE_FILE).write_bytes(encode_document(variant.recipe, indent=2) + b"\n")
    np.savez(folder / GOLDEN_FILE, **_golden_arrays(bench))  # type: ignore[arg-type]  # its stub knows no arrays by name
    picture = _picture(done.found, cache) if bench.request.search else b""
    if picture:
        (folder / PICTURE_FILE).write_bytes(picture)
    (folder / SEARCH_FILE).write_bytes(encode_document(done.record, indent=2) + b"\n")
    (folder / VARIANTS_FILE).write_bytes(encode_document(done.found, indent=2) + b"\n")


def _picture(found: VariantSet, cache: Cache) -> bytes:
    """Return the picture of what was found; drawing takes longer than all the rest of a run that computes nothing."""
    key = key_of_work("picture", {"found": digest_of(encode_document(found))})
    known = cache.read(key)
    if known is None:
        known = front_picture(found)
        cache.write(key, known)
    return known


def _golden_arrays(bench: Bench) -> Mapping[str, Array]:
    """Return the archive's arrays: integers as they were given, every other input as float32."""
    golden, inputs = bench.golden_set, bench.first.facts.inputs
    given = {key: golden.arrays[key] for key in (key_of(tensor, len(inputs)) for tensor in inputs)}
    arrays = {key: x if x.dtype.kind in "iu" else x.astype(np.float32) for key, x in given.items()}
    arrays["expected"] = bench.reference[list(bench.golden)]
    return arrays if golden.labels is None else {**arrays, "y": golden.labels}
