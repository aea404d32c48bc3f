"""The engine: what passes see, steps in order, and a name for everything that a trained module depends on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgepick_host.app.composition import TRAINING_PASSES
from edgepick_host.app.compression import training_pass
from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.training.engine import train, training_context, training_key
from edgepick_host.core.variants import Step
from edgepick_host.errors import InputFileError

QAT = Step(pass_name="train_qat", parameters={"weight_bits": "4"})
DISTILL = Step(pass_name="train_distill", parameters={})


def calibration(shape: tuple[int, ...]) -> Dataset:
    return Dataset(source=Path("calibration.npz"), arrays={"x": np.zeros(shape, np.uint8)}, labels=None)


def test_calibration_samples_arrive_in_the_modules_layout(task):
    """The archive's NHWC integers are NCHW float32 for passes."""
    context = training_context(task, calibration=calibration((5, 8, 8, 1)))

    assert context.calibration.shape == (5, 1, 8, 8)
    assert context.calibration.dtype is torch.float32


def test_calibration_samples_of_another_shape_are_refused(task):
    """Both files and both shapes are named."""
    with pytest.raises(InputFileError, match=r"calibration\.npz.*\[1, 8, 9\].*train_data\(\) has \[1, 8, 8\]"):
        training_context(task, calibration=calibration((5, 8, 9, 1)))


def test_held_out_samples_are_never_trained_on(task):
    """Data and held-out samples together are the task's, and none is in both."""
    context = training_context(task, seed=3)

    rows = {row.numpy().tobytes() for row in context.data.x}
    assert len(context.data) + len(context.held_out) == len(task.samples)
    assert not [row for row in context.held_out.x if row.numpy().tobytes() in rows]


def test_steps_run_in_order_each_on_what_the_one_before_left(context):
    """The second pass sees the first one's module, the first one the task's."""
    seen: list[tuple[str, nn.Module]] = []

    def load(name: str):
        def run(module, parameters, _context):
            seen.append((name, module))
            return nn.Sequential(module)

        return run

    train([DISTILL, QAT], context, load)

    assert [name for name, _ in seen] == ["train_distill", "train_qat"]
    assert seen[0][1] is context.task.module
    assert seen[1][1][0] is context.task.module


def test_the_key_names_everything_that_a_trained_module_depends_on(task):
    """Other steps, another order, seed, tolerance or calibration are another key; the same are the same."""
    base = training_context(task, seed=1)
    others = [
        training_key([QAT], base),
        training_key([DISTILL, QAT], base),
        training_key([QAT, DISTILL], base),
        training_key([QAT], training_context(task, seed=2)),
        training_key([QAT], training_context(task, seed=1, max_accuracy_drop=0.02)),
        training_key([QAT], training_context(task, seed=1, calibration=calibration((5, 8, 8, 1)))),
    ]

    assert len(set(others)) == len(others)
    assert training_key([QAT], training_context(task, seed=1)) == others[0]


@pytest.mark.parametrize("name", ["train_qat", "train_distill"])
def test_the_passes_are_in_the_composition_roots_table(name):
    """Recipes find them by name."""
    assert name in TRAINING_PASSES
    assert callable(training_pass(name))


def test_the_demos_task_file_is_sound():
    """It loads with every check; its module is the shipped network, and the student has 40 % fewer weights."""
    from edgepick_host.compress.training.comparison import count
    from edgepick_host.compress.training.task import load_task
    from edgepick_host.compress.training.trainer import accuracy

    task = load_task(Path(__file__).parents[3] / "host_tools/edgepick_host/demo/task.py")

    assert accuracy(task.module, task.samples.at(torch.arange(0, 1198, 12))) > 0.97
    assert count(task.student(seed=0)) < 0.6 * count(task.module)
