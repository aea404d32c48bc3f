"""What a runner may be asked to find out beside its measurement; apart from the findings, as the agent needs it."""

from dataclasses import dataclass


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
