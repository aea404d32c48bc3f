"""Knowledge distillation: how a student learns from one teacher or several, by each published recipe.

Only the student and its adapters are trained; teachers run in evaluation mode and without gradients.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepick_host.compress.training import distill_losses as losses
from edgepick_host.compress.training.features import LAST, Tap, embedding, maps, recorded
from edgepick_host.compress.training.samples import Samples
from edgepick_host.compress.training.step import TrainingContext
from edgepick_host.compress.training.trainer import Batch, Hooks, Loss, Plan, answers, fit, logits, zeros_kept
from edgepick_host.errors import CompressionError

NOISE_SHARE = 0.05
"""Of the inputs' standard deviation, added for a noisy student."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """How to distill.

    Attributes:
        temperature: T of the softened answers.
        alpha: Share of the teachers in the response loss (0..1); the labels have the rest.
        beta: Weight of what is compared inside of the networks.
        rounds: Of the noisy student, or generations of born-again networks.
        plan: Of each training.
    """

    temperature: float = 4.0
    alpha: float = 0.9
    beta: float = 1.0
    rounds: int = 2
    plan: Plan


Method = Callable[[nn.Module, Sequence[nn.Module], TrainingContext, Lesson], nn.Module]
"""From a student (trained in place), its teachers, the context and the lesson to the trained student."""


def scores(module: nn.Module, x: Tensor, context: TrainingContext) -> Tensor:
    """Return a teacher's logits, without gradients."""
    return logits(answers(module, x), probabilities=context.task.probabilities)


def response(student: nn.Module, teachers: Sequence[nn.Module], context: TrainingContext, lesson: Lesson) -> nn.Module:
    """Return the student after learning the labels and the teachers' softened answers."""
    _fit(student, response_of(teachers, context, lesson), context, lesson, "distillation")
    return student


def response_of(teachers: Sequence[nn.Module], context: TrainingContext, lesson: Lesson) -> Loss:
    """Return ``(1 - alpha) CE + alpha T^2 KL``; of several teachers, towards their averaged softened answers."""

    def loss(student: nn.Module, batch: Batch) -> Tensor:
        found = logits(student(batch.x), probabilities=context.task.probabilities)
        return (1 - lesson.alpha) * functional.cross_entropy(found, batch.y) + lesson.alpha * _taught(
            found, teachers, batch.x, context, lesson
        )

    return loss


def _taught(
    found: Tensor, teachers: Sequence[nn.Module], x: Tensor, context: TrainingContext, lesson: Lesson
) -> Tensor:
    target = losses.averaged_targets([scores(each, x, context) for each in teachers], lesson.temperature)
    return lesson.temperature**2 * losses.divergence(found, target, lesson.temperature)


