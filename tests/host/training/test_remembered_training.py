"""What was trained before: found again as long as the task is the same, and trained anew when it is another."""

from pathlib import Path

import numpy as np
import pytest

from edgepick_host.compress.cache import Cache
from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.laboratory import Laboratory
from edgepick_host.compress.work import Material, Trained, TrainJob
from edgepick_host.core.variants import Step
from edgepick_wire.manifest import ModelFormat

FROM_A_FILE = """
import pathlib

def train_data():
    with np.load(pathlib.Path(__file__).parent / "train.npz") as archive:
        return archive["x"], archive["y"]
"""
JOB = TrainJob(training=(Step(pass_name="train_qat"),), formats=(ModelFormat.TFLITE,))


class Trainer:
    """Stands in for what trains: says how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def run(self, jobs, _deadline):
        """Yield another answer each time."""
        for index, _ in enumerate(jobs):
            self.asked += 1
            yield index, Trained(failure=f"training {self.asked}")

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def write_data(tmp_path: Path):
    """Give a function that writes the training data with some labels."""

    def write(labels: np.ndarray) -> None:
        x = np.random.default_rng(0).normal(size=(96, 8, 8, 1)).astype(np.float32)
        np.savez(tmp_path / "train.npz", x=x, y=labels)

    return write


@pytest.fixture
def trained(write_task, tmp_path):
    """Give a function that returns what a new run says of the same job, with the same cache."""
    path, trainer = write_task(new=FROM_A_FILE), Trainer()
    few = Dataset(source=Path("few.npz"), arrays={"x": np.zeros((2, 8, 8, 1), np.float32)}, labels=None)
    material = Material(
        sources={ModelFormat.TFLITE: b"model"},
        facts={},
        calibration=few,
        evaluation=few,
        reference=np.zeros((2, 4), np.float32),
        golden=(0,),
        task=path,
    )

    def run() -> str:
        laboratory = Laboratory(
            material=material,
            open_executor=lambda: trainer,
            cache=Cache(tmp_path / "cache"),
            say=lambda _: None,
        )
        (found,) = laboratory.results([JOB], "training")
        assert isinstance(found, Trained)
        return found.failure

    return run


def test_corrected_training_data_are_trained_on(write_data, trained):
    """Other labels in the file that the task reads are another training; the old ones are found again."""
    write_data(np.arange(96) % 4)
    first = (trained(), trained())
    write_data(np.arange(96)[::-1] % 4)
    corrected = trained()
    write_data(np.arange(96) % 4)

    assert first == ("training 1", "training 1")
    assert corrected == "training 2"
    assert trained() == "training 1"


def test_a_changed_neighbour_is_trained_anew(write_data, trained, tmp_path):
    """A module that the task file may import is part of what training depends on."""
    write_data(np.arange(96) % 4)
    neighbour = tmp_path / "net.py"
    neighbour.write_text("WIDTH = 4\n")
    first = trained()
    neighbour.write_text("WIDTH = 5\n")

    assert first == "training 1"
    assert trained() == "training 2"
