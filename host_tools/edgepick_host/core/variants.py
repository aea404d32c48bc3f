"""``variants.json``: what ``edgepick compress`` found, kept and rejected."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_host.core.edge_tpu import EdgeTpuFacts
from edgepick_wire.enums import StrEnum
from edgepick_wire.manifest import ModelFormat

VARIANTS_SCHEMA = 1
VARIANTS_FILE = "variants.json"


class RejectionCode(StrEnum):
    """At which gate a candidate fell."""

    RULES = "rules"
    """The profile's rules forbid it; nothing was computed."""
    ENGINE = "engine"
    """The quantizer could not do it, or did it silently not at all."""
    VERIFICATION = "verification"
    """What came out breaks the rules (float tensor left, zero points, operators, ...)."""
    BUDGET = "budget"
    """Too large for the profile's budgets."""
    ACCURACY = "accuracy"
    """Loses more accuracy than allowed."""
    DOMINATED = "dominated"
    """A sibling that costs the same on every device answers better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One pass of a recipe with its parameters, as text for the record."""

    pass_name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An ordered list of steps; data, not code.

    Attributes:
        training: Steps on the PyTorch module of the user's task file, before it is exported to ``format``; empty for
            a recipe that starts from the model's file.
        steps: Steps on the file.
    """

    name: str
    format: ModelFormat
    training: tuple[Step, ...] = ()
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a candidate is not offered to a profile."""

    recipe: str
    profile: str
    code: RejectionCode
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a variant answers, on the evaluation set, on this host.

    Attributes:
        samples: Size of the evaluation set.
        accuracy: Share answered as labelled; ``None`` without labels.
        accuracy_drop: Float model's accuracy less this one's, in share (0.01 is one point).
        agreement: Share whose arg-max is the float model's (0..1).
        mean_abs_error: Mean absolute difference of dequantized outputs to the float model's.
        loss_low: Lower end of the 95 % interval of what the accuracy gate looks at, in share; see
            :mod:`edgepick_host.core.paired`. ``None`` in files of older versions.
        loss_high: Its upper end.
        mcnemar_p: Probability of at least this imbalance if neither model were better; ``None`` without labels.
    """

    samples: int
    accuracy: float | None
    accuracy_drop: float | None
    agreement: float
    mean_abs_error: float
    loss_low: float | None = None
    loss_high: float | None = None
    mcnemar_p: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One compressed model.

    Attributes:
        name: ``<recipe>`` plus the format where both exist, e.g. ``static_wi8_ai8-tflite``; unique here.
        folder: Its folder, relative to ``variants.json``.
        file: Name of the model file in the folder.
        sha256: Digest of the model file.
        size_bytes: Model file size.
        compressed_bytes: The same after zlib level 9: what it costs on a compressing wire.
        quality: On the evaluation set.
        host_latency_ns: Median single-thread latency on this host; for orientation, never for selection.
        arena_bytes: Exact tflite-micro arena, where it was checked.
        profiles: Profiles that it may be offered to.
        pareto: Profiles on whose Pareto front (accuracy, size, memory, host latency) it lies.
        edge_tpu: Of a variant that is offered to Edge TPUs: compiled or not, why not, and what the compiler's log says.
            ``quality`` and ``host_latency_ns`` of a compiled one are those of the file that it was compiled from.
        golden_min_agreement: Tolerance for the device's self-test, from what this host measured.
        golden_max_mean_abs_error: Likewise.
        provenance: Tool versions, seeds, input digests.
    """

    name: str
    recipe: Recipe
    folder: str
    file: str
    sha256: str
    size_bytes: int
    compressed_bytes: int
    quality: Quality
    host_latency_ns: int
    arena_bytes: int | None = None
    profiles: tuple[str, ...]
    pareto: tuple[str, ...] = ()
    edge_tpu: EdgeTpuFacts | None = None
    golden_min_agreement: float
    golden_max_mean_abs_error: float
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSet:
    """The content of ``variants.json``.

    Attributes:
        model: Name of the model (file stem, or ``--name``).
        source_sha256: Digest of the float model.
        golden: Path of the golden archive, relative to ``variants.json``.
        float_accuracy: Accuracy of the float model; ``None`` without labels.
        max_accuracy_drop: The tolerance that was asked for, in share.
        profiles: Every profile that was asked for.
        variants: What was kept, best first per profile being the reader's business.
        rejections: What was not, and why.
    """

    schema: int = VARIANTS_SCHEMA
    model: str
    source_sha256: str
    golden: str
    float_accuracy: float | None
    max_accuracy_drop: float
    profiles: tuple[str, ...]
    variants: tuple[Variant, ...]
    rejections: tuple[Rejection, ...] = ()
