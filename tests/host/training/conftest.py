"""A tiny task: images of 8x8 whose brighter quarter is the label, and a small residual network for them."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from edgepick_host.compress.training.engine import training_context
from edgepick_host.compress.training.step import TrainingContext
from edgepick_host.compress.training.task import Task, load_task
from edgepick_host.compress.training.trainer import Plan, fit

TINY_TASK = """
import numpy as np
import torch
from torch import nn

channels_last = True


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)) + x)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.drop = nn.Dropout(0.1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(4 * width, 4)

    def forward(self, x):
        y = self.blocks(torch.relu(self.stem(x)))
        return self.head(self.drop(torch.flatten(self.pool(y), 1)))


def model():
    torch.manual_seed(3)
    return Net(8)


def student():
    return Net(4)


def train_data():
    dice = np.random.default_rng(0)
    y = np.arange(96) % 4
    x = dice.normal(0, 0.5, (96, 8, 8, 1)).astype(np.float32)
    for i, label in enumerate(y):
        row, column = divmod(int(label), 2)
        x[i, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1.5
    return x, y
"""


@pytest.fixture(scope="session")
def task(tmp_path_factory) -> Task:
    path = tmp_path_factory.mktemp("task") / "task.py"
    path.write_text(TINY_TASK)
    found = load_task(path)
    fit(found.module, training_context(found, say=lambda _: None), Plan(epochs=6, rate=1e-2))
    return found


@pytest.fixture
def context(task: Task) -> TrainingContext:
    return training_context(task, seed=1, say=lambda _: None)


@pytest.fixture
def few_steps() -> Plan:
    return Plan(steps=6, batch=16, rate=0.02, relative_rate=True)


@pytest.fixture
def write_task(tmp_path: Path):
    """Give a function that writes a task file of the tiny task with one piece replaced."""

    def write(old: str = "", new: str = "") -> Path:
        assert old in TINY_TASK
        path = tmp_path / "task.py"
        path.write_text(TINY_TASK.replace(old, new) if old else TINY_TASK + new)
        return path

    return write


@pytest.fixture
def with_task(context: TrainingContext):
    """Give a function that returns the context with other facts of the task."""
    return lambda **changes: replace(context, task=replace(context.task, **changes))
