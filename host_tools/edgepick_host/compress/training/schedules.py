"""How much is pruned when: sparsity as a function of the training step. Pure.

The polynomial decay is that of Zhu and Gupta, "To prune, or not to prune" (2017), equation 1: much is taken early,
while there is much to take, and ever less towards the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepick_host.compress.training.parameters import real_number, whole_number
from edgepick_host.errors import CompressionError

DECAY_POWER = 3
MAX_SHARE = 0.999
UPDATES_PER_TRAINING = 20
"""How often masks are made anew by default between begin and end. Zhu and Gupta do it every 100 to 1000 of many
thousand steps; with the few hundred steps of a fine-tuning, every 100 would be too coarse to be a schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialDecay:
    """Sparsity that grows from ``initial`` at step ``begin`` to ``final`` at step ``end``, cubically ever slower.

    Attributes:
        initial: Share of zeros at ``begin``; 0 before it.
        final: Share of zeros from ``end`` on.
        begin: Optimizer step, counted from 0.
        end: Optimizer step.
        frequency: Masks are made anew every so many steps from ``begin`` on, and at ``end``.
    """

    initial: float
    final: float
    begin: int
    end: int
    frequency: int

    def __post_init__(self) -> None:
        if not 0 <= self.initial <= self.final < 1:
            raise CompressionError(
                f"sparsity from {self.initial:g} to {self.final:g}: expected 0 <= initial <= final < 1"
            )
        if not 0 <= self.begin < self.end:
            raise CompressionError(f"pruning from step {self.begin} to step {self.end}: it must end after it begins")
        if self.frequency < 1:
            raise CompressionError(f"frequency={self.frequency}: expected a number of steps, at least 1")

    def at(self, step: int) -> float:
        """Return the share of zeros that is due after ``step`` (0..1)."""
        if step < self.begin:
            return 0.0
        left = 1 - min((step - self.begin) / (self.end - self.begin), 1.0)
        return self.final + (self.initial - self.final) * left**DECAY_POWER

    def updates(self, step: int) -> bool:
        """Return whether masks are made anew at ``step``."""
        if not self.begin <= step <= self.end:
            return False
        return step == self.end or (step - self.begin) % self.frequency == 0


def polynomial_decay(parameters: Mapping[str, str], steps: int) -> PolynomialDecay:
    """Return the schedule of a training step's parameters for a training of ``steps`` optimizer steps.

    Absent, pruning begins at once and ends after two thirds of the training: the last third is for recovery.

    Raises:
        CompressionError: A parameter is not a number, out of its range, or the end lies after the training.
    """
    begin = whole_number(parameters, "begin", default=0, least=0)
    end = whole_number(parameters, "end", default=max(begin + 1, steps * 2 // 3), least=1)
    if end > steps:
        raise CompressionError(f"pruning ends at step {end}, but the training has {steps} steps only")
    return PolynomialDecay(
        initial=share_of(parameters, "initial", default=0.0),
        final=share_of(parameters, "final", default=0.8),
        begin=begin,
        end=end,
        frequency=whole_number(parameters, "frequency", default=max(1, (end - begin) // UPDATES_PER_TRAINING), least=1),
    )


def rising_shares(final: float, rounds: int) -> tuple[float, ...]:
    """Return the sparsities of iterative pruning: every round takes the same share of what is left.

    As in the lottery ticket's paper (Frankle and Carbin 2019, section 1): after n rounds, ``(1 - final) ** (1/n)`` of
    the weights have survived each.
    """
    kept = (1 - final) ** (1 / rounds)
    return (*(1 - kept**done for done in range(1, rounds)), final)


def share_of(parameters: Mapping[str, str], name: str, *, default: float) -> float:
    """Return a share among a training step's parameters, from 0 to 0.999.

    Raises:
        CompressionError: It is none.
    """
    return real_number(parameters, name, default=default, least=0, most=MAX_SHARE)
