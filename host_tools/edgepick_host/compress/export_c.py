"""A variant as sources that a firmware engineer drops in: data and golden vectors in C11, registration in C++.

Nothing is exported that has not just been run by tflite-micro within the tolerance of its reference kernels. The same
variant gives the same bytes.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.dataset import Array, Dataset, check_fits, load_dataset
from edgepick_host.compress.export_c_files import CModel, CTensor, rendered
from edgepick_host.compress.predictor import TflitePredictor
from edgepick_host.compress.result_folder import check_target, staged, writing
from edgepick_host.compress.source import describe
from edgepick_host.core.model_facts import ModelFacts, TensorFacts
from edgepick_host.core.operator_tables import TFLM_OPERATORS
from edgepick_host.core.variants import VARIANTS_FILE, Variant, VariantSet
from edgepick_host.core.verify import ArenaFacts, tflm_tolerance
from edgepick_host.errors import CompressionError, InputFileError
from edgepick_profiles.schema import ARENA_MARGIN
from edgepick_wire.codec import encode_document
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat

RECORD_FILE = "export.json"
INTEGERS = ("int8", "uint8", "int16")
MOST_SAMPLES = 16
PREFIX = re.compile(r"[a-z][a-z0-9_]{0,31}")
ARENA_GRANULE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export, and to where.

    Attributes:
        folder: What ``edgepick compress`` wrote.
        variant: Its name.
        out: Folder for the sources.
        prefix: Of files and C names; made from the model's name if empty.
        samples: Golden vectors, at most 16.
        force: Move a foreign folder at ``out`` aside.
    """

    folder: Path
    variant: str
    out: Path
    prefix: str = ""
    samples: int = 4
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written; the content of ``export.json``.

    Attributes:
        arena_bytes: Smallest arena in which tflite-micro ran it here.
        arena_with_margin_bytes: What the sources reserve.
        operators: Kinds to register, sorted.
        max_steps: Largest difference of tflite-micro's answers to the golden outputs, in steps.
        allowed_steps: What the sources tolerate.
        files: Name -> SHA-256.
    """

    model: str
    variant: str
    sha256: str
    prefix: str
    model_bytes: int
    arena_bytes: int
    arena_with_margin_bytes: int
    operators: tuple[str, ...]
    golden_vectors: int
    max_steps: int
    allowed_steps: int
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A variant that tflite-micro has run."""

    variant: Variant
    model: bytes
    facts: ModelFacts
    golden: Dataset
    arena: ArenaFacts


def export_c(request: ExportRequest, found: VariantSet, *, say: Callable[[str], None]) -> Exported:
    """Return what was written to ``request.out``, completely or not at all.

    Raises:
        InputFileError: No such variant, not one for microcontrollers, or its files are not what they should be.
        CompressionError: tflite-micro does not run it as the reference kernels do.
    """
    check_target(request.out, force=request.force, written=written_export)
    prefix = _prefix(request.prefix or _identifier(found.model))
    content = _content(found.model, prefix, _ready(request, found, say))
    files = rendered(content)
    exported = _record(content, files)
    with staged(request.out, force=request.force, written=written_export) as folder, writing(request.out):
        for name, data in files.items():
            (folder / name).write_bytes(data)
        (folder / RECORD_FILE).write_bytes(encode_document(exported, indent=2) + b"\n")
    return exported


def _ready(request: ExportRequest, found: VariantSet, say: Callable[[str], None]) -> _Ready:
    variant = _variant(request, found)
    path = request.folder / variant.folder / variant.file
    model = _model_bytes(path, variant)
    facts = describe(model, ModelFormat.TFLITE, path)
    _check_exportable(facts, path)
    golden = _golden(request.folder / found.golden, request.samples)
    check_fits(golden, facts.inputs, facts.outputs)
    say(f"running {variant.name} in tflite-micro")
    arena = measure_arena(model, golden, tuple(map(_real, facts.inputs)))
    _check_answers(arena, facts, variant)
    return _Ready(variant=variant, model=model, facts=facts, golden=golden, arena=arena)


