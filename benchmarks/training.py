"""What training is worth: 4-bit weights with and without it, and a student with and without its teacher.

    python benchmarks/training.py qat
    python benchmarks/training.py distillation --seeds 5

Settings are the passes' defaults; the evaluation set is looked at once, at the end. One thread and fixed seeds.

**qat**: weights with one scale per tensor, plain (every weight to its nearest integer, ranges by min-max) and trained.
The demo's network loses no accuracy at 4 bits, so the loss is taken from the mean absolute error of the answers there,
and from accuracy at the most bits that lose a point or more of it: fewer than 4 are stored in the integers of 8, on
their coarser grid. Where published data are there, MLPerf Tiny's ResNet8 is trained too, on 5000 images.
**distillation**: both students have the same labelled images, first weights, augmentation, epochs and rates.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from cases import Case, as_onnx, bench_data, demo_case, resnet_case
from fidelity import Figures, Report, Row, table, timed

import edgepick_host.demo
from edgepick_host.app.compression import compression_pass
from edgepick_host.compress.passes.train_qat import trained_on_grids
from edgepick_host.compress.source import describe
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.training.comparison import PLAN, compare_distillation
from edgepick_host.compress.training.engine import export_trained, training_context
from edgepick_host.compress.training.graph import lower
from edgepick_host.compress.training.qat import FakeQuantized
from edgepick_host.compress.training.ranged import RangedModule
from edgepick_host.compress.training.samples import Samples, to_module_layout
from edgepick_host.compress.training.step import TrainingContext
from edgepick_host.compress.training.task import Task, load_task
from edgepick_host.core.variants import Step
from edgepick_wire.manifest import ModelFormat

DEMO_TASK = Path(edgepick_host.demo.__file__).parent / "task.py"
RESNET_TASK = Path(__file__).with_name("resnet8_task.py")
EPOCHS, RESNET_EPOCHS = 20, 8
NARROW = 4
BITS = (4, 3, 2)
LEAST_LOSS = 0.01
STUDENT_EPOCHS, PER_CLASS = 60, 30
MOST_PARAMETERS, LEAST_KEPT = 0.60, 0.97
LEARNED, OBSERVED = "trained, learned ranges", "trained, observed ranges"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network to train for integers.

    Attributes:
        cases: Its float files.
        epochs: Of a training.
    """

    name: str
    task: Task
    context: TrainingContext
    cases: Mapping[ModelFormat, Case]
    epochs: int


def recovery(report: Report) -> None:
    """Print how far the integer files are from the float model, plain and trained."""
    subjects = [_demo(report)]
    folder = bench_data()
    if folder is not None:
        subjects.append(_resnet(report, folder))
    for subject in subjects:
        found = {bits: _at(report, subject, bits) for bits in (BITS if subject is subjects[0] else (NARROW,))}
        for model_format in subject.cases:
            _judge_error(report, f"QAT, {subject.name}, {model_format.value}", found[NARROW][model_format])
            by_bits = {bits: each[model_format] for bits, each in found.items()}
            _judge_accuracy(report, f"QAT, {subject.name}, {model_format.value}", by_bits)


def _demo(report: Report) -> Subject:
    task = load_task(DEMO_TASK)
    cases = {each: report.case(demo_case(each)) for each in ModelFormat}
    return Subject(name="demo model", task=task, context=_context(task, cases), cases=cases, epochs=EPOCHS)


def _resnet(report: Report, folder: Path) -> Subject:
    task, case = load_task(RESNET_TASK), resnet_case(folder)
    cases = {each.format: report.case(each) for each in (case, as_onnx(case))}
    return Subject(name="ResNet8", task=task, context=_context(task, cases), cases=cases, epochs=RESNET_EPOCHS)


def _context(task: Task, cases: Mapping[ModelFormat, Case]) -> TrainingContext:
    calibration = next(iter(cases.values())).calibration
    return training_context(task, calibration=calibration, say=lambda _line: None)


def _at(report: Report, subject: Subject, bits: int) -> dict[ModelFormat, dict[str, Figures]]:
    """Return figures by format and way, for weights of so many bits with one scale per tensor."""
    epochs = 1 if report.quick else subject.epochs
    ways = {"plain": lambda: _plain(subject, bits), LEARNED: lambda: _trained(subject, bits, epochs, learned=True)}
    if bits == NARROW and subject.name == "demo model":
        ways[OBSERVED] = lambda: _trained(subject, bits, epochs, learned=False)
    modules = {way: timed(work) for way, work in ways.items()}
    found: dict[ModelFormat, dict[str, Figures]] = {}
    for model_format, case in subject.cases.items():
        rows = [
            Row(way=way, model=_integers(module, subject, case, bits), seconds=seconds)
            for way, (module, seconds) in modules.items()
        ]
        found[model_format] = table(report, replace(case, name=f"{bits}-bit weights per tensor, {case.name}"), rows)
    return found


def _plain(subject: Subject, bits: int) -> RangedModule:
    """Return the network with every weight on its nearest grid point, as a quantizer without training leaves it."""
    graph = lower(subject.task.module, subject.task.probe)
    fake = FakeQuantized(graph, bits=bits, per_channel=False, learned=False)
    fake.observe(subject.context.calibration)
    return fake.trained()