def two_stages(
    student: nn.Module, teachers: Sequence[nn.Module], context: TrainingContext, lesson: Lesson
) -> nn.Module:
    """Return the student after learning the teachers' averaged answers alone, and then the labels as well.

    Each stage has half of the epochs.

    Raises:
        CompressionError: There are not several teachers.
    """
    if len(teachers) < 2:
        raise CompressionError(
            "several teachers are needed; there is one", hint="Add teachers() -> list of modules to the task file."
        )
    half = replace(lesson, plan=replace(lesson.plan, epochs=max(1, lesson.plan.epochs // 2)))
    alone = replace(half, alpha=1.0)
    _fit(student, response_of(teachers, context, alone), context, alone, "stage 1, teachers' answers")
    _fit(student, response_of(teachers, context, half), context, half, "stage 2, with the labels")
    return student


def inside(kind: str) -> Method:
    """Return the method that adds a comparison inside of the networks: "hint", "attention" or "relation"."""

    def method(
        student: nn.Module, teachers: Sequence[nn.Module], context: TrainingContext, lesson: Lesson
    ) -> nn.Module:
        teacher = teachers[0]
        pairs = pairs_of(kind, student, teacher, context.task.probe)
        adapters = {key: adapter(mine, its) for key, (mine, its) in pairs.items()} if kind == "hint" else {}
        loss = _inside_loss(
            kind,
            teacher=teacher,
            pairs=pairs,
            adapters=adapters,
            outer=response_of(teachers, context, lesson),
            beta=lesson.beta,
        )
        trained = [parameter for each in adapters.values() for parameter in each.parameters()]
        hooks = Hooks(after_step=zeros_kept(student), parameters=trained)
        fit(student, context, lesson.plan, loss=loss, hooks=hooks, title=f"distillation, {kind}")
        return student

    return method


Pairs = dict[str, tuple[Tap, Tap]]
"""Student's and teacher's tap by key."""


def pairs_of(kind: str, student: nn.Module, teacher: nn.Module, probe: Tensor) -> Pairs:
    """Return the places that are compared: maps of one size for "hint" and "attention", the last layer's input else.

    Raises:
        CompressionError: The networks have no map of one size in common ("attention").
    """
    last = {LAST: (embedding(student, probe), embedding(teacher, probe))}
    if kind == "relation":
        return last
    mine, its = maps(student, probe), maps(teacher, probe)
    pairs = {f"{size[0]}x{size[1]}": (mine[size], its[size]) for size in mine if size in its}
    if not pairs and kind == "attention":
        raise CompressionError("teacher and student have no feature map of one size in common to compare attention on")
    return pairs or last


def adapter(student: Tap, teacher: Tap) -> nn.Module:
    """Return what gives a student's features the teacher's number of channels; initialised by a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if len(student.shape) == 3:
            return nn.Conv2d(student.shape[0], teacher.shape[0], 1)
        return nn.Linear(student.shape[-1], teacher.shape[-1])


def _inside_loss(
    kind: str, *, teacher: nn.Module, pairs: Pairs, adapters: dict[str, nn.Module], outer: Loss, beta: float
) -> Loss:
    compare = {"hint": losses.hint_loss, "attention": losses.attention_loss, "relation": losses.relation_loss}[kind]

    def loss(student: nn.Module, batch: Batch) -> Tensor:
        with recorded(teacher, {key: its for key, (_, its) in pairs.items()}) as taught:
            answers(teacher, batch.x)
        with recorded(student, {key: mine for key, (mine, _) in pairs.items()}) as seen:
            total = outer(student, batch)
        for key in pairs:
            mine = adapters[key](seen[key]) if key in adapters else seen[key]
            total = total + beta / len(pairs) * compare(mine, taught[key])
        return total

    return loss


def noisy_student(
    student: nn.Module, teachers: Sequence[nn.Module], context: TrainingContext, lesson: Lesson
) -> nn.Module:
    """Return the student after rounds of learning noisy labelled and unlabelled inputs with the teacher's answers.

    The teacher answers the inputs without noise; each round's student teaches the next (Xie et al. 2020).

    Raises:
        CompressionError: The task has no unlabelled data.
    """
    unlabelled = context.task.unlabelled
    if unlabelled is None:
        raise CompressionError(
            "noisy student needs unlabelled data", hint="Add unlabelled_data() -> x to the task file."
        )
    x = torch.cat([context.data.x, unlabelled])
    labels = torch.cat([context.data.y, torch.full((len(unlabelled),), -1)])
    data = Samples(x=x, y=labels)
    start, deviation = copy.deepcopy(student.state_dict()), float(x.std())
    current: Sequence[nn.Module] = teachers
    for round_ in range(lesson.rounds):
        student.load_state_dict(start)
        loss = _noisy_loss(current, context, lesson, NOISE_SHARE * deviation)
        hooks = Hooks(after_step=zeros_kept(student))
        fit(
            student, context, lesson.plan, loss=loss, hooks=hooks, data=data, title=f"noisy student, round {round_ + 1}"
        )
        current = [copy.deepcopy(student)]
    return student


def _noisy_loss(teachers: Sequence[nn.Module], context: TrainingContext, lesson: Lesson, noise: float) -> Loss:
    def loss(student: nn.Module, batch: Batch) -> Tensor:
        noisy = batch.x + noise * torch.randn_like(batch.x)
        found = logits(student(noisy), probabilities=context.task.probabilities)
        total = lesson.alpha * _taught(found, teachers, batch.x, context, lesson)
        labelled = batch.y >= 0
        if bool(labelled.any()):
            share = (1 - lesson.alpha) * float(labelled.double().mean())
            total = total + share * functional.cross_entropy(found[labelled], batch.y[labelled])
        return total

    return loss


def born_again(
    student: nn.Module, teachers: Sequence[nn.Module], context: TrainingContext, lesson: Lesson
) -> nn.Module:
    """Return a student taught by the ensemble of generations, each of which learned from the one before.

    Furlanello et al. 2018 answer with the ensemble; one network is delivered here, so it teaches a last one.
    """
    start = copy.deepcopy(student.state_dict())
    generations: list[nn.Module] = []
    current: Sequence[nn.Module] = teachers
    for _ in range(lesson.rounds):
        student.load_state_dict(start)
        current = [copy.deepcopy(response(student, current, context, lesson))]
        generations += current
    student.load_state_dict(start)
    return response(student, generations, context, lesson)


def _fit(student: nn.Module, loss: Loss, context: TrainingContext, lesson: Lesson, title: str) -> None:
    fit(student, context, lesson.plan, loss=loss, hooks=Hooks(after_step=zeros_kept(student)), title=title)


METHODS: dict[str, Method] = {
    "response": response,
    "hint": inside("hint"),
    "attention": inside("attention"),
    "relation": inside("relation"),
    "multi_teacher": two_stages,
    "noisy_student": noisy_student,
    "born_again": born_again,
}
