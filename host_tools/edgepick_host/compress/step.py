"""What a pass is: model bytes and parameters in, model bytes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from edgepick_host.compress.dataset import Dataset
from edgepick_host.core.model_facts import ModelFacts
from edgepick_host.errors import CompressionError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a pass may look at besides the model.

    Attributes:
        calibration: Samples to calibrate ranges on.
        source: Facts of the float model that the recipe starts from.
    """

    calibration: Dataset
    source: ModelFacts


class Pass(Protocol):
    """One step of a recipe. The same arguments give the same bytes, in every process."""

    def __call__(self, model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
        """Return the model after this step.

        Raises:
            CompressionError: The engine cannot do it with this model.
        """
        ...


PassLoader = Callable[[str], Pass]
"""``name -> pass``; the composition root owns the table."""


def parameter(parameters: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """Return a step's parameter.

    Raises:
        CompressionError: It is missing or not one of ``allowed``.
    """
    value = parameters.get(name, "")
    if value not in allowed:
        raise CompressionError(f"parameter {name}={value!r}: allowed are {', '.join(allowed)}")
    return value
