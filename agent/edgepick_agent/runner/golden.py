"""The bundle's self-test: read the archive, feed the model, count the answers."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepick_agent.core.golden_check import GoldenTally, judge
from edgepick_agent.core.runner_spec import GoldenFile
from edgepick_agent.errors import InputError
from edgepick_agent.ports import Session, TensorSpec
from edgepick_agent.runner.tensors import check_shapes, to_real, to_tensor
from edgepick_wire.metrics import GoldenResult

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

NO_FINITE_OUTPUT = float(np.finfo(np.float32).max)
"""Mean absolute error of a model that gave no finite output at all; JSON has no infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """An archive's content.

    Attributes:
        name: File name, for messages.
        inputs: Key in the archive ("x" or "x_<input>") -> ``[N, ...]`` in the float model's scale.
        expected: Float model's first output, float32 ``[N, K]``, flattened per sample.
        labels: int64 ``[N]``, or ``None``.
    """

    name: str
    inputs: dict[str, "Array"]
    expected: "Array"
    labels: "Array | None"

    @property
    def samples(self) -> int:
        """Number of golden inputs."""
        return len(self.expected)


def read_golden(path: Path) -> Golden:
    """Return the archive's content.

    Raises:
        InputError: Not an ``.npz``, or parts are missing, empty, of different lengths or not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError, AttributeError, TypeError) as error:
        # Without numpy's own words: they advise to load it unsafely.
        hint = "Expected: an .npz with 'expected' and 'x' (or 'x_<input>'), all of them numbers."
        raise InputError(f"golden {path.name} is not a readable .npz archive", hint=hint) from error
    inputs = {key: array for key, array in arrays.items() if key == "x" or key.startswith("x_")}
    if "expected" not in arrays or not inputs:
        raise InputError(f"golden {path.name}: needs 'expected' and 'x' (or 'x_<input>'), found {sorted(arrays)}")
    _check_lengths(path.name, {"expected": arrays["expected"], **inputs})
    expected = arrays["expected"].astype(np.float32)
    labels = arrays.get("y")
    if not np.all(np.isfinite(expected)):
        raise InputError(f"golden {path.name}: 'expected' holds NaN or infinity")
    if labels is not None and labels.shape != (len(expected),):
        raise InputError(f"golden {path.name}: 'y' has shape {list(labels.shape)}, expected [{len(expected)}]")
    return Golden(name=path.name, inputs=inputs, expected=expected.reshape(len(expected), -1), labels=labels)


def _check_lengths(name: str, arrays: dict[str, "Array"]) -> None:
    lengths = {key: len(array) if array.ndim else 0 for key, array in arrays.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise InputError(
            f"golden {name}: every array needs the same number of samples and at least one, found {lengths}"
        )


def feed(golden: Golden, inputs: tuple[TensorSpec, ...], index: int) -> dict[str, "Array"]:
    """Return golden input number ``index`` as the model takes it.

    Raises:
        InputError: The archive lacks an input of the model, or its shape or values do not fit.
    """
    samples = {spec: _sample(golden, spec, len(inputs), index) for spec in inputs}
    try:
        return {spec.name: to_tensor(sample, spec) for spec, sample in samples.items()}
    except InputError as error:
        raise InputError(f"golden {golden.name}: sample {index}: {error}") from error


def plain_name(name: str) -> str:
    """Return a tensor's name without what exporters wrap around it ("serving_default_image:0" -> "image")."""
    return name.removeprefix("serving_default_").partition(":")[0]


def _sample(golden: Golden, spec: TensorSpec, count: int, index: int) -> "Array":
    array = golden.inputs.get(f"x_{spec.name}")
    if array is None:
        array = golden.inputs.get(f"x_{plain_name(spec.name)}")
    if array is None and count == 1:
        array = golden.inputs.get("x")
    if array is None:
        raise InputError(
            f"golden {golden.name}: no 'x_{spec.name}' for an input of the model, found {sorted(golden.inputs)}"
        )
    sample: Array = array[index]
    if sample.ndim == len(spec.shape) - 1:
        sample = sample[np.newaxis]
    wanted = tuple(found if size == -1 else size for size, found in zip(spec.shape, sample.shape, strict=False))
    if sample.shape != wanted or sample.ndim != len(spec.shape):
        raise InputError(
            f"golden {golden.name}: a sample has shape {list(array[index].shape)},"
            f" input {spec.name} of the model takes {list(spec.shape)}"
        )
    return sample


def check(session: Session, golden: Golden, tolerance: GoldenFile, beat: Callable[[], None]) -> GoldenResult:
    """Return how the model answers all golden inputs; ``beat`` is called after each.

    Raises:
        InputError: The golden inputs do not fit the model.
        InferenceError: The runtime failed, or an output has not the shape that the model declares.
    """
    answers = np.stack([_answer(session, golden, index, beat) for index in range(golden.samples)])
    finite = np.isfinite(answers)
    errors = np.abs(np.where(finite, answers, 0) - golden.expected)[finite]
    best = np.argmax(np.where(finite, answers, -np.inf), axis=1)
    sound = finite.all(axis=1)
    tally = GoldenTally(
        samples=golden.samples,
        agreeing=int(np.sum((best == golden.expected.argmax(axis=1)) & sound)),
        mean_abs_error=float(errors.mean(dtype=np.float64)) if errors.size else NO_FINITE_OUTPUT,
        correct=None if golden.labels is None else int(np.sum((best == golden.labels) & sound)),
        finite=bool(finite.all()),
    )
    return judge(tally, min_agreement=tolerance.min_agreement, max_mean_abs_error=tolerance.max_mean_abs_error)


def _answer(session: Session, golden: Golden, index: int, beat: Callable[[], None]) -> "Array":
    outputs = session.run(feed(golden, session.inputs, index))
    check_shapes(session, outputs)
    beat()
    answer = to_real(outputs[0], session.outputs[0]).reshape(-1)
    if answer.shape != golden.expected.shape[1:]:
        raise InputError(
            f"golden {golden.name}: 'expected' has {golden.expected.shape[1]} values per sample,"
            f" the model gives {answer.size}"
        )
    return answer
