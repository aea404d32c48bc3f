"""What a runner may be asked to find out beside its measurement; apart from the findings, as the agent needs it."""

from collections.abc import Collection
from dataclasses import dataclass

from edgepick_agent.errors import RunError
from edgepick_wire.metrics import MeasurePlan

LEAST_PACED_RUNS = 5
"""Fewer runs at a fixed rate tell no median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """What to do beside the closed loop, each in a pass of its own.

    Attributes:
        samples: Keep each latency, for intervals over restarts.
        rate_per_s: Run at this fixed rate too; ``None`` for back to back only.
        operators: Time each operator.
        trace: Keep when each phase and each of some inferences ran.
        cpus: CPUs that the runner may use; empty for all that it has.
    """

    samples: bool = False
    rate_per_s: float | None = None
    operators: bool = False
    trace: bool = False
    cpus: tuple[int, ...] = ()


def paced_seconds(rate_per_s: float) -> float:
    """Return how long the fewest runs at a rate take, with the pause before the first of them."""
    return (LEAST_PACED_RUNS + 1) / rate_per_s


def too_rare(rate_per_s: float, plan: MeasurePlan) -> str | None:
    """Return why the plan's longest time does not do for a rate; ``None`` if it does."""
    needed = paced_seconds(rate_per_s)
    if needed <= plan.max_seconds:
        return None
    return (
        f"{LEAST_PACED_RUNS} inferences, one every {1 / rate_per_s:g} s, and the pause before them"
        f" take {needed:g} s, the plan allows {plan.max_seconds:g} s"
    )


def check_cpus(wanted: Collection[int], there: Collection[int]) -> None:
    """Refuse CPUs that are not all there, of which the kernel would take the others without a word.

    Raises:
        RunError: One is missing.
    """
    if not set(wanted) <= set(there):
        missed, known = (", ".join(map(str, sorted(cpus))) for cpus in (wanted, there))
        raise RunError(f"cannot be held to CPUs {missed}", hint=f"there are {known}")
