"""From a model's score to what is said about it: quality, the accuracy gate, the variant."""

from edgepick_host.compress.bench import Bench
from edgepick_host.compress.predictor import int8_sums_may_saturate
from edgepick_host.compress.provenance import provenance
from edgepick_host.compress.work import Score
from edgepick_host.core.paired import Interval, disagreement_interval, drop_interval, mcnemar_p
from edgepick_host.core.variants import Quality, Recipe, RejectionCode, Variant
from edgepick_host.core.verify import Objection
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat


def interval_of(score: Score) -> Interval:
    """Return the 95 % interval of what the gate looks at, from the samples that were seen."""
    if score.labelled:
        return drop_interval(score.lost, score.gained, score.seen)
    return disagreement_interval(score.differing, score.seen)


def quality_of(score: Score, float_right: int | None = None) -> Quality:
    """Return how well a model answered the whole set.

    Args:
        score: Of the whole set.
        float_right: Samples that the float model answers as labelled; ``None`` leaves the accuracy out.
    """
    interval = interval_of(score)
    right = None if float_right is None or not score.labelled else float_right - score.lost + score.gained
    return Quality(
        samples=score.samples,
        accuracy=None if right is None else right / score.samples,
        accuracy_drop=score.least_loss if score.labelled else None,
        agreement=1.0 - score.differing / score.samples,
        mean_abs_error=score.mean_abs_error,
        loss_low=interval.low,
        loss_high=interval.high,
        mcnemar_p=mcnemar_p(score.lost, score.gained) if score.labelled else None,
    )


def score_objection(score: Score, limit: float, *, strict: bool) -> Objection | None:
    """Return why a variant must not be kept, or ``None``; one that a sibling beat before the end has no objection.

    Args:
        score: Of the whole set, or of as much as was needed.
        limit: Largest loss, in share.
        strict: The upper end of the interval must be within the limit, too.
    """
    what = "loses accuracy" if score.labelled else "answers otherwise than the float model"
    allowed = f"at most {limit * 100:.2f} are allowed"
    lost = score.least_loss * 100
    if score.least_loss > limit:
        how = f"by {lost:.2f} points" if score.complete else f"by at least {lost:.2f} points"
        seen = "" if score.complete else f" (certain after {score.seen} of {score.samples} samples)"
        return Objection(code=RejectionCode.ACCURACY, reason=f"{what} {how}; {allowed}{seen}")
    if not score.complete:
        return None
    interval = interval_of(score)
    if strict and interval.high > limit:
        reason = f"{what} by {lost:.2f} points, but with 95 % confidence only by at most {interval.high * 100:.2f}; "
        more = f"{allowed} (--strict; {score.samples} evaluation samples)"
        return Objection(code=RejectionCode.ACCURACY, reason=reason + more)
    if score.min_agreement is None:
        reason = "its answers on the golden samples are as far off as useless ones"
        return Objection(code=RejectionCode.ACCURACY, reason=reason)
    return None


def variant_of(name: str, recipe: Recipe, model: bytes, score: Score, bench: Bench) -> Variant:
    """Return the variant, not yet offered to anybody, its latency not yet measured."""
    return Variant(
        name=name,
        recipe=recipe,
        folder=name,
        file=f"model.{recipe.format.value}",
        sha256=digest_of(model),
        size_bytes=len(model),
        compressed_bytes=score.zipped_bytes,
        quality=quality_of(score, bench.float_right),
        host_latency_ns=0,
        profiles=(),
        golden_min_agreement=1.0 if score.min_agreement is None else score.min_agreement,
        golden_max_mean_abs_error=score.max_mean_abs_error or 0.0,
    )


def origin(model_format: ModelFormat, bench: Bench) -> dict[str, str]:
    """Return what a variant was made from, and with which tools."""
    found = provenance(model_format) | {
        **bench.digests,
        "source_sha256": bench.sources[model_format].sha256,
        "calibration_samples": str(len(bench.calibration)),
        "seed": str(bench.request.seed),
    }
    if model_format is ModelFormat.ONNX and int8_sums_may_saturate():
        found["evaluation"] = "without graph optimisation: this host's int8 sums may saturate (no VNNI)"
    return found
