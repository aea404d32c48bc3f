"""What pruning with training is worth on the demo's model: sparsity in the compressed file, fewer channels in time.

    python benchmarks/pruning.py                 # both
    python benchmarks/pruning.py sparse          # polynomial decay to 80 % zeros
    python benchmarks/pruning.py structured      # channels and blocks, distillation while training again, int8

Sparsity alone makes no kernel of LiteRT or ONNX Runtime faster as they are run here; the ratios of time say so.

How much is cut is chosen among ``CUTS`` before the evaluation set is looked at: each is trained for a while; of those
that reach size and time (taken from the files, with calibration samples), the one wins that answers most held-out
training samples right. The winner is then trained to the end, with as many seeds as asked for, and evaluated once each.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cases import Case, demo_case
from fidelity import Figures, Report, Row, latency_ratios, table, timed
from rivals import torch_pruning_alone

import edgepick_host.demo
from edgepick_host import app
from edgepick_host.compress.source import describe
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.training.channels import cost
from edgepick_host.compress.training.engine import export_trained, train, training_context
from edgepick_host.compress.training.step import TrainingContext
from edgepick_host.compress.training.task import Task, load_task
from edgepick_host.compress.training.trainer import Plan, accuracy, fit
from edgepick_host.core.variants import Step
from edgepick_wire.manifest import ModelFormat

TASK = Path(edgepick_host.demo.__file__).parent / "task.py"
SPARSITY = "0.8"
CUTS: tuple[Mapping[str, str], ...] = (
    {"depth": "0.5", "ratio": "0.5", "round_to": "8"},
    {"depth": "0", "ratio": "0.25", "round_to": "4"},
    {"depth": "0", "ratio": "0.25", "round_to": "8"},
    {"depth": "0", "ratio": "0.5", "round_to": "8"},
)
"""How many residual blocks stay, how many channels go, and the width that what stays is a multiple of."""
TRIAL_EPOCHS, EPOCHS, SEEDS = 20, 60, 3
ALONE_RATIO, ALONE_RATE = 0.5, 0.05
MOST_LOST, MOST_SIZE, MOST_TIME, MOST_ZIPPED = 0.01, 0.25, 0.5, 1 / 3
INT8 = {ModelFormat.TFLITE: "tflite_static_int8", ModelFormat.ONNX: "onnx_static_qdq"}
INT8_OPTIONS: dict[ModelFormat, dict[str, str]] = {ModelFormat.TFLITE: {}, ModelFormat.ONNX: {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A cut, trained for a while.

    Attributes:
        held_out: Share of the held-out training samples that it answers right.
        sizes: Of its int8 files, to the float ones.
        times: Of its int8 files, to the float ones.
    """

    cut: Mapping[str, str]
    held_out: float
    sizes: Mapping[ModelFormat, float]
    times: Mapping[ModelFormat, float]

    @property
    def reaches(self) -> bool:
        """Whether size and time are what is wanted, in both formats."""
        return max(self.sizes.values()) <= MOST_SIZE and max(self.times.values()) <= MOST_TIME


def context_of(task: Task, seed: int = 0) -> TrainingContext:
    """Return what training passes see, without a word on the way."""
    return training_context(task, seed=seed, say=lambda _line: None)


def trained(pass_name: str, parameters: Mapping[str, str], context: TrainingContext) -> Any:
    """Return the task's module after one training pass."""
    step = Step(pass_name=pass_name, parameters=dict(parameters))
    return train([step], context, app.compression.training_pass)


def exported(module: Any, case: Case, context: TrainingContext) -> bytes:
    """Return a module as a float file in the case's format."""
    return export_trained(module, case.format, context)[0]


def as_int8(model: bytes, case: Case) -> bytes:
    """Return a float file of the case's format in static int8, calibrated on the case's samples."""
    source = describe(model, case.format, Path("model"))
    context = StepContext(calibration=case.calibration, source=source)
    return app.compression_pass(INT8[case.format])(model, INT8_OPTIONS[case.format], context)


def sparse(report: Report) -> None:
    """Print what polynomial decay to 80 % zeros gives, as a float file, beside cutting without training."""
    context = context_of(load_task(TASK))
    epochs = "2" if report.quick else "30"
    schedule = {"schedule": "polynomial", "final": SPARSITY, "epochs": epochs}
    module, seconds = timed(lambda: trained("train_prune", schedule, context))
    for model_format in ModelFormat:
        case = report.case(demo_case(model_format))
        untrained = app.compression_pass(f"{model_format.value}_prune")
        at_once = untrained(case.source.data, {"share": SPARSITY}, case.context)
        way = "edgepick, polynomial decay"
        rows = [
            Row(way="80 % at once, untrained", model=at_once),
            Row(way=way, model=exported(module, case, context), seconds=seconds),
        ]
        found = table(report, replace(case, name=f"80 % zeros, {case.name}"), rows)
        dense, pruned = found["float32"], found[way]
        zipped = pruned.zipped / dense.zipped
        name = f"80 % zeros, {model_format.value}"
        _judge_loss(report, name, dense, pruned.accuracy or 0.0)
        report.judge(f"{name}: zipped", "<= 1/3", f"{zipped:.3f}", reached=zipped <= MOST_ZIPPED)


