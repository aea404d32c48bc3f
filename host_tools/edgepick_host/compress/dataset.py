"""Calibration and evaluation data: ``.npz`` archives, checked before any work starts. Nothing is unpickled.

An archive holds ``x`` with N model inputs (or ``x_<name>`` for each of several inputs) in any numeric type, and
optionally integer labels ``y`` of N samples. Types are cast to the model's; sizes must fit it exactly.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edgepick_host.core.model_facts import TensorFacts
from edgepick_host.errors import InputFileError

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

_HINT = "Expected: an .npz with x of N model inputs (x_<name> for several inputs) and optionally labels y."
_NUMERIC_KINDS = "biuf"
_PICKLED = "Object arrays cannot be loaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Model inputs and labels.

    Attributes:
        source: The file, for messages.
        arrays: By archive key ("x" or "x_<name>"), ``[N, ...]`` as they were in the file.
        labels: int64 ``[N]``, or ``None``.
    """

    source: Path
    arrays: Mapping[str, Array]
    labels: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        """Return N."""
        return len(next(iter(self.arrays.values())))

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """Return the samples at ``indices``, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Dataset(
            source=self.source,
            arrays={key: array[chosen] for key, array in self.arrays.items()},
            labels=None if self.labels is None else self.labels[chosen],
        )

    def samples(self, inputs: Sequence[TensorFacts]) -> Iterator[list[Array]]:
        """Yield one list of arrays per sample: each input ``[1, ...]`` in its own type, in the model's order."""
        columns = [(self.arrays[key_of(tensor, len(inputs))], np.dtype(tensor.dtype)) for tensor in inputs]
        for i in range(len(self)):
            yield [array[i : i + 1].astype(dtype) for array, dtype in columns]


def key_of(tensor: TensorFacts, count: int) -> str:
    """Return the archive key of a model input: ``x`` for a single one, else ``x_<name>``."""
    return "x" if count == 1 else f"x_{plain_name(tensor.name)}"


def plain_name(name: str) -> str:
    """Return a tensor's name without what exporters wrap around it ("serving_default_image:0" -> "image")."""
    return name.removeprefix("serving_default_").partition(":")[0]


def load_dataset(path: Path) -> Dataset:
    """Return what an archive holds.

    Raises:
        InputFileError: Not a readable ``.npz``, no ``x``, not numeric, not finite, empty, or of unequal lengths.
    """
    members = _read(path)
    arrays = {key: array for key, array in members.items() if key == "x" or key.startswith("x_")}
    if not arrays:
        raise _wrong(path, f"holds no x; found {', '.join(members) or 'nothing'}")
    for key, array in arrays.items():
        _check_numbers(path, key, array)
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise _wrong(path, f"inputs differ in length: {', '.join(f'{key} has {n}' for key, n in lengths.items())}")
    labels = members.get("y")
    return Dataset(
        source=path,
        arrays=arrays,
        labels=None if labels is None else _labels(path, labels, next(iter(lengths.values()))),
    )


def _read(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:
            return _members(path, np.load(file, allow_pickle=False))
    except FileNotFoundError as error:
        raise _wrong(path, "does not exist") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise _wrong(path, "is not a readable .npz archive") from error


def _members(path: Path, loaded: Any) -> dict[str, Array]:
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise _wrong(path, "is a single array (.npy), not an .npz archive")
    with loaded as archive:
        return {key: _member(path, archive, key) for key in archive.files}


def _member(path: Path, archive: Any, key: str) -> Array:
    try:
        return cast("Array", archive[key])
    except ValueError as error:
        if _PICKLED in str(error):
            raise _wrong(path, f"{key} holds Python objects; only numbers are read (nothing is unpickled)") from error
        raise


def _check_numbers(path: Path, key: str, array: Array) -> None:
    if array.dtype.kind not in _NUMERIC_KINDS:
        raise _wrong(path, f"{key} has the type {array.dtype}; expected a real numeric type")
    if array.ndim == 0 or array.size == 0:
        raise _wrong(path, f"{key} of shape {list(array.shape)} is empty; at least one sample is needed")
    with np.errstate(over="ignore"):
        finite = np.isfinite(array) if array.dtype.itemsize <= 4 else np.isfinite(array.astype(np.float32))
    if not finite.all():
        where = [int(i) for i in np.argwhere(~finite)[0]]
        raise _wrong(path, f"{key}{where} is {array[tuple(where)]}; every value must be finite in float32")


def _labels(path: Path, labels: Array, samples: int) -> npt.NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise _wrong(path, f"y has the type {labels.dtype}; labels are integers")
    if labels.shape != (samples,):
        raise _wrong(path, f"y has the shape {list(labels.shape)}; x has {samples} samples, so [{samples}] is expected")
    return labels.astype(np.int64)


def check_fits(dataset: Dataset, inputs: Sequence[TensorFacts], outputs: Sequence[TensorFacts]) -> None:
    """Refuse a dataset whose samples are not inputs of the model, or whose labels are not among its outputs.

    Raises:
        InputFileError: A key is missing, a shape differs, or a label is out of range; both sides are named.
    """
    for tensor in inputs:
        _check_shape(dataset, tensor, key_of(tensor, len(inputs)))
    classes = int(np.prod(outputs[0].shape[1:], dtype=np.int64))
    if dataset.labels is not None:
        _check_labels(dataset, max(classes, 2))  # a single output tells two classes apart


def _check_shape(dataset: Dataset, tensor: TensorFacts, key: str) -> None:
    if key not in dataset.arrays:
        found = ", ".join(dataset.arrays)
        raise _wrong(dataset.source, f"holds no {key} for the model's input {tensor.name!r}; found {found}")
    found_shape, expected = dataset.arrays[key].shape[1:], tensor.shape[1:]
    if found_shape == expected:
        return
    message = f"{key} has samples of shape {list(found_shape)}; the model's input {tensor.name!r} is {list(expected)}"
    if sorted(found_shape) == sorted(expected):
        message += " (same sizes in another order: channels first against channels last?)"
    raise _wrong(dataset.source, message)


def _check_labels(dataset: Dataset, classes: int) -> None:
    labels = cast("npt.NDArray[np.int64]", dataset.labels)
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        first = int(bad[0])
        raise _wrong(
            dataset.source, f"y[{first}] is {labels[first]}; the model has {classes} classes, 0 to {classes - 1}"
        )


def _wrong(path: Path, what: str) -> InputFileError:
    return InputFileError(f"{path}: {what}", hint=_HINT)
