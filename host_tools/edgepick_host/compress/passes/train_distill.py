"""Knowledge distillation into a smaller network, or into one that earlier steps made smaller."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from edgepick_host.compress.step import parameter
from edgepick_host.compress.training.distill import METHODS, Lesson
from edgepick_host.compress.training.parameters import real_number, whole_number
from edgepick_host.compress.training.step import TrainingContext, TrainingPass
from edgepick_host.compress.training.student import derive_student
from edgepick_host.compress.training.trainer import Plan
from edgepick_host.errors import CompressionError

RATE = 0.05
"""Of each weight tensor's root mean square: 0.005 for weights of the usual first size."""


def build() -> TrainingPass:
    """Return the pass; the task's ``model()`` teaches, and so do its ``teachers()``.

    Parameters: ``method`` ("response", "hint", "attention", "relation", "multi_teacher", "noisy_student",
    "born_again"), ``student`` ("given": the task's ``student()``; "derived" from the module by ``width`` and ``depth``;
    "current": the module as earlier steps left it), ``width`` ("0.75"), ``depth`` ("1"), ``start`` ("inherited",
    "random": the derived student's weights), ``temperature`` ("4"), ``alpha`` ("0.9"), ``beta`` ("1"), ``rounds``
    ("2"), ``epochs`` ("30"), ``rate`` ("0.05").
    """
    return _train_distill


def _train_distill(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    method = METHODS[parameter(parameters, "method", tuple(METHODS), default="response")]
    plan = Plan(
        epochs=whole_number(parameters, "epochs", default=30, least=1),
        rate=real_number(parameters, "rate", default=RATE, least=1e-6, most=1),
        relative_rate=True,
        keep_best=True,
    )
    lesson = Lesson(
        temperature=real_number(parameters, "temperature", default=4.0, least=0.1, most=100),
        alpha=real_number(parameters, "alpha", default=0.9, least=0, most=1),
        beta=real_number(parameters, "beta", default=1.0, least=0, most=1e6),
        rounds=whole_number(parameters, "rounds", default=2, least=1),
        plan=plan,
    )
    teachers = [context.task.module, *context.task.teachers]
    return method(_student(module, parameters, context), teachers, context, lesson).eval()


def _student(module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
    kind = parameter(parameters, "student", ("given", "derived", "current"), default="given")
    if kind == "current":
        return copy.deepcopy(module)
    if kind == "given":
        student = context.task.student(seed=context.seed)
        if student is None:
            raise CompressionError(
                f"{context.task.path}: defines no student()", hint="Add student() -> nn.Module, or use student=derived."
            )
        return student
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return derive_student(
            module,
            context.task.probe,
            width=real_number(parameters, "width", default=0.75, least=0.05, most=1),
            depth=real_number(parameters, "depth", default=1.0, least=0, most=1),
            inherit=parameter(parameters, "start", ("inherited", "random"), default="inherited") == "inherited",
        )
