"""The float model that a task file stands for: exported where no file is given, compared with the file where one is."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.request import CompressRequest, Say
from edgepick_host.compress.source import SourceModel, load_source, reference_outputs
from edgepick_host.errors import InputFileError, MissingExtraError
from edgepick_wire.manifest import ModelFormat

PROBED_SAMPLES = 32
"""Enough to tell two networks apart; rounding differences are bounded elsewhere."""


@contextmanager
def task_models(request: CompressRequest, say: Say) -> Iterator[tuple[Path, ...]]:
    """Provide the files of the float model: those given, else the task's module exported to both formats.

    Raises:
        InputFileError: Neither a file nor a task was given, or the task file is not what it should be.
        MissingExtraError: What trains is not installed.
    """
    if request.models:
        yield request.models
        return
    if request.task is None:
        raise InputFileError("no model was given", hint="Give a .tflite or .onnx file, or a task file with --task.")
    with tempfile.TemporaryDirectory(prefix="edgepick-") as name:
        yield tuple(_exported(request.task, Path(name), tuple(ModelFormat), say))


def check_same_network(task: Path, sources: Mapping[ModelFormat, SourceModel], evaluation: Dataset, say: Say) -> None:
    """Return if the task's module is the network of the files.

    Raises:
        InputFileError: It answers otherwise, or the task file is not what it should be.
        MissingExtraError: What trains is not installed.
    """
    model_format, source = next(iter(sources.items()))
    few = evaluation.subset(range(min(PROBED_SAMPLES, len(evaluation))))
    with tempfile.TemporaryDirectory(prefix="edgepick-") as name:
        (path,) = _exported(task, Path(name), (model_format,), say)
        exported = load_source(path)
    try:
        reference_outputs(_pair(source, exported), few)
    except InputFileError as error:
        raise InputFileError(
            f"{task}: model() is not the network of {source.path}: it answers otherwise",
            hint="Load the weights that the file was exported from, or leave the file out.",
        ) from error


def _pair(source: SourceModel, exported: SourceModel) -> dict[ModelFormat, SourceModel]:
    """Return the two under different keys, which the comparison does not look at."""
    first, second = ModelFormat
    return {first: source, second: exported}


def _exported(task: Path, folder: Path, formats: tuple[ModelFormat, ...], say: Say) -> Iterator[Path]:
    try:
        from edgepick_host.compress.training.engine import float_models
        from edgepick_host.compress.training.task import load_task
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"techniques that train need the package {error.name!r}, which is not installed",
            hint="pip install 'edgepick[train]'",
        ) from error
    say(f"loading {task} and exporting its model")
    for model_format, data in float_models(load_task(task), formats).items():
        path = folder / f"{task.stem}.{model_format.value}"
        path.write_bytes(data)
        yield path
