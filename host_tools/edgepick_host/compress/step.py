"""What a pass is: model bytes and parameters in, model bytes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edgepick_host.compress.dataset import Dataset
from edgepick_host.core.model_facts import ModelFacts
from edgepick_host.errors import CompressionError

Range = tuple[float, float]
"""Least and largest value of a tensor, in real numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a pass may look at besides the model.

    Attributes:
        calibration: Samples to calibrate ranges on.
        source: Facts of the float model that the file steps start from.
        ranges: Activation ranges that training has fixed, by the file's tensor name; they win over calibrated ones.
    """

    calibration: Dataset
    source: ModelFacts
    ranges: Mapping[str, Range] = field(default_factory=dict)


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


def parameter(parameters: Mapping[str, str], name: str, allowed: tuple[str, ...], *, default: str = "") -> str:
    """Return a step's parameter.

    Raises:
        CompressionError: It is not one of ``allowed``, or missing without a ``default``.
    """
    value = parameters.get(name, default)
    if value not in allowed:
        raise CompressionError(f"parameter {name}={value!r}: allowed are {', '.join(allowed)}")
    return value
