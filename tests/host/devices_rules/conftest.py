"""A tiny network in both formats with its data, and int8 files made from it."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgepick_host.compress.dataset import Dataset, load_dataset
from edgepick_host.compress.passes import onnx_static_qdq, tflite_static_int8
from edgepick_host.compress.predictor import TflitePredictor, predict
from edgepick_host.compress.quality import answers
from edgepick_host.compress.source import SourceModel, load_source
from edgepick_host.compress.step import StepContext
from edgepick_host.core.variants import Step
from host.compress import tiny_models

DEMO = Path(__file__).parents[3] / "host_tools/edgepick_host/demo/data"


@dataclass(frozen=True)
class Site:
    """A float model in both formats and its data, on disk."""

    folder: Path
    tflite: Path
    onnx: Path
    calibration: Path
    evaluation: Path

    @property
    def golden(self) -> Dataset:
        return load_dataset(self.evaluation).subset(range(4))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> None:
    """Keep what tests compute out of the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Site:
    folder = tmp_path_factory.mktemp("devices")
    w = tiny_models.weights()
    (folder / "tiny.tflite").write_bytes(tiny_models.tflite_model(w))
    (folder / "tiny.onnx").write_bytes(tiny_models.onnx_model(w))
    calibration = tiny_models.save(folder / "calibration.npz", x=tiny_models.images(40, seed=2))
    x = tiny_models.images(60, seed=3)
    source = load_source(folder / "tiny.tflite")
    unlabelled = load_dataset(tiny_models.save(folder / "unlabelled.npz", x=x))
    labels = answers(predict(TflitePredictor(source.data), unlabelled, source.facts.inputs))
    evaluation = tiny_models.save(folder / "evaluation.npz", x=x, y=labels)
    return Site(
        folder=folder,
        tflite=folder / "tiny.tflite",
        onnx=folder / "tiny.onnx",
        calibration=calibration,
        evaluation=evaluation,
    )


@pytest.fixture(scope="session")
def tiny_source(tiny: Site) -> SourceModel:
    return load_source(tiny.tflite)


@pytest.fixture(scope="session")
def tiny_int8(tiny: Site, tiny_source: SourceModel) -> bytes:
    return int8_file(tiny_source, tiny.calibration)


@pytest.fixture(scope="session")
def tiny_qdq(tiny: Site) -> bytes:
    """Provide the tiny network in the layout that Jetson profiles ask for."""
    source = load_source(tiny.onnx)
    context = StepContext(calibration=load_dataset(tiny.calibration), source=source.facts)
    return onnx_static_qdq.build()(source.data, {"layout": "symmetric"}, context)


@pytest.fixture(scope="session")
def demo_int8() -> bytes:
    return int8_file(load_source(DEMO / "digits.tflite"), DEMO / "calibration.npz")


def int8_file(source: SourceModel, calibration: Path, **parameters: str) -> bytes:
    """Return a float model with integers everywhere."""
    context = StepContext(calibration=load_dataset(calibration), source=source.facts)
    step = Step(pass_name="tflite_static_int8", parameters=parameters)
    return tflite_static_int8.build()(source.data, step.parameters, context)


@pytest.fixture(scope="session")
def published() -> Path:
    """Provide the folder of published models, where there is one."""
    folder = os.environ.get("EDGEPICK_BENCH_DATA")
    if not folder:
        pytest.skip("EDGEPICK_BENCH_DATA names no folder with mlperf_tiny/")
    return Path(folder) / "mlperf_tiny"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)
