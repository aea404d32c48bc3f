"""From a kept variant to a release: its manifest, its rank, and what devices are told about it. Pure.

The order of preference before any device has measured: variants on the Pareto front of the host's
own figures first; then those within the accuracy tolerance, smallest file first; then the rest,
most accurate first. It only decides what a device runs until reports are in.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgepick_host.core.records import Release
from edgepick_host.core.variants import Recipe, Variant, VariantSet
from edgepick_host.errors import InputFileError
from edgepick_profiles.schema import Profile
from edgepick_wire import codec
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import (
    FileEntry,
    GoldenSpec,
    Manifest,
    ModelFormat,
    RunLimits,
    RuntimeChoice,
    RuntimeName,
)
from edgepick_wire.messages import Assignment, Desired, MeasureRequest
from edgepick_wire.metrics import MeasurePlan
from edgepick_wire.shadow import ShadowRequest

GOLDEN_FILE = "golden.npz"
READERS: Mapping[ModelFormat, frozenset[RuntimeName]] = {
    ModelFormat.TFLITE: frozenset({RuntimeName.LITERT, RuntimeName.TFLITE_RUNTIME, RuntimeName.TFLM}),
    ModelFormat.ONNX: frozenset({RuntimeName.ONNXRUNTIME}),
}
"""Which runtimes read a format."""

CPU = "cpu"
EDGE_TPU = "edgetpu"
AUTO = "auto"
NONE = "none"


def content_label(variants: VariantSet) -> str:
    """Return the version label of a publication that was given none: the same content has the same."""
    return digest_of("".join(sorted(v.sha256 for v in variants.variants)).encode())[:12]


def model_file_name(kind: ModelFormat) -> str:
    """Return the name of the model file inside a bundle."""
    return f"model.{kind.value}"


def build_manifest(
    variant: Variant,
    *,
    fleet: str,
    variants: VariantSet,
    version: str,
    security_epoch: int,
    files: Sequence[FileEntry],
    profiles: Sequence[Profile],
    sources: Sequence[str] = (),
) -> Manifest:
    """Return the manifest of a variant for ``profiles``, with its self-test on ``golden.npz``.

    Raises:
        InputFileError: A profile has no runtime that reads the variant's format.
        WireError: A name or a size that may not travel.
    """
    return Manifest(
        fleet=fleet,
        model=variants.model,
        version=version,
        variant=variant.name,
        security_epoch=security_epoch,
        profiles=tuple(p.name for p in profiles),
        format=variant.recipe.format,
        runtimes=runtimes_for(variant, profiles),
        model_file=model_file_name(variant.recipe.format),
        files=tuple(files),
        golden=GoldenSpec(
            file=GOLDEN_FILE,
            min_agreement=variant.golden_min_agreement,
            max_mean_abs_error=variant.golden_max_mean_abs_error,
        ),
        limits=RunLimits(peak_rss_bytes=memory_limit(profiles)),
        requires=("golden", *required_algorithms(files)),
        provenance=provenance(variant, variants),
        sources=tuple(sources),
    )


def required_algorithms(files: Iterable[FileEntry]) -> tuple[str, ...]:
    """Return what a device must be able to decode: a form that stands alone is published instead of the file."""
    return tuple(sorted({form.algorithm for entry in files for form in entry.encodings if form.base is None}))


def runtimes_for(variant: Variant, profiles: Sequence[Profile]) -> tuple[RuntimeChoice, ...]:
    """Return every way in which these profiles run the variant, the first profile's preference first.

    One runtime of several profiles is one choice with all their accelerators, the CPU last, and
    the fewest threads that any of them asks for.

    Raises:
        InputFileError: A profile has no runtime that reads the variant's format.
    """
    merged: dict[RuntimeName, RuntimeChoice] = {}
    for profile in profiles:
        for choice in _readable(variant, profile):
            merged[choice.name] = _merge(merged[choice.name], choice) if choice.name in merged else choice
    return tuple(merged.values())


def _readable(variant: Variant, profile: Profile) -> list[RuntimeChoice]:
    kind = variant.recipe.format
    choices = [choice for choice in profile.runtimes if choice.name in READERS[kind]]
    if variant.edge_tpu is not None and not variant.edge_tpu.not_compiled:
        # What the compiler mapped is one operator that no CPU has.
        choices = [replace(c, accelerators=(EDGE_TPU,)) for c in choices if EDGE_TPU in c.accelerators]
    if not choices:
        raise InputFileError(
            f"variant {variant.name!r} is {kind.value}, which no runtime of profile {profile.name!r} reads",
            hint="Compress for this profile again, or leave it out with --profile.",
        )
    return choices


def _merge(one: RuntimeChoice, other: RuntimeChoice) -> RuntimeChoice:
    names = list(dict.fromkeys([*one.accelerators, *other.accelerators]))
    ordered = [n for n in names if n != CPU] + [n for n in names if n == CPU]
    return replace(one, accelerators=tuple(ordered), threads=min(one.threads, other.threads))


def memory_limit(profiles: Iterable[Profile]) -> int | None:
    """Return the largest memory budget of ``profiles``, or ``None`` if one of them has none.

    One manifest serves them all, and its cap must not kill a model on the roomiest of them; whether
    a variant keeps the budget of each profile is decided by selection.
    """
    budgets = [p.budgets.peak_rss_bytes for p in profiles]
    return None if not budgets or None in budgets else max(b for b in budgets if b is not None)


def provenance(variant: Variant, variants: VariantSet) -> dict[str, str]:
    """Return where a variant comes from, in words: only what is the same each time it is made."""
    quality = variant.quality
    figures = {
        "accuracy": quality.accuracy,
        "accuracy_drop": quality.accuracy_drop,
        "agreement": quality.agreement,
    }
    return {
        **variant.provenance,
        "recipe": recipe_text(variant.recipe),
        "source_sha256": variants.source_sha256,
        "evaluation_samples": str(quality.samples),
        **{name: f"{value:.4f}" for name, value in figures.items() if value is not None},
    }


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe on one line: ``name: pass(key=value) > pass``."""
    steps = (
        f"{s.pass_name}({', '.join(f'{k}={v}' for k, v in sorted(s.parameters.items()))})"
        if s.parameters
        else s.pass_name
        for s in recipe.steps
    )
    return f"{recipe.name}: {' > '.join(steps)}"


