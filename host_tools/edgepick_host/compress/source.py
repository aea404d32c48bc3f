"""The float model that was given, in one or both formats: read, normalised, and refused early where it is no use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepick_host.compress import onnx_file, tflite_file
from edgepick_host.compress.dataset import Dataset, FloatArray
from edgepick_host.compress.predictor import open_predictor, predict
from edgepick_host.compress.quality import agreement, mean_abs_error
from edgepick_host.core.model_facts import ModelFacts, TensorFacts
from edgepick_host.errors import CompressionError, InputFileError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat

MIN_TWIN_AGREEMENT = 0.99
MAX_TWIN_ERROR_SHARE = 0.01
"""Two exports of one network differ by float rounding only; a share of the outputs' mean magnitude."""

LARGEST_BYTES = 2**31 - 1
"""FlatBuffers have offsets of 32 bits with a sign; protobuf refuses longer messages."""

_SUFFIXES = {".tflite": ModelFormat.TFLITE, ".onnx": ModelFormat.ONNX}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceModel:
    """A float model.

    Attributes:
        path: The file that was given.
        sha256: Digest of the file as given.
        data: The normalised model.
        facts: Of the normalised model.
    """

    path: Path
    sha256: str
    data: bytes
    facts: ModelFacts


def load_source(path: Path) -> SourceModel:
    """Return the float model in a ``.tflite`` or ``.onnx`` file.

    Raises:
        InputFileError: Unreadable, not a model, damaged, already compressed, or of open sizes.
    """
    model_format = _SUFFIXES.get(path.suffix.lower())
    if model_format is None:
        raise InputFileError(
            f"{path}: unknown model type {path.suffix or '(no suffix)'!r}; supported are .tflite and .onnx",
            hint="Export the model to one of these (ONNX from most trainers, .tflite with litert-torch or onnx2tf).",
        )
    raw = _content(path)
    data = normalised(raw, model_format, path)
    facts = describe(data, model_format, path)
    _check_float(facts, path)
    return SourceModel(path=path, sha256=digest_of(raw), data=data, facts=facts)


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size <= LARGEST_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read: {error.strerror}") from error
    raise InputFileError(
        f"{path}: has {size:,} bytes; a model of at most {LARGEST_BYTES:,} (2 GiB) is supported, which is as much as "
        "both formats hold in one file",
        hint="Compress a smaller network: derive a student with --task, or prune it before the export.",
    )


def normalised(raw: bytes, model_format: ModelFormat, path: Path = Path("model")) -> bytes:
    """Return a model file as the passes take it.

    Raises:
        InputFileError: It is damaged.
    """
    if model_format is ModelFormat.TFLITE:
        model = tflite_file.read(raw, path)
        tflite_file.normalise(model, path)
        return tflite_file.write(model)
    message = onnx_file.read(raw, path)
    onnx_file.normalise(message, path)
    return onnx_file.write(message)


def describe(data: bytes, model_format: ModelFormat, path: Path) -> ModelFacts:
    """Return the facts of a model file.

    Raises:
        InputFileError: It is damaged.
    """
    if model_format is ModelFormat.TFLITE:
        return tflite_file.describe(data, path)
    return onnx_file.describe(data, path)


def _check_float(facts: ModelFacts, path: Path) -> None:
    narrow = facts.narrow_constants
    if narrow or facts.quantizers:
        example = f" ({narrow[0].name} is {narrow[0].dtype})" if narrow else ""
        raise InputFileError(
            f"{path}: already quantized{example}; compressing it again would destroy it",
            hint="Give the float32 model that it was made from.",
        )
    for tensor in (*facts.inputs, *facts.outputs):
        _check_size(tensor, path)


def _check_size(tensor: TensorFacts, path: Path) -> None:
    if -1 in tensor.shape:
        raise InputFileError(
            f"{path}: {tensor.name!r} has open sizes {list(tensor.shape)}", hint="Export the model with fixed sizes."
        )
    if not tensor.shape:
        raise InputFileError(
            f"{path}: {tensor.name!r} is a single number; the first size must be a batch of 1",
            hint="Export the model with a batch of 1.",
        )


def load_sources(paths: Sequence[Path]) -> dict[ModelFormat, SourceModel]:
    """Return each file's model by format, in the order given.

    Raises:
        InputFileError: As :func:`load_source`; or two files of one format.
    """
    found: dict[ModelFormat, SourceModel] = {}
    for path in paths:
        source = load_source(path)
        if source.facts.format in found:
            raise InputFileError(
                f"{path}: a second .{source.facts.format.value} model; the first is {found[source.facts.format].path}",
                hint="Give one network, at most once per format.",
            )
        found[source.facts.format] = source
    return found


def reference_outputs(sources: Mapping[ModelFormat, SourceModel], evaluation: Dataset) -> FloatArray:
    """Return the float model's answers, after showing that all formats give the same ones.

    Raises:
        InputFileError: The files are not the same network, or a runtime does not load one.
    """
    first, *others = sources.values()
    reference = _outputs(first, evaluation)
    for other in others:
        _check_twin(first, reference, other, _outputs(other, evaluation))
    return reference


def _outputs(source: SourceModel, evaluation: Dataset) -> FloatArray:
    try:
        predictor = open_predictor(source.data, source.facts.format)
        outputs = predict(predictor, evaluation, source.facts.inputs)
    except (CompressionError, RuntimeError, ValueError) as error:
        raise InputFileError(f"{source.path}: does not run: {str(error).partition(chr(10))[0]}") from error
    if not np.isfinite(outputs).all():
        raise InputFileError(f"{source.path}: answers with NaN or infinity on {evaluation.source}")
    return outputs


def _check_twin(first: SourceModel, reference: FloatArray, other: SourceModel, outputs: FloatArray) -> None:
    if outputs.shape != reference.shape:
        found = f"outputs of shape {list(outputs.shape[1:])} against {list(reference.shape[1:])}"
    else:
        share, error = agreement(outputs, reference), mean_abs_error(outputs, reference)
        limit = MAX_TWIN_ERROR_SHARE * float(np.mean(np.abs(reference)))
        if share >= MIN_TWIN_AGREEMENT and error <= limit:
            return
        found = f"they agree on {share:.1%} of the evaluation set, mean difference {error:.3g} (at most {limit:.3g})"
    raise InputFileError(
        f"{other.path} and {first.path} are not the same network: {found}", hint="Export both from the same weights."
    )
