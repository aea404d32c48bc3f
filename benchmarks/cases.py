"""What the benchmarks of the compression run on: a float model, samples to calibrate on, samples to evaluate on.

The demo's model is always there. Published models and images are taken from the folder that ``EDGEPICK_BENCH_DATA``
names; without it, what needs them is left out and the benchmark says so.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tflite_to_onnx import converted

import edgepick_host.demo
from edgepick_host.compress.dataset import Dataset, load_dataset
from edgepick_host.compress.predictor import open_predictor, predict
from edgepick_host.compress.source import SourceModel, load_source
from edgepick_host.compress.step import StepContext
from edgepick_wire.manifest import ModelFormat

DEMO = Path(edgepick_host.demo.__file__).parent / "data"
QUICK_CALIBRATION, QUICK_EVALUATION = 64, 300
SPECTRA, SPECTRUM = 256, 640
"""Samples of what stands in for the anomaly detector's data, and features of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A float model, and the data to calibrate and evaluate on.

    Attributes:
        classifies: Its answers are probabilities of classes; otherwise only errors of values mean anything.
        remark: What a reader must know about the data.
    """

    name: str
    source: SourceModel
    calibration: Dataset
    evaluation: Dataset
    classifies: bool = True
    remark: str = ""

    @property
    def format(self) -> ModelFormat:
        """The model's format."""
        return self.source.facts.format

    @property
    def context(self) -> StepContext:
        """What a pass sees."""
        return StepContext(calibration=self.calibration, source=self.source.facts)

    @property
    def title(self) -> str:
        """Name and format."""
        return f"{self.name}, {self.format.value}"

    def answers(self, model: bytes) -> np.ndarray:
        """Return the model's answers on the evaluation set, ``[N, ...]``."""
        return predict(open_predictor(model, self.format, exact=True), self.evaluation, self.source.facts.inputs)

    def smaller(self) -> "Case":
        """Return the case with few samples, to try the benchmark out."""
        few = range(min(QUICK_CALIBRATION, len(self.calibration))), range(min(QUICK_EVALUATION, len(self.evaluation)))
        return replace(self, calibration=self.calibration.subset(few[0]), evaluation=self.evaluation.subset(few[1]))


def bench_data() -> Path | None:
    """Return the folder of published models and images, where there is one."""
    folder = os.environ.get("EDGEPICK_BENCH_DATA")
    return Path(folder) if folder else None


def demo_case(model_format: ModelFormat) -> Case:
    """Return the demo's model in a format."""
    return Case(
        name="demo model (digits)",
        source=load_source(DEMO / f"digits.{model_format.value}"),
        calibration=load_dataset(DEMO / "calibration.npz"),
        evaluation=load_dataset(DEMO / "evaluation.npz"),
    )


def resnet_case(folder: Path) -> Case:
    """Return MLPerf Tiny's ResNet8 on CIFAR-10."""
    return Case(
        name="MLPerf Tiny ResNet8 (CIFAR-10)",
        source=load_source(folder / "mlperf_tiny/resnet8_float.tflite"),
        calibration=load_dataset(folder / "cifar10/calibration_256.npz"),
        evaluation=load_dataset(folder / "cifar10/evaluation_2000.npz"),
    )


def autoencoder_case(folder: Path) -> Case:
    """Return MLPerf Tiny's anomaly detector, on noise of the right level: its sounds are not here."""
    noise = [_spectra(seed) for seed in (0, 1)]
    return Case(
        name="MLPerf Tiny ad01 (autoencoder)",
        source=load_source(folder / "mlperf_tiny/ad01_float.tflite"),
        calibration=noise[0],
        evaluation=noise[1],
        classifies=False,
        remark="drawn noise of a spectrum's level, not sounds: fidelity to the float model only",
    )


def _spectra(seed: int) -> Dataset:
    """Return drawn spectra; neighbouring bands go together, and no sample is like another."""
    dice = np.random.default_rng(seed)
    levels = dice.normal(-20, 6, (SPECTRA, 1)) + dice.normal(0, 4, (SPECTRA, SPECTRUM)).cumsum(axis=1) / 8
    place = Path(tempfile.mkdtemp()) / "spectra.npz"
    np.savez(place, x=levels.astype(np.float32))
    return load_dataset(place)


def as_onnx(case: Case) -> Case:
    """Return the same network as ONNX, converted operator by operator and weight by weight."""
    place = Path(tempfile.mkdtemp()) / "converted.onnx"
    place.write_bytes(converted(case.source.data))
    return replace(case, source=load_source(place))


def user_case(model: Path, calibration: Path, evaluation: Path) -> Case:
    """Return a case of the caller's own files."""
    samples = load_dataset(evaluation)
    return Case(
        name=model.stem,
        source=load_source(model),
        calibration=load_dataset(calibration),
        evaluation=samples,
        classifies=samples.labels is not None,
    )


def published_cases(folder: Path) -> Sequence[Case]:
    """Return every published float model of the folder that is known here, in both formats."""
    found = [resnet_case(folder), autoencoder_case(folder)]
    return [each for case in found for each in (case, as_onnx(case))]