def written_export(out: Path) -> set[str]:
    """Return what an earlier export wrote to ``out``."""
    try:
        before = json.loads((out / RECORD_FILE).read_bytes())
        return {RECORD_FILE, *before["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _identifier(name: str) -> str:
    """Return a model's name as a C name."""
    kept = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return (kept if kept[:1].isalpha() else f"model_{kept}")[:32].rstrip("_")


def _prefix(text: str) -> str:
    if PREFIX.fullmatch(text) is None:
        raise InputFileError(
            f"prefix {text!r}: expected a C name in lower case, at most 32 letters, digits and _",
            hint="Give another --prefix.",
        )
    return text


def _variant(request: ExportRequest, found: VariantSet) -> Variant:
    variant = next((each for each in found.variants if each.name == request.variant), None)
    usable = [each.name for each in found.variants if each.arena_bytes is not None]
    hint = (
        f"For microcontrollers there are: {', '.join(usable) or 'none (compress for a profile such as mcu-cortex-m4)'}"
    )
    if variant is None:
        raise InputFileError(f"{request.folder / VARIANTS_FILE}: no variant {request.variant!r}", hint=hint)
    if variant.recipe.format is not ModelFormat.TFLITE:
        raise InputFileError(f"{variant.name}: tflite-micro reads .tflite files only", hint=hint)
    return variant


def _model_bytes(path: Path, variant: Variant) -> bytes:
    try:
        model = path.read_bytes()
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read: {error.strerror}") from error
    if digest_of(model) != variant.sha256:
        raise InputFileError(
            f"{path}: is not the file that {VARIANTS_FILE} names (SHA-256 {variant.sha256[:16]}…)",
            hint="Run `edgepick compress` again.",
        )
    return model


def _check_exportable(facts: ModelFacts, path: Path) -> None:
    for role, tensor in [*(("input", t) for t in facts.inputs), *(("output", t) for t in facts.outputs)]:
        if tensor.dtype not in INTEGERS or tensor.channel_scales != 1:
            raise InputFileError(
                f"{path}: {role} {tensor.name!r} is {tensor.dtype}; exported are quantized {', '.join(INTEGERS)}",
                hint="Take a variant with integers everywhere, such as static_wi8_ai8.",
            )
    unknown = sorted(facts.operator_names - TFLM_OPERATORS)
    if unknown:
        raise InputFileError(f"{path}: tflite-micro has no {', '.join(unknown)}")


def _real(tensor: TensorFacts) -> TensorFacts:
    return replace(tensor, dtype="float32")


def _golden(path: Path, samples: int) -> Dataset:
    dataset = load_dataset(path)
    return dataset.subset(range(min(samples, MOST_SAMPLES, len(dataset))))


def _check_answers(arena: ArenaFacts, facts: ModelFacts, variant: Variant) -> None:
    if arena.failure:
        raise CompressionError(f"{variant.name}: tflite-micro does not run it: {arena.failure}")
    if arena.max_lsb > tflm_tolerance(facts):
        raise CompressionError(
            f"{variant.name}: tflite-micro answers up to {arena.max_lsb} steps off the reference kernels; "
            f"at most {tflm_tolerance(facts)} are accepted"
        )


def _content(name: str, prefix: str, ready: _Ready) -> CModel:
    """Return everything that the sources say."""
    facts, arena = ready.facts, ready.arena
    reference = TflitePredictor(ready.model, reference=True)
    samples = list(ready.golden.samples(tuple(map(_real, facts.inputs))))
    given = [np.concatenate(column) for column in zip(*map(reference.quantized, samples), strict=True)]
    answers = [np.concatenate(column) for column in zip(*map(reference.run_raw, samples), strict=True)]
    with_margin = -(-int(arena.arena_bytes * (1 + ARENA_MARGIN)) // ARENA_GRANULE) * ARENA_GRANULE
    return CModel(
        name=name,
        variant=ready.variant.name,
        sha256=ready.variant.sha256,
        prefix=prefix,
        data=ready.model,
        inputs=_tensors(facts.inputs, reference.input_scales, given),
        outputs=_tensors(facts.outputs, reference.output_scales, answers),
        operators=tuple(sorted(facts.operator_names)),
        arena_bytes=arena.arena_bytes,
        arena_with_margin_bytes=with_margin,
        head_bytes=arena.head_bytes,
        peak="" if arena.peak is None else arena.peak.text,
        allowed_steps=tflm_tolerance(facts),
        max_steps=arena.max_lsb,
    )


def _tensors(
    facts: tuple[TensorFacts, ...], scales: list[tuple[float, int]], golden: list[Array]
) -> tuple[CTensor, ...]:
    return tuple(
        CTensor(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, scale=scale, zero_point=zero, golden=values)
        for tensor, (scale, zero), values in zip(facts, scales, golden, strict=True)
    )


def _record(content: CModel, files: Mapping[str, bytes]) -> Exported:
    return Exported(
        model=content.name,
        variant=content.variant,
        sha256=content.sha256,
        prefix=content.prefix,
        model_bytes=len(content.data),
        arena_bytes=content.arena_bytes,
        arena_with_margin_bytes=content.arena_with_margin_bytes,
        operators=content.operators,
        golden_vectors=len(content.inputs[0].golden),
        max_steps=content.max_steps,
        allowed_steps=content.allowed_steps,
        files={name: digest_of(data) for name, data in sorted(files.items())},
    )
