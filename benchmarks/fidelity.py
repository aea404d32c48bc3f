"""How the benchmarks of the compression measure, and the report that they print into.

Fidelity is measured against the float model on the evaluation set: the share of equal answers, the mean absolute
error, and the mean KL divergence in nats. Latency is the median of single inferences on one thread; models take
turns, and what is printed is the ratio to the float model in the same runtime.
"""

import contextlib
import io
import json
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np
from cases import Case

from edgepick_host.compress.predictor import open_predictor
from edgepick_host.compress.quality import accuracy, agreement, mean_abs_error
from edgepick_host.compress.quiet import quiet

ROUNDS = 7
RUNS = 40
"""Single inferences per model and round; models take turns, so that a busy moment hits all of them."""
SMALLEST = 1e-6
"""Added to probabilities before a logarithm: integers of 1/256 make many of them zero."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one way of compressing gave, and in how many seconds."""

    way: str
    model: bytes
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One line of a table.

    Attributes:
        accuracy: On the evaluation set (0..1); ``None`` without labels.
        agreement: With the float model; ``None`` for a model that does not classify, like ``divergence``.
        error: Mean absolute one, to the float model's answers.
        divergence: Mean KL divergence from the float model's probabilities, nats.
        zipped: Bytes after zlib level 9.
        time_ratio: Of median latencies, to the float model.
        seconds: That the compression took.
    """

    way: str
    accuracy: float | None
    agreement: float | None
    error: float
    divergence: float | None
    size: int
    zipped: int
    time_ratio: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that was to be reached, and what was found."""

    name: str
    wanted: str
    found: str
    reached: bool


@dataclass(slots=True, kw_only=True)
class Report:
    """What is printed as it is found, and kept for the end.

    Attributes:
        quick: Few samples and short trainings: everything is run, nothing is judged.
        as_json: Lines go to standard error, and :meth:`finish` prints one JSON document.
        facts: Of the machine.
    """

    quick: bool = False
    as_json: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """Print a line at once."""
        print(text, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def keep(self, title: str, rows: Iterable[dict[str, object]]) -> None:
        """Add a table to the JSON document."""
        self.tables[title] = list(rows)

    def case(self, case: Case) -> Case:
        """Return the case as this report wants it."""
        return case.smaller() if self.quick else case

    def judge(self, name: str, wanted: str, found: str, *, reached: bool) -> None:
        """Note a target; nothing of a quick run is one."""
        if not self.quick:
            self.targets.append(Target(name=name, wanted=wanted, found=found, reached=reached))

    def finish(self) -> None:
        """Print every target and whether it was reached, or the JSON document."""
        if self.targets:
            widths = [max(len(getattr(each, key)) for each in self.targets) for key in ("name", "wanted", "found")]
            self.say("\n" + "  ".join(h.ljust(w) for h, w in zip(("target", "wanted", "found"), widths, strict=True)))
        for each in self.targets:
            cells = zip((each.name, each.wanted, each.found), widths, strict=True)
            self.say("  ".join(cell.ljust(width) for cell, width in cells) + ("  yes" if each.reached else "  NO"))
        missed = sum(not each.reached for each in self.targets)
        self.say(f"\n{len(self.targets) - missed} of {len(self.targets)} targets reached" if self.targets else "")
        if self.as_json:
            targets = [asdict(each) for each in self.targets]
            print(json.dumps({"machine": self.facts, "tables": self.tables, "targets": targets}, indent=1))


def taken(way: str, work: Callable[[], bytes]) -> Row:
    """Return what ``work`` made, and how long it took; what it prints is dropped."""
    began = time.perf_counter()
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        model = work()
    return Row(way=way, model=model, seconds=time.perf_counter() - began)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return what ``work`` returns, and its seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def latency_ratios(case: Case, models: Iterable[bytes]) -> list[float]:
    """Return each model's median latency over the first one's; the models take turns."""
    sample = next(case.calibration.samples(case.source.facts.inputs))
    predictors = [open_predictor(model, case.format) for model in models]
    rounds: list[list[float]] = [[] for _ in predictors]
    for _ in range(ROUNDS):
        for predictor, found in zip(predictors, rounds, strict=True):
            predictor.run(sample)
            times = []
            for _ in range(RUNS):
                began = time.perf_counter()
                predictor.run(sample)
                times.append(time.perf_counter() - began)
            found.append(statistics.median(times))
    medians = [statistics.median(found) for found in rounds]
    return [each / medians[0] for each in medians]


def divergence(found: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean KL divergence of probabilities from the reference's, in nats."""
    p, q = (each.reshape(len(each), -1).astype(np.float64) + SMALLEST for each in (reference, found))
    return float(np.mean(np.sum((p - SMALLEST) * np.log(p / q), axis=1)))


def table(report: Report, case: Case, rows: Sequence[Row]) -> dict[str, Figures]:
    """Print what each way gave, the float model first, and return it by way."""
    rows = [Row(way="float32", model=case.source.data), *rows]
    reference = case.answers(case.source.data)
    ratios = latency_ratios(case, [row.model for row in rows])
    found = [_figures(case, row, ratio, reference) for row, ratio in zip(rows, ratios, strict=True)]
    samples = f"{len(case.calibration)} samples to calibrate, {len(case.evaluation)} to evaluate"
    report.say(f"\n{case.title}; {samples}{'; ' + case.remark if case.remark else ''}")
    heads = f"{'accuracy':>9} {'agreed':>8} {'|error|':>8} {'KL':>8} {'bytes':>9} {'zipped':>9} {'time':>6} {'s':>6}"
    report.say(f"  {'':<34} {heads}")
    for each in found:
        report.say(
            f"  {each.way:<34} {_share(each.accuracy):>9} {_share(each.agreement):>8} {each.error:8.4f} "
            f"{'-' if each.divergence is None else f'{each.divergence:.4f}':>8} {each.size:9,} {each.zipped:9,} "
            f"{each.time_ratio:6.2f} {each.seconds:6.1f}"
        )
    report.keep(case.title, [asdict(each) for each in found])
    return {each.way: each for each in found}


def _figures(case: Case, row: Row, ratio: float, reference: np.ndarray) -> Figures:
    found = case.answers(row.model)
    return Figures(
        way=row.way,
        accuracy=accuracy(found, case.evaluation.labels) if case.classifies else None,
        agreement=agreement(found, reference) if case.classifies else None,
        error=mean_abs_error(found, reference),
        divergence=divergence(found, reference) if case.classifies else None,
        size=len(row.model),
        zipped=len(zlib.compress(row.model, 9)),
        time_ratio=ratio,
        seconds=row.seconds,
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