def _trained(subject: Subject, bits: int, epochs: int, *, learned: bool) -> RangedModule:
    return trained_on_grids(
        subject.task.module, subject.context, bits=bits, per_channel=False, learned=learned, epochs=epochs
    )


def _integers(module: RangedModule, subject: Subject, case: Case, bits: int) -> bytes:
    """Return the integer file of a module whose weights are on their grids."""
    data, ranges = export_trained(module, case.format, subject.context)
    step = _file_step(case.format, bits)
    context = StepContext(
        calibration=case.calibration, source=describe(data, case.format, Path("model")), ranges=ranges
    )
    return compression_pass(step.pass_name)(data, step.parameters, context)


def _file_step(model_format: ModelFormat, bits: int) -> Step:
    """Return the step that stores the weights: in 4 bits where there is a kernel for it, else on the grid of 8."""
    if model_format is ModelFormat.TFLITE and bits == NARROW:
        parameters = {"weight_bits": "4", "weights": "per_tensor", "dense": "per_tensor", "calibration": "minmax"}
        return Step(pass_name="tflite_static_int8", parameters=parameters)  # noqa: S106 - a pass, no password
    name = "tflite_static_int8" if model_format is ModelFormat.TFLITE else "onnx_static_qdq"
    return Step(pass_name=name, parameters={"weights": "per_channel", "calibration": "minmax"})


def _judge_error(report: Report, name: str, found: Mapping[str, Figures]) -> None:
    plain, trained = found["plain"].error, found[LEARNED].error
    wanted = f"half of {plain:.4f}"
    report.judge(f"{name}: 4 bits, mean |error|", wanted, f"{trained:.4f}", reached=trained <= plain / 2)


def _judge_accuracy(report: Report, name: str, by_bits: Mapping[int, Mapping[str, Figures]]) -> None:
    """Note what is recovered at the most bits that lose a point."""
    for bits, found in sorted(by_bits.items(), reverse=True):
        dense, plain, trained = (found[way].accuracy or 0.0 for way in ("float32", "plain", LEARNED))
        if dense - plain >= LEAST_LOSS:
            share = (trained - plain) / (dense - plain)
            text = f"{share:.0%} (float {dense:.1%}, plain {plain:.1%}, trained {trained:.1%})"
            report.judge(f"{name}: {bits} bits, lost accuracy recovered", ">= 50 %", text, reached=share >= 0.5)
            return
    report.say(f"{name}: no number of bits tried loses a point of accuracy")


def distillation(report: Report, *, seeds: int = 3, method: str = "response", per_class: int = PER_CLASS) -> None:
    """Print both students' accuracies over seeds, and what is left of the teacher's."""
    task, case = load_task(DEMO_TASK), demo_case(ModelFormat.TFLITE)
    x = torch.from_numpy(case.evaluation.arrays["x"].astype(np.float32))
    assert case.evaluation.labels is not None
    samples = Samples(x=to_module_layout(x, channels_last=True), y=torch.from_numpy(case.evaluation.labels))
    plan = replace(PLAN, epochs=1 if report.quick else STUDENT_EPOCHS)
    found = compare_distillation(
        task,
        samples,
        seeds=range(1 if report.quick else seeds),
        method=method,
        per_class=per_class,
        plan=plan,
        say=lambda line: report.say(f"  {line}") if line.startswith("seed") else None,
    )
    share = found.student_parameters / found.teacher_parameters
    report.say(f"\nDistillation ({method}), demo model: {found.labelled} labelled images, {plan.epochs} epochs")
    report.say(
        f"  {'teacher':<22} {found.teacher:.2%}, {found.teacher_parameters:,} weights; student {share:.1%} of them"
    )
    rows: list[dict[str, object]] = [{"way": "teacher", "mean": found.teacher}]
    for name, accuracies in (("student, taught", found.taught), ("student, labels alone", found.alone)):
        values = list(accuracies.values())
        rows.append({"way": name, "mean": statistics.fmean(values), "seeds": values})
        report.say(f"  {name:<22} {statistics.fmean(values):.2%} +- {_spread(values):.2%} over {len(values)} seeds")
    report.keep("distillation", rows)
    gain, spread = found.gain
    report.judge("distillation: weights of the student", "<= 60 %", f"{share:.1%}", reached=share <= MOST_PARAMETERS)
    report.judge(
        "distillation: of the teacher's accuracy", ">= 97 %", f"{found.kept:.1%}", reached=found.kept >= LEAST_KEPT
    )
    report.judge(
        "distillation: gain over labels alone",
        "> 0 points",
        f"{gain * 100:.2f} +- {spread * 100:.2f}",
        reached=gain > 0,
    )


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="What training is worth.")
    parser.add_argument("what", choices=("qat", "distillation"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", default="response")
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="labelled samples of each class; 0 for all")
    parser.add_argument("--quick", action="store_true", help="few samples, short trainings; nothing is judged")
    options = parser.parse_args()
    report = Report(quick=options.quick)
    parts: dict[str, Callable[[], None]] = {
        "qat": lambda: recovery(report),
        "distillation": lambda: distillation(
            report, seeds=options.seeds, method=options.method, per_class=options.per_class
        ),
    }
    parts[options.what]()
    report.finish()


if __name__ == "__main__":
    main()