def structured(report: Report) -> None:
    """Print what fewer channels and blocks, distillation and int8 give together, beside torch-pruning alone."""
    task = load_task(TASK)
    cases = {each: report.case(demo_case(each)) for each in ModelFormat}
    chosen = _chosen(report, task, cases)
    seeds = range(1 if report.quick else SEEDS)
    contexts = [context_of(task, seed) for seed in seeds]
    parameters = {**chosen, "steps": "1", "epochs": str(2 if report.quick else EPOCHS)}
    modules = [timed(lambda each=each: trained("train_prune_channels", parameters, each)) for each in contexts]
    alone = _alone(task, contexts[0], report)
    for model_format, case in cases.items():
        rows = [
            Row(way=way, model=exported(module, case, contexts[0]), seconds=seconds)
            for way, (module, seconds) in alone.items()
        ]
        ways = [f"edgepick, seed {seed}" for seed in seeds]
        rows += [
            Row(way=way, model=as_int8(exported(module, case, context), case), seconds=seconds)
            for way, (module, seconds), context in zip(ways, modules, contexts, strict=True)
        ]
        found = table(report, replace(case, name=f"fewer channels + distillation + int8, {case.name}"), rows)
        _judge_structured(report, model_format, found["float32"], [found[way] for way in ways])


def _chosen(report: Report, task: Task, cases: Mapping[ModelFormat, Case]) -> Mapping[str, str]:
    """Return the cut that wins on held-out training samples, of those that are small and fast enough."""
    cuts = CUTS[:2] if report.quick else CUTS
    epochs = 1 if report.quick else TRIAL_EPOCHS
    trials = [_tried(cut, task, cases, epochs=epochs) for cut in cuts]
    report.say(f"\nWhich cut? Epochs of training: {epochs}; size and time of the int8 file, to the float one")
    for each in trials:
        words = ", ".join(f"{key} {value}" for key, value in each.cut.items())
        ratios = "; ".join(f"{f.value} {each.sizes[f]:.2f} {each.times[f]:.2f}" for f in cases)
        report.say(f"  {words:<36} {each.held_out:7.2%} of the held-out training samples; size, time: {ratios}")
    report.keep(
        "structured: trials",
        [{"cut": dict(t.cut), "held_out": t.held_out, "sizes": t.sizes, "times": t.times} for t in trials],
    )
    fit_ones = [each for each in trials if each.reaches] or trials
    best = max(fit_ones, key=lambda trial: (trial.held_out, -max(trial.times.values())))
    report.say(f"  chosen: {', '.join(f'{key} {value}' for key, value in best.cut.items())}")
    return best.cut


def _tried(cut: Mapping[str, str], task: Task, cases: Mapping[ModelFormat, Case], *, epochs: int) -> Trial:
    context = context_of(task)
    module = trained("train_prune_channels", {**cut, "steps": "1", "epochs": str(epochs)}, context)
    files = {each: as_int8(exported(module, case, context), case) for each, case in cases.items()}
    return Trial(
        cut=cut,
        held_out=accuracy(module, context.held_out),
        sizes={each: len(file) / len(cases[each].source.data) for each, file in files.items()},
        times={each: latency_ratios(cases[each], [cases[each].source.data, file])[1] for each, file in files.items()},
    )


def _alone(task: Task, context: TrainingContext, report: Report) -> dict[str, tuple[Any, float]]:
    """Return what torch-pruning gives by itself, and trained on the labels as its tutorial does it.

    With as many epochs as ours and at the rates of our trainer: at absolute ones, a network whose scales are folded
    into its weights hardly learns.
    """
    cut, seconds = timed(lambda: torch_pruning_alone(task.module, task.probe, ratio=ALONE_RATIO, round_to=8))
    again = torch_pruning_alone(task.module, task.probe, ratio=ALONE_RATIO, round_to=8)
    plan = Plan(epochs=1 if report.quick else EPOCHS, rate=ALONE_RATE, relative_rate=True, keep_best=True)
    _, training = timed(lambda: fit(again, context, plan, title="labels alone"))
    share = cost(cut, task.probe).macs / cost(task.module, task.probe).macs
    name = f"torch-pruning alone ({share:.0%} of MACs)"
    return {name: (cut, seconds), "the same, fine-tuned on labels": (again, seconds + training)}


def _judge_structured(report: Report, model_format: ModelFormat, dense: Figures, found: list[Figures]) -> None:
    name = f"channels + distillation + int8, {model_format.value}"
    right = [each.accuracy or 0.0 for each in found]
    spread = statistics.stdev(right) if len(right) > 1 else 0.0
    size = max(each.size for each in found) / dense.size
    time = max(each.time_ratio for each in found)
    report.judge(f"{name}: size", f"<= {MOST_SIZE:.0%}", f"{size:.1%}", reached=size <= MOST_SIZE)
    report.judge(f"{name}: time", f"<= {MOST_TIME:.0%}", f"{time:.0%}", reached=time <= MOST_TIME)
    _judge_loss(report, name, dense, statistics.fmean(right), f" +- {spread:.2%} over {len(right)} seeds")


def _judge_loss(report: Report, name: str, dense: Figures, found: float, spread: str = "") -> None:
    lost = (dense.accuracy or 0.0) - found
    text = f"{lost * 100:.2f} points{spread}"
    report.judge(f"{name}: lost", "<= 1 point", text, reached=lost <= MOST_LOST + 1e-9)


PARTS: dict[str, Callable[[Report], None]] = {"sparse": sparse, "structured": structured}


def main() -> None:
    """Print the parts asked for."""
    parser = argparse.ArgumentParser(description="What pruning with training is worth, on the demo's model.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all without any")
    parser.add_argument("--quick", action="store_true", help="few samples, short trainings; nothing is judged")
    options = parser.parse_args()
    report = Report(quick=options.quick)
    for part in options.parts or PARTS:
        PARTS[part](report)
    report.finish()


if __name__ == "__main__":
    main()
