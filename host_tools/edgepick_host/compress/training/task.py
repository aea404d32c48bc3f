"""The user's task file: a Python module that says what to train, and on what; loaded and checked.

It holds ``model()`` and ``train_data()``, and optionally ``evaluate(module)``, ``student()``, ``teachers()``,
``unlabelled_data()``, ``augment(x, generator)`` and ``channels_last``. Whatever is wrong with it is one
:class:`InputFileError` that names the file, the function, what was found and what is allowed; an exception of the
user's code is shown with its line, never with a stack trace of ours.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgepick_host.compress.training.samples import Samples
from edgepick_host.compress.training.task_checks import (
    check_answers,
    check_labels,
    check_module,
    check_same_shape,
    read_inputs,
    read_samples,
    wrong,
)
from edgepick_host.compress.training.task_file import TaskFile, open_task_file

Augment = Callable[[Tensor, torch.Generator], Tensor]
PROBED_SAMPLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task file that was loaded and checked.

    Attributes:
        path: The file.
        sha256: Digest of what a result made from it depends on: the file's and its neighbours' code, and all that the
            functions return.
        module: The trained network, in evaluation mode; passes copy it and never change it.
        samples: All of ``train_data()``, in the module's layout.
        classes: Number of outputs.
        probabilities: The module answers with probabilities; otherwise with logits.
        channels_last: Data files and exported files are ``[N, H, W, C]``; the module takes ``[N, C, H, W]``.
        teachers: Further networks to learn from; empty without ``teachers()``.
        unlabelled: ``unlabelled_data()`` in the module's layout, or ``None``.
        augment: Changes a batch of the module's inputs at random while training, or ``None``.
        file: The loaded file, for the functions that are called later.
    """

    path: Path
    sha256: str
    module: nn.Module
    samples: Samples
    classes: int
    probabilities: bool
    channels_last: bool
    teachers: tuple[nn.Module, ...]
    unlabelled: Tensor | None
    augment: Augment | None
    file: TaskFile

    @property
    def probe(self) -> Tensor:
        """A few inputs, in the module's layout, to look at answers with."""
        return self.samples.x[:PROBED_SAMPLES]

    def evaluate(self, module: nn.Module) -> float | None:
        """Return what the user's ``evaluate(module)`` says, or ``None`` if there is no such function.

        Raises:
            InputFileError: It raises, or returns no finite number.
        """
        if not self.file.has("evaluate"):
            return None
        module.eval()
        found = self.file.call("evaluate", module)
        try:
            number = float(found)
        except (TypeError, ValueError) as error:
            raise wrong(self.path, "evaluate(module)", f"returned {found!r}; a number is expected") from error
        if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124 - only NaN differs from itself
            raise wrong(self.path, "evaluate(module)", f"returned {number}; a finite number is expected")
        return number

    def student(self, *, seed: int) -> nn.Module | None:
        """Return a new ``student()`` whose random initialisation follows the seed, or ``None`` without the function.

        Raises:
            InputFileError: It raises, returns no module, or one with other outputs than the model.
        """
        if not self.file.has("student"):
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            student = check_module(self.path, "student()", self.file.call("student"))
        answers = check_answers(self.path, "student()", student, self.probe)
        if answers.shape[1] != self.classes:
            raise wrong(self.path, "student()", f"answers with {answers.shape[1]} values, model() with {self.classes}")
        return student


def load_task(path: Path) -> Task:
    """Return the task in a Python file, checked.

    Raises:
        InputFileError: Unreadable, raises, lacks ``model`` or ``train_data``, or what these return does not fit.
    """
    file = open_task_file(path)
    module = check_module(path, "model()", file.call("model")).eval()
    samples = read_samples(path, file.call("train_data"), channels_last=file.flag("channels_last"))
    answers = check_answers(path, "model()", module, samples.x[:PROBED_SAMPLES])
    check_labels(path, samples.y, answers.shape[1])
    task = Task(
        path=path,
        sha256="",
        module=module,
        samples=samples,
        classes=answers.shape[1],
        probabilities=are_probabilities(answers),
        channels_last=file.flag("channels_last"),
        teachers=_teachers(file, samples, answers.shape[1]),
        unlabelled=_unlabelled(file, samples),
        augment=file.function("augment"),
        file=file,
    )
    found, student = task.evaluate(module), task.student(seed=0)
    if task.augment is not None:
        check_same_shape(path, "augment()", task.probe, task.augment(task.probe.clone(), torch.Generator()))
    return replace(task, sha256=_digest(task, student, found))


def _digest(task: Task, student: nn.Module | None, found: float | None) -> str:
    """Return the digest of a task whose ``evaluate()`` says ``found`` of its module."""
    hashed = hashlib.sha256(f"{task.file.code_sha256()} {found}".encode())
    for tensor in _tensors(task, student):
        hashed.update(f"{tensor.dtype} {list(tensor.shape)}\0".encode())
        hashed.update(tensor.detach().to_dense().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()


def _tensors(task: Task, student: nn.Module | None) -> Iterator[Tensor]:
    for module in (task.module, *task.teachers, *([] if student is None else [student])):
        yield from (*module.parameters(), *module.buffers())
    yield from (task.samples.x, task.samples.y, *([] if task.unlabelled is None else [task.unlabelled]))


def are_probabilities(answers: Tensor) -> bool:
    """Return whether every row is positive and sums to 1."""
    return bool((answers >= 0).all() and ((answers.sum(dim=1) - 1).abs() < 1e-3).all())


def _teachers(file: TaskFile, samples: Samples, classes: int) -> tuple[nn.Module, ...]:
    if not file.has("teachers"):
        return ()
    found = file.call("teachers")
    if not isinstance(found, list | tuple) or not found:
        raise wrong(file.path, "teachers()", f"returned {type(found).__name__}; a list of modules is expected")
    for place, teacher in enumerate(found):
        check_module(file.path, f"teachers()[{place}]", teacher).eval()
        answers = check_answers(file.path, f"teachers()[{place}]", teacher, samples.x[:PROBED_SAMPLES])
        if answers.shape[1] != classes:
            raise wrong(
                file.path, f"teachers()[{place}]", f"answers with {answers.shape[1]} values, model() with {classes}"
            )
    return tuple(found)


def _unlabelled(file: TaskFile, samples: Samples) -> Tensor | None:
    if not file.has("unlabelled_data"):
        return None
    x = read_inputs(
        file.path, "unlabelled_data()", file.call("unlabelled_data"), channels_last=file.flag("channels_last")
    )
    if x.shape[1:] != samples.x.shape[1:]:
        raise wrong(
            file.path,
            "unlabelled_data()",
            f"has samples of shape {list(x.shape[1:])}, train_data() of {list(samples.x.shape[1:])}",
        )
    return x
