"""What a training pass is: a PyTorch module and parameters in, a module out.

Training starts from the module of the user's task file and ends with an export to ``.tflite`` or ONNX
(:mod:`edgepick_host.compress.training.export`); the recipe's file steps go on from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from edgepick_host.compress.request import Say
from edgepick_host.compress.training.samples import Samples
from edgepick_host.compress.training.task import Task

__all__ = ["Samples", "TrainingContext", "TrainingPass", "TrainingPassLoader"]

TrainingPassLoader = Callable[[str], "TrainingPass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext:
    """What a training pass may look at besides the module.

    Attributes:
        task: The user's task file.
        data: To train on.
        held_out: A stratified share of the training data that nothing is trained on: schedules and stopping rules look
            at it, never at the evaluation set.
        calibration: Samples of the calibration archive, in the module's layout.
        max_accuracy_drop: What the user tolerates, in share; what iterates until a tolerance is reached stops there.
        seed: Of everything random in the pass. The same seed gives the same module on the same machine.
        say: Called with one line for a person every few seconds.
    """

    task: Task
    data: Samples
    held_out: Samples
    calibration: Tensor
    max_accuracy_drop: float
    seed: int
    say: Say


class TrainingPass(Protocol):
    """One training step of a recipe."""

    def __call__(self, module: nn.Module, parameters: Mapping[str, str], context: TrainingContext) -> nn.Module:
        """Return the module after this step; the one that was given is left as it was.

        Raises:
            CompressionError: The technique does not apply to this module.
        """
        ...
