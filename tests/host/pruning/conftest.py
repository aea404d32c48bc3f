"""A tiny task for cutting: images of 8x8 whose brighter quarter is the label, and a residual network for them."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from edgepick_host.compress.training.engine import training_context
from edgepick_host.compress.training.step import TrainingContext
from edgepick_host.compress.training.task import Task, load_task
from edgepick_host.compress.training.trainer import Plan, fit

CUT_TASK = """
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.first = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.hidden = nn.Linear(64, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x)))) + x)
        y = torch.flatten(nn.functional.avg_pool2d(x, 4), 1)
        return self.head(torch.relu(self.hidden(y)))


def model():
    torch.manual_seed(3)
    return Net()


def train_data():
    dice = np.random.default_rng(0)
    y = np.arange(96) % 4
    x = dice.normal(0, 0.5, (96, 1, 8, 8)).astype(np.float32)
    for i, label in enumerate(y):
        row, column = divmod(int(label), 2)
        x[i, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1.5
    return x, y
"""


@pytest.fixture(scope="session")
def cut_task(tmp_path_factory) -> Task:
    path = tmp_path_factory.mktemp("cut") / "task.py"
    path.write_text(CUT_TASK)
    found = load_task(path)
    fit(found.module, training_context(found, say=lambda _: None), Plan(epochs=6, rate=1e-2))
    return found


@pytest.fixture
def cut_context(cut_task: Task) -> TrainingContext:
    return training_context(cut_task, seed=1, say=lambda _: None)


@pytest.fixture
def tolerating(cut_context: TrainingContext):
    """Give a function that returns the context with another tolerance."""
    return lambda drop: replace(cut_context, max_accuracy_drop=drop)
