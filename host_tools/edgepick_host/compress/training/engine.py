"""Training for a recipe: the task's module through its training steps, and out as a file with what it learned.

The entry points of ``edgepick compress --task``. What costs time is keyed: :func:`training_key` names a trained module
by all that it depends on, and the module is shared between the formats.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata

import torch
from torch import nn

from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.request import Say
from edgepick_host.compress.step import Range
from edgepick_host.compress.training.export import export_module
from edgepick_host.compress.training.matching import match_ranges
from edgepick_host.compress.training.samples import split, to_module_layout
from edgepick_host.compress.training.step import TrainingContext, TrainingPassLoader
from edgepick_host.compress.training.task import Task
from edgepick_host.core.variants import Step
from edgepick_host.errors import InputFileError
from edgepick_wire.manifest import ModelFormat
from edgepick_wire.version import __version__

HELD_OUT_SHARE = 0.15
"""Of the training data: schedules and stopping rules look at it, nothing is trained on it."""

_TOOLS = ("torch", "torch-pruning", "litert-torch", "onnxscript", "onnxruntime", "scikit-learn", "numpy")


def training_context(
    task: Task, *, calibration: Dataset | None = None, max_accuracy_drop: float = 0.01, seed: int = 0, say: Say = print
) -> TrainingContext:
    """Return what training passes see.

    Args:
        task: The task.
        calibration: The calibration archive; without it the first training samples stand in.
        max_accuracy_drop: In share.
        seed: Of the cut into data and held-out samples, and of everything random in the passes.
        say: Told how far the work is.

    Raises:
        InputFileError: The calibration samples have another shape than the task's.
    """
    data, held_out = split(task.samples, held_out=HELD_OUT_SHARE, seed=seed)
    return TrainingContext(
        task=task,
        data=data,
        held_out=held_out,
        calibration=data.x[:128] if calibration is None else _inputs(task, calibration),
        max_accuracy_drop=max_accuracy_drop,
        seed=seed,
        say=say,
    )


def _inputs(task: Task, calibration: Dataset) -> torch.Tensor:
    x = torch.from_numpy(next(iter(calibration.arrays.values())).astype("float32"))
    x = to_module_layout(x, channels_last=task.channels_last)
    if x.shape[1:] != task.samples.x.shape[1:]:
        raise InputFileError(
            f"{calibration.source}: samples, in the module's layout, of shape {list(x.shape[1:])}; "
            f"{task.path}: train_data() has {list(task.samples.x.shape[1:])}",
            hint="Give both in one layout; channels_last = True in the task file means [N, H, W, C].",
        )
    return x


def train(training: Sequence[Step], context: TrainingContext, load_pass: TrainingPassLoader) -> nn.Module:
    """Return the task's module after a recipe's training steps.

    Args:
        training: The steps, in order.
        context: See :func:`training_context`.
        load_pass: ``name -> pass``.

    Raises:
        CompressionError: A technique does not apply to this module.
        InputFileError: A function of the task file fails.
    """
    module = context.task.module
    for step in training:
        module = load_pass(step.pass_name)(module, step.parameters, context)
    return module.eval()


def export_trained(
    module: nn.Module, model_format: ModelFormat, context: TrainingContext
) -> tuple[bytes, Mapping[str, Range]]:
    """Return the module as a float model file, and the activation ranges that training fixed, by its tensor names.

    Raises:
        CompressionError: The module cannot be exported, or the file answers otherwise.
    """
    task = context.task
    data = export_module(module, model_format, task.probe, channels_last=task.channels_last)
    return data, match_ranges(module, data, model_format, task.probe, channels_last=task.channels_last)


def float_models(task: Task, formats: Sequence[ModelFormat] = tuple(ModelFormat)) -> dict[ModelFormat, bytes]:
    """Return the task's module as float model files.

    Raises:
        CompressionError: It cannot be exported, or a file answers otherwise.
    """
    return {each: export_module(task.module, each, task.probe, channels_last=task.channels_last) for each in formats}


def training_key(training: Sequence[Step], context: TrainingContext) -> str:
    """Return the digest of everything that the trained module depends on; hexadecimal SHA-256."""
    steps = [[step.pass_name, sorted(step.parameters.items())] for step in training]
    facts = {
        "task": context.task.sha256,
        "calibration": hashlib.sha256(context.calibration.numpy().tobytes()).hexdigest(),
        "steps": steps,
        "max_accuracy_drop": context.max_accuracy_drop,
        "seed": context.seed,
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return names and versions of the tools that take part in training and exporting, for the record."""
    return {"edgepick": __version__, **{name: _version(name) for name in _TOOLS}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
