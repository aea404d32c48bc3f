"""Whether a model's answers to the golden inputs are good enough: counts in, a judgement out."""

from dataclasses import dataclass

from edgepick_wire.metrics import GoldenResult


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenTally:
    """What was counted over the golden inputs.

    Attributes:
        samples: Number of golden inputs; at least one.
        agreeing: How many have their largest output where the float model has it.
        mean_abs_error: Mean absolute difference to the float model's outputs, finite ones only.
        correct: How many were answered as labelled, or ``None`` without labels.
        finite: No output was NaN or infinite.
    """

    samples: int
    agreeing: int
    mean_abs_error: float
    correct: int | None
    finite: bool


def judge(tally: GoldenTally, *, min_agreement: float, max_mean_abs_error: float) -> GoldenResult:
    """Return the result: passed if all outputs are finite and both tolerances are kept."""
    agreement = tally.agreeing / tally.samples
    problems = _problems(tally, agreement, min_agreement, max_mean_abs_error)
    kept = f"agreement {agreement:.4g}, mean absolute error {tally.mean_abs_error:.4g}, on {tally.samples} inputs"
    return GoldenResult(
        samples=tally.samples,
        agreement=agreement,
        mean_abs_error=tally.mean_abs_error,
        accuracy=None if tally.correct is None else tally.correct / tally.samples,
        finite=tally.finite,
        passed=not problems,
        detail="; ".join(problems) if problems else kept,
    )


def _problems(tally: GoldenTally, agreement: float, min_agreement: float, max_error: float) -> list[str]:
    problems = []
    if not tally.finite:
        problems.append("an output is NaN or infinite")
    if agreement < min_agreement:
        problems.append(
            f"agrees with the float model on {tally.agreeing} of {tally.samples} inputs"
            f" ({agreement:.4g}), at least {min_agreement:g} is wanted"
        )
    if tally.mean_abs_error > max_error:
        problems.append(f"mean absolute error is {tally.mean_abs_error:.4g}, at most {max_error:g} is wanted")
    return problems