def ranked(variants: VariantSet, *, profile: str | None = None) -> tuple[Variant, ...]:
    """Return the variants (those of ``profile``, or all), best first by the host's own figures."""
    offered = [v for v in variants.variants if profile is None or profile in v.profiles]
    return tuple(sorted(offered, key=lambda v: _preference(v, variants.max_accuracy_drop, profile)))


def _preference(variant: Variant, tolerance: float, profile: str | None) -> tuple[bool, bool, float, int, str]:
    on_front = profile in variant.pareto if profile else bool(variant.pareto)
    loss = _loss(variant)
    within = loss <= tolerance
    return (not on_front, not within, 0.0 if within else loss, variant.size_bytes, variant.name)


def _loss(variant: Variant) -> float:
    drop = variant.quality.accuracy_drop
    return 1.0 - variant.quality.agreement if drop is None else drop


def build_release(manifest: Manifest, digest: str, variant: Variant, *, rank: int, published_at: float) -> Release:
    """Return the record of a published variant."""
    return Release(
        model=manifest.model,
        version=manifest.version,
        variant=manifest.variant,
        manifest=digest,
        profiles=manifest.profiles,
        size_bytes=variant.size_bytes,
        security_epoch=manifest.security_epoch,
        accuracy=variant.quality.accuracy,
        accuracy_drop=variant.quality.accuracy_drop,
        rank=rank,
        published_at=published_at,
        samples=variant.quality.samples,
    )


def measure_request(manifest: str, plan: MeasurePlan, *, max_bytes: int | None = None) -> MeasureRequest:
    """Return the order to measure a manifest; the same manifest and plan give the same id, whatever the budget."""
    plan_hash = hashlib.sha256(codec.encode(plan)).hexdigest()[:8]
    return MeasureRequest(id=f"{manifest[:12]}-{plan_hash}", manifest=manifest, plan=plan, max_bytes=max_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a publication wants a target to do about one model.

    Attributes:
        model: Name of the model.
        best: Manifest to run where nothing runs yet; ``None`` activates nothing.
        forced: Manifest to run whatever runs now.
        measure: Manifests to measure, best first; empty leaves earlier orders as they are.
        siblings: Manifests of the same version, whose earlier orders stay.
        plan: How to measure.
        max_bytes: Most bytes over the network that a new activation, or coming by a variant that is to be measured,
            may take; ``None`` for no limit.
        shadow: A variant to run as a shadow; ``None`` leaves an earlier one as it is.
        calls_off_shadow: No variant is to be a shadow any more.
    """

    model: str
    best: str | None
    forced: str | None = None
    measure: tuple[str, ...] = ()
    siblings: frozenset[str] = frozenset()
    plan: MeasurePlan = MeasurePlan()
    max_bytes: int | None = None
    shadow: ShadowRequest | None = None
    calls_off_shadow: bool = False


def assign(current: Assignment | None, wish: Wish) -> Assignment:
    """Return what a target should do about a model after a publication.

    A target that runs something goes on running it (a rollout decides about the new), unless an
    activation is forced. Orders to measure what is active or of the same version stay.
    """
    current = current or Assignment(model=wish.model)
    active = wish.forced or current.active or wish.best
    return Assignment(
        model=wish.model,
        active=active,
        measure=_orders(current, active, wish) if wish.measure else current.measure,
        rollout=current.rollout if active == current.active else None,
        max_bytes=wish.max_bytes if wish.max_bytes is not None or active != current.active else current.max_bytes,
        shadow=None if wish.calls_off_shadow else wish.shadow or current.shadow,
    )


def _orders(current: Assignment, active: str | None, wish: Wish) -> tuple[MeasureRequest, ...]:
    staying = [r for r in current.measure if r.manifest == active or r.manifest in wish.siblings]
    new = [measure_request(manifest, wish.plan, max_bytes=wish.max_bytes) for manifest in wish.measure]
    orders = {r.id: r for r in (*staying, *new)}
    if wish.max_bytes is None:
        orders |= {r.id: r for r in staying}  # a budget stays when the same is said again
    return tuple(orders.values())


def with_assignment(models: Sequence[Assignment], assignment: Assignment) -> tuple[Assignment, ...]:
    """Return ``models`` with the assignment of one model replaced or added, in the order of their names."""
    others = [m for m in models if m.model != assignment.model]
    return tuple(sorted([*others, assignment], key=lambda m: m.model))


def assignment_of(desired: Desired | None, model: str) -> Assignment | None:
    """Return what a desired state says about a model."""
    return next((m for m in desired.models if m.model == model), None) if desired else None
