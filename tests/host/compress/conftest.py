"""Tiny models, their data, and profiles of every kind of rule."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.predictor import TflitePredictor, predict
from edgepick_host.compress.quality import answers
from edgepick_host.compress.source import SourceModel, load_source
from edgepick_host.compress.step import StepContext
from edgepick_profiles.load import load_profile

DEMO = Path(__file__).parents[3] / "host_tools/edgepick_host/demo/data"


@dataclass(frozen=True)
class Files:
    """A float model in both formats and its data, on disk."""

    tflite: Path
    onnx: Path
    calibration: Path
    evaluation: Path
    folder: Path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> None:
    """Keep what tests compute out of the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("tiny")
    w = tiny_models.weights()
    (folder / "tiny.tflite").write_bytes(tiny_models.tflite_model(w))
    (folder / "tiny.onnx").write_bytes(tiny_models.onnx_model(w))
    calibration = tiny_models.save(folder / "calibration.npz", x=tiny_models.images(40, seed=2))
    x = tiny_models.images(120, seed=3)
    unlabelled = tiny_models.save(folder / "unlabelled.npz", x=x)
    source = load_source(folder / "tiny.tflite")
    outputs = predict(TflitePredictor(source.data), load_dataset(unlabelled), source.facts.inputs)
    evaluation = tiny_models.save(folder / "evaluation.npz", x=x, y=answers(outputs))
    return Files(
        tflite=folder / "tiny.tflite",
        onnx=folder / "tiny.onnx",
        calibration=calibration,
        evaluation=evaluation,
        folder=folder,
    )


@pytest.fixture(scope="session")
def tflite_source(files: Files) -> SourceModel:
    return load_source(files.tflite)


@pytest.fixture(scope="session")
def onnx_source(files: Files) -> SourceModel:
    return load_source(files.onnx)


@pytest.fixture(scope="session")
def context(files: Files, tflite_source: SourceModel) -> StepContext:
    return StepContext(calibration=load_dataset(files.calibration), source=tflite_source.facts)


@pytest.fixture(scope="session")
def onnx_context(files: Files, onnx_source: SourceModel) -> StepContext:
    return StepContext(calibration=load_dataset(files.calibration), source=onnx_source.facts)


@pytest.fixture
def profile():
    """Load a shipped profile by name."""
    return load_profile


@pytest.fixture(scope="session")
def bench_data() -> Path:
    """Provide the folder of real models and images, where there is one."""
    folder = os.environ.get("EDGEPICK_BENCH_DATA")
    if not folder:
        pytest.skip("EDGEPICK_BENCH_DATA names no folder with mlperf_tiny/ and cifar10/")
    return Path(folder)


@pytest.fixture
def shuffled(files: Files, tmp_path: Path) -> Path:
    """Provide the calibration samples in another order."""
    with np.load(files.calibration) as archive:
        x = archive["x"]
    return tiny_models.save(tmp_path / "shuffled.npz", x=np.random.default_rng(9).permutation(x))
