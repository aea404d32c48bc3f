"""What fails for want of memory or disk, or is killed: told, but not remembered as what became of a candidate."""

import errno
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepick_host.app.compression import compression_pass
from edgepick_host.compress import arena
from edgepick_host.compress.cache import Cache
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.executor import InlineExecutor
from edgepick_host.compress.laboratory import Laboratory
from edgepick_host.compress.tflm_child import SHORTAGE_CODE
from edgepick_host.compress.work import ArenaJob, Crashed, Made, MakeJob, Material, ScoreJob
from edgepick_host.core.recipe_names import parse
from edgepick_host.core.verify import ArenaFacts
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat

FULL = OSError(errno.ENOSPC, "No space left on device")


def wrapped(cause: Exception) -> CompressionError:
    error = CompressionError("the engine cannot do this model")
    error.__cause__ = cause
    return error


@pytest.fixture(scope="module")
def material(files, tflite_source, onnx_source) -> Material:
    return Material(
        sources={ModelFormat.TFLITE: tflite_source.data, ModelFormat.ONNX: onnx_source.data},
        facts={ModelFormat.TFLITE: tflite_source.facts, ModelFormat.ONNX: onnx_source.facts},
        calibration=load_dataset(files.calibration),
        evaluation=load_dataset(files.evaluation),
        reference=np.zeros((120, 5), np.float32),
        golden=tuple(range(16)),
    )


def laboratory(material: Material, folder: Path, passes=compression_pass) -> Laboratory:
    return Laboratory(
        material=material,
        open_executor=lambda: InlineExecutor(material, passes),
        cache=Cache(folder),
        say=lambda _: None,
    )


def job(name: str, model_format: ModelFormat = ModelFormat.TFLITE) -> MakeJob:
    recipe = parse(name, model_format)
    assert recipe is not None
    return MakeJob(recipe=recipe)


def failing(error: Exception):
    """Return a loader of passes that all raise."""

    def run(*_):
        raise error

    return lambda _: run


def tried_twice(material: Material, folder: Path, passes):
    """Return a job's result with these passes, then with the right ones, and how many the second try remembered."""
    (first,) = laboratory(material, folder, passes).results([job("float16")], "")
    again = laboratory(material, folder)
    (second,) = again.results([job("float16")], "")
    return first, second, again.remembered


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        MemoryError(),
        wrapped(FULL),
        wrapped(MemoryError("std::bad_alloc")),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17179869184 bytes."),
        wrapped(ValueError("Failed to allocate memory for requested buffer of size 17179869184")),
    ],
    ids=repr,
)
def test_what_the_machine_failed_is_tried_again(material, tmp_path, error):
    """However an engine wraps it, the candidate falls with the reason this time, and is made the next time."""
    first, second, remembered = tried_twice(material, tmp_path, failing(error))

    assert isinstance(first, Crashed)
    assert first.reason
    assert isinstance(second, Made)
    assert second.model
    assert remembered == 0


@pytest.mark.parametrize("error", [wrapped(ValueError("no rule for LSTM")), KeyError("axis")], ids=repr)
def test_what_the_model_failed_is_remembered(material, tmp_path, error):
    """A refusal that would only come again is not computed again."""
    first, second, remembered = tried_twice(material, tmp_path, failing(error))

    assert isinstance(first, Made)
    assert first.failure
    assert second == first
    assert remembered == 1


@pytest.mark.parametrize("recipe", ["float16", "static_wi8_ai8", "clean.float32"])
def test_a_full_disk_is_not_remembered(material, tmp_path, recipe):
    """Engines that cannot write their scratch files fail the candidate, until there is room again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        (first,) = laboratory(material, tmp_path).results([job(recipe, ModelFormat.ONNX)], "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (second,) = laboratory(material, tmp_path).results([job(recipe, ModelFormat.ONNX)], "")

    assert isinstance(first, Crashed)
    assert isinstance(second, Made)
    assert second.model


def test_evaluation_that_the_machine_failed_is_tried_again(material, tmp_path, monkeypatch, tflite_source):
    """A score is no score where memory was short."""

    def short(*_, **__):
        raise MemoryError

    work = ScoreJob(model=tflite_source.data, format=ModelFormat.TFLITE, limit=1.0)
    with monkeypatch.context() as patch:
        patch.setattr("edgepick_host.compress.work.open_predictor", short)
        (first,) = laboratory(material, tmp_path).results([work], "")
    (second,) = laboratory(material, tmp_path).results([work], "")

    assert first == Crashed(reason="MemoryError")
    assert second is not None
    assert not isinstance(second, Crashed)


@pytest.mark.parametrize("ended", [(-9, "Some words"), (-11, ""), (SHORTAGE_CODE, "OSError: [Errno 28]")], ids=repr)
def test_an_interpreter_that_was_killed_is_tried_again(material, tmp_path, monkeypatch, tflite_source, ended):
    """The microcontroller's interpreter may end by a signal for reasons that are gone the next time."""
    work = ArenaJob(model=tflite_source.data)
    with monkeypatch.context() as patch:
        patch.setattr(arena, "_run_child", lambda _: ended)
        (first,) = laboratory(material, tmp_path).results([work], "")
    (second,) = laboratory(material, tmp_path).results([work], "")

    assert isinstance(first, Crashed)
    assert isinstance(second, ArenaFacts)
    assert second.arena_bytes > 0


def test_an_interpreter_that_was_too_slow_is_tried_again(material, monkeypatch, tflite_source):
    """A machine that was busy when time ran out says nothing of the model."""
    monkeypatch.setattr(arena, "TIMEOUT_SECONDS", 0.0)

    found = arena.measure_arena(
        tflite_source.data, material.evaluation.subset(range(1)), material.facts[ModelFormat.TFLITE].inputs
    )

    assert "no answer within" in found.failure
    assert not found.lasting


def test_the_interpreters_process_says_when_the_machine_failed_it(tmp_path):
    """A file that cannot be read ends it with the code that means so, and one line."""
    command = [sys.executable, "-m", "edgepick_host.compress.tflm_child", *[str(tmp_path / "gone")] * 3]

    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == SHORTAGE_CODE
    assert done.stderr.startswith("FileNotFoundError: ")
    assert len(done.stderr.splitlines()) == 1
