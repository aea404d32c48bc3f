"""What distillation is worth: one student taught by its teacher, and the same student by labels alone.

Both have the same labelled samples, first weights, augmentation, number of steps and rates; only the loss differs.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from edgepick_host.compress.training.distill import METHODS, Lesson
from edgepick_host.compress.training.engine import training_context
from edgepick_host.compress.training.samples import Samples
from edgepick_host.compress.training.task import Task
from edgepick_host.compress.training.trainer import Plan, accuracy, fit
from edgepick_host.errors import CompressionError

PLAN = Plan(epochs=30, rate=0.05, relative_rate=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Accuracies on the evaluation set (0..1), one per seed.

    Attributes:
        teacher_parameters: Number of the teacher's weights.
        student_parameters: Of the student's.
        labelled: Training samples that both students had.
        teacher: Its accuracy.
        taught: Of the student that learned from the teacher, by seed.
        alone: Of the same student that learned from labels alone.
    """

    teacher_parameters: int
    student_parameters: int
    labelled: int
    teacher: float
    taught: Mapping[int, float]
    alone: Mapping[int, float]

    @property
    def kept(self) -> float:
        """Mean share of the teacher's accuracy that the taught student has."""
        return statistics.fmean(self.taught.values()) / self.teacher

    @property
    def gain(self) -> tuple[float, float]:
        """Mean of taught less alone, seed by seed, and its standard deviation."""
        gains = [self.taught[seed] - self.alone[seed] for seed in self.taught]
        return statistics.fmean(gains), statistics.stdev(gains) if len(gains) > 1 else 0.0


def compare_distillation(
    task: Task,
    evaluation: Samples,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    method: str = "response",
    per_class: int = 0,
    plan: Plan = PLAN,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Return how the task's ``student()`` answers with and without its teacher.

    Args:
        task: With a ``student()``.
        evaluation: In the module's layout; looked at once at the end, never to choose anything.
        seeds: One pair of trainings each.
        method: One of :data:`METHODS`.
        per_class: Labelled samples of each class; 0 for all.
        plan: Of every training.
        say: Told how far it is.

    Raises:
        CompressionError: The task has no ``student()``.
    """
    taught: dict[int, float] = {}
    alone: dict[int, float] = {}
    labelled = parameters = 0
    for seed in seeds:
        context = training_context(task, seed=seed, say=say)
        context = replace(context, data=few_of(context.data, per_class, seed))
        pupil, lonely = (_student(task, seed) for _ in range(2))
        METHODS[method](pupil, [task.module, *task.teachers], context, Lesson(plan=plan))
        fit(lonely, context, plan, title="labels alone")
        taught[seed], alone[seed] = accuracy(pupil, evaluation), accuracy(lonely, evaluation)
        labelled, parameters = len(context.data), count(pupil)
        say(f"seed {seed}: taught {taught[seed]:.4f}, labels alone {alone[seed]:.4f}")
    return Comparison(
        teacher_parameters=count(task.module),
        student_parameters=parameters,
        labelled=labelled,
        teacher=accuracy(task.module, evaluation),
        taught=taught,
        alone=alone,
    )


def few_of(samples: Samples, per_class: int, seed: int) -> Samples:
    """Return this many samples of each class, all of them for 0."""
    if not per_class:
        return samples
    dice = torch.Generator().manual_seed(seed)
    chosen = []
    for label in samples.y.unique(sorted=True):
        members = (samples.y == label).nonzero().flatten()
        chosen.append(members[torch.randperm(len(members), generator=dice)[:per_class]])
    return samples.at(torch.cat(chosen))


def count(module: nn.Module) -> int:
    """Return the number of a module's weights."""
    return sum(each.numel() for each in module.parameters())


def _student(task: Task, seed: int) -> nn.Module:
    student = task.student(seed=seed)
    if student is None:
        raise CompressionError(f"{task.path}: defines no student()")
    return student
