"""What training is worth on the demo's model: distillation against labels alone, 4-bit weights with and without it.

    python benchmarks/training.py distill --seeds 5     # a student of 57 % of the weights; 12 minutes on one core
    python benchmarks/training.py qat                   # 4-bit weights, one scale per tensor; 5 minutes

Nothing is chosen by the evaluation set; it is looked at once, at the end. One thread and fixed seeds.
"""

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edgepick_host.app.compression import compression_pass, training_pass
from edgepick_host.compress.dataset import Dataset, FloatArray, load_dataset
from edgepick_host.compress.predictor import open_predictor, predict
from edgepick_host.compress.source import describe
from edgepick_host.compress.step import Range, StepContext
from edgepick_host.compress.training.comparison import PLAN, compare_distillation
from edgepick_host.compress.training.engine import export_trained, float_models, train, training_context
from edgepick_host.compress.training.graph import lower
from edgepick_host.compress.training.qat import FakeQuantized
from edgepick_host.compress.training.samples import Samples, to_module_layout
from edgepick_host.compress.training.task import Task, load_task
from edgepick_host.core.variants import Step
from edgepick_wire.manifest import ModelFormat

DEMO = Path(__file__).resolve().parent.parent / "host_tools" / "edgepick_host" / "demo"
FILE_STEPS = {
    ModelFormat.TFLITE: Step(
        pass_name="tflite_static_int8",  # noqa: S106 - a pass, no password
        parameters={"weight_bits": "4", "weights": "per_tensor", "dense": "per_tensor", "calibration": "minmax"},
    ),
    # ONNX Runtime has no int4 convolution: the weights are on the grid of 4 bits, the file stores 8.
    ModelFormat.ONNX: Step(
        pass_name="onnx_static_qdq",  # noqa: S106 - as above
        parameters={"weights": "per_channel", "layout": "default", "calibration": "minmax"},
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A float model in one format, and the ranges that go with it."""

    data: bytes
    ranges: Mapping[str, Range]


def distill(task: Task, evaluation: Dataset, args: argparse.Namespace) -> None:
    """Print both students' accuracies, seed by seed, and what is left of the teacher's."""
    x = torch.from_numpy(evaluation.arrays["x"].astype(np.float32))
    labels = evaluation.labels
    assert labels is not None
    samples = Samples(x=to_module_layout(x, channels_last=True), y=torch.from_numpy(labels))
    plan = replace(PLAN, epochs=args.epochs or 60)
    found = compare_distillation(
        task, samples, seeds=range(args.seeds), method=args.method, per_class=args.per_class, plan=plan
    )
    share = found.student_parameters / found.teacher_parameters
    print(f"\nteacher {found.teacher:.4f}, {found.teacher_parameters} weights; student {share:.1%} of them")
    for name, accuracies in (("taught", found.taught), ("labels alone", found.alone)):
        values = list(accuracies.values())
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name:<13} {statistics.fmean(values):.4f} +- {spread:.4f} over {len(values)} seeds")
    print(f"kept {found.kept:.1%} of the teacher's; gain {found.gain[0]:+.4f} +- {found.gain[1]:.4f}")


def qat(task: Task, evaluation: Dataset, args: argparse.Namespace) -> None:
    """Print how far the integer files are from the float model, with and without training."""
    calibration = load_dataset(DEMO / "data" / "calibration.npz")
    context = training_context(task, calibration=calibration)
    floats = float_models(task)
    plain = FakeQuantized(lower(task.module, task.probe), bits=4, per_channel=False, learned=False)
    plain.observe(context.calibration)
    starts = {
        "plain": {
            ModelFormat.TFLITE: Start(data=floats[ModelFormat.TFLITE], ranges={}),
            ModelFormat.ONNX: Start(data=export_trained(plain.trained(), ModelFormat.ONNX, context)[0], ranges={}),
        }
    }
    for ranges in ("learned", "observed"):
        parameters = {"weight_bits": "4", "weights": "per_tensor", "ranges": ranges, "epochs": str(args.epochs or 20)}
        name = "train_qat"
        module = train([Step(pass_name=name, parameters=parameters)], context, training_pass)
        exported = {each: export_trained(module, each, context) for each in ModelFormat}
        starts[f"trained, {ranges}"] = {each: Start(data=d, ranges=r) for each, (d, r) in exported.items()}
    for model_format in ModelFormat:
        reference = answers(floats[model_format], model_format, evaluation)
        print(f"\n{model_format.value:<20} {'bytes':>7} {'accuracy':>9} {'agreement':>10} {'mean |diff|':>12}")
        show("float", floats[model_format], reference, reference, evaluation)
        for name, start in starts.items():
            model = quantized(start[model_format], model_format, calibration)
            show(name, model, answers(model, model_format, evaluation), reference, evaluation)


def quantized(start: Start, model_format: ModelFormat, calibration: Dataset) -> bytes:
    """Return the integer file."""
    step = FILE_STEPS[model_format]
    source = describe(start.data, model_format, Path("model"))
    context = StepContext(calibration=calibration, source=source, ranges=start.ranges)
    return compression_pass(step.pass_name)(start.data, step.parameters, context)


def answers(model: bytes, model_format: ModelFormat, evaluation: Dataset) -> FloatArray:
    """Return a file's answers to the evaluation set; inputs are given as real numbers, whatever the file takes."""
    inputs = [replace(each, dtype="float32") for each in describe(model, model_format, Path("model")).inputs]
    return predict(open_predictor(model, model_format, exact=True), evaluation, inputs)


def show(name: str, model: bytes, found: FloatArray, reference: FloatArray, evaluation: Dataset) -> None:
    """Print one line of figures."""
    right = float(np.mean(found.argmax(1) == evaluation.labels))
    same = float(np.mean(found.argmax(1) == reference.argmax(1)))
    print(
        f"{name:<20} {len(model):>7} {right:>9.4f} {same:>10.4f} {np.abs(found - reference).mean():>12.5f}", flush=True
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="What training is worth on the demo's model.")
    parser.add_argument("what", choices=("distill", "qat"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", default="response")
    parser.add_argument("--per-class", type=int, default=30, help="labelled samples of each class; 0 for all")
    parser.add_argument("--epochs", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task, evaluation = load_task(DEMO / "task.py"), load_dataset(DEMO / "data" / "evaluation.npz")
    {"distill": distill, "qat": qat}[args.what](task, evaluation, args)


if __name__ == "__main__":
    main()
