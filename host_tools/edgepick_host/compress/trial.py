"""One candidate: run its passes, verify what came out, evaluate it, keep it or say why not."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.bench import Bench
from edgepick_host.compress.golden import Tolerance, tolerance
from edgepick_host.compress.predictor import int8_sums_may_saturate, median_latency_ns, open_predictor, predict
from edgepick_host.compress.provenance import provenance
from edgepick_host.compress.quality import loss, measure_quality
from edgepick_host.compress.source import describe
from edgepick_host.compress.step import PassLoader, StepContext
from edgepick_host.core.model_facts import ModelFacts
from edgepick_host.core.plan import Candidate
from edgepick_host.core.variants import Quality, Rejection, RejectionCode, Variant
from edgepick_host.core.verify import ArenaFacts, Objection, engine_objection, profile_objection
from edgepick_host.errors import CompressionError, InputFileError
from edgepick_profiles.schema import OperatorSet
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat

COMPRESSION_LEVEL = 9

_REFUSED = Tolerance(min_agreement=1.0, max_mean_abs_error=0.0)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What has been kept and rejected so far; variants and files by the model's digest."""

    rejections: list[Rejection] = field(default_factory=list)
    variants: dict[str, Variant] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def reject(self, candidate: Candidate, profiles: Sequence[str], objection: Objection) -> None:
        """Note why ``profiles`` do not get this candidate."""
        self.rejections += [
            Rejection(recipe=candidate.name, profile=profile, code=objection.code, reason=objection.reason)
            for profile in profiles
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A finished model, and who takes it so far."""

    candidate: Candidate
    model: bytes
    facts: ModelFacts
    takers: tuple[str, ...] = ()
    arena: ArenaFacts | None = None

    @property
    def format(self) -> ModelFormat:
        return self.candidate.recipe.format


def try_candidate(candidate: Candidate, bench: Bench, passes: PassLoader, outcome: Outcome) -> None:
    """Add to ``outcome`` what became of the candidate, for each of its profiles."""
    try:
        made = _verified(_made(candidate, bench, passes), bench, outcome)
        if made.takers:
            _keep(made, bench, outcome)
    except CompressionError as error:
        outcome.reject(candidate, candidate.profiles, Objection(code=RejectionCode.ENGINE, reason=str(error)))


def _made(candidate: Candidate, bench: Bench, passes: PassLoader) -> _Made:
    source = bench.sources[candidate.recipe.format]
    context = StepContext(calibration=bench.calibration, source=source.facts)
    model = source.data
    for step in candidate.recipe.steps:
        model = passes(step.pass_name)(model, step.parameters, context)
    try:
        facts = describe(model, candidate.recipe.format, Path(candidate.name))
    except InputFileError as error:
        raise CompressionError(f"the engine wrote a file that cannot be read: {error}") from error
    broken = engine_objection(candidate.recipe, facts)
    if broken is not None:
        raise CompressionError(broken)
    return _Made(candidate=candidate, model=model, facts=facts)


def _verified(made: _Made, bench: Bench, outcome: Outcome) -> _Made:
    """Return the model with the profiles whose rules and budgets it keeps."""
    profiles = [bench.profile(name) for name in made.candidate.profiles]
    small = {profile.name for profile in profiles if profile.rules.operators is OperatorSet.TFLM}
    arena = measure_arena(made.model, bench.golden_set, bench.sources[made.format].facts.inputs) if small else None
    takers: list[str] = []
    for profile in profiles:
        objection = profile_objection(made.facts, profile, arena if profile.name in small else None)
        if objection is None:
            takers.append(profile.name)
        else:
            outcome.reject(made.candidate, [profile.name], objection)
    return replace(made, takers=tuple(takers), arena=arena)


def _keep(made: _Made, bench: Bench, outcome: Outcome) -> None:
    digest = digest_of(made.model)
    if digest not in outcome.variants:
        variant, objection = _evaluated(made, bench)
        if objection is not None:
            outcome.reject(made.candidate, made.takers, objection)
            return
        outcome.variants[digest] = variant
        outcome.files[digest] = made.model
    outcome.variants[digest] = _shared(outcome.variants[digest], made)


def _shared(variant: Variant, made: _Made) -> Variant:
    """Return the variant offered to this candidate's takers too: recipes that end in the same bytes are one variant."""
    measured = made.arena is not None and not made.arena.failure
    return replace(
        variant,
        profiles=tuple(dict.fromkeys((*variant.profiles, *made.takers))),
        arena_bytes=made.arena.arena_bytes if made.arena is not None and measured else variant.arena_bytes,
    )


def _evaluated(made: _Made, bench: Bench) -> tuple[Variant, Objection | None]:
    """Return the variant, and why it must not be kept if so."""
    inputs = bench.sources[made.format].facts.inputs
    outputs = predict(open_predictor(made.model, made.format, exact=True), bench.evaluation, inputs)
    quality = measure_quality(outputs, bench.reference, bench.evaluation.labels)
    chosen = list(bench.golden)
    allowed = tolerance(outputs[chosen], bench.reference[chosen])
    objection = quality_objection(quality, allowed, bench.request.max_accuracy_drop)
    variant = Variant(
        name=made.candidate.name,
        recipe=made.candidate.recipe,
        folder=made.candidate.name,
        file=f"model.{made.format.value}",
        sha256=digest_of(made.model),
        size_bytes=len(made.model),
        compressed_bytes=len(zlib.compress(made.model, COMPRESSION_LEVEL)),
        quality=quality,
        host_latency_ns=median_latency_ns(open_predictor(made.model, made.format), bench.evaluation, inputs),
        profiles=made.takers,
        golden_min_agreement=(allowed or _REFUSED).min_agreement,
        golden_max_mean_abs_error=(allowed or _REFUSED).max_mean_abs_error,
        provenance=_origin(made, bench),
    )
    return variant, objection


def quality_objection(quality: Quality, allowed: Tolerance | None, limit: float) -> Objection | None:
    """Return why a variant of this quality must not be kept, or ``None``.

    Args:
        quality: On the evaluation set.
        allowed: What a device would be allowed; ``None`` if nothing tells the variant from a useless one.
        limit: Largest loss, in share.
    """
    lost = loss(quality)
    if lost > limit:
        what = "answers otherwise than the float model" if quality.accuracy_drop is None else "loses accuracy"
        reason = f"{what} by {lost * 100:.2f} points; at most {limit * 100:.2f} are allowed"
        return Objection(code=RejectionCode.ACCURACY, reason=reason)
    if allowed is None:
        reason = "its answers on the golden samples are as far off as useless ones"
        return Objection(code=RejectionCode.ACCURACY, reason=reason)
    return None


def _origin(made: _Made, bench: Bench) -> dict[str, str]:
    origin = provenance(made.format) | {
        **bench.digests,
        "source_sha256": bench.sources[made.format].sha256,
        "calibration_samples": str(len(bench.calibration)),
        "seed": str(bench.request.seed),
    }
    if any(bench.profile(name).rules.operators is OperatorSet.EDGE_TPU for name in made.takers):
        origin["edgetpu"] = "operators checked against a table; edgetpu_compiler has not seen it"
    if made.format is ModelFormat.ONNX and int8_sums_may_saturate():
        origin["evaluation"] = "without graph optimisation: this host's int8 sums may saturate (no VNNI)"
    return origin
