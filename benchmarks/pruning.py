"""What pruning with training is worth, on the demo's model: sparsity in the compressed file, channels in time.

    python benchmarks/pruning.py                 # both, about four minutes on one core
    python benchmarks/pruning.py sparse          # polynomial decay to 80 % zeros
    python benchmarks/pruning.py channels        # whole channels, distillation while training again, int8

Sparsity alone makes no kernel of LiteRT or ONNX Runtime faster as they are run here; the ratios of time say so.
"""

import argparse
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from compression import Case, demo_case, latency_ratios, say

import edgepick_host.demo
from edgepick_host import app
from edgepick_host.compress.source import load_source
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.training.channels import cost
from edgepick_host.compress.training.engine import export_trained, train, training_context
from edgepick_host.compress.training.task import load_task
from edgepick_host.core.variants import Step
from edgepick_wire.manifest import ModelFormat

TASK = Path(edgepick_host.demo.__file__).parent / "task.py"


def step(name: str, **parameters: str) -> Step:
    """Return a step of a recipe."""
    return Step(pass_name=name, parameters=parameters)


SPARSE = step("train_prune", schedule="polynomial", final="0.8")
CHANNELS = step("train_prune_channels", ratio="0.2", round_to="4", depth="0", steps="1", epochs="60")
INT8: Mapping[ModelFormat, Step] = {
    ModelFormat.TFLITE: step("tflite_static_int8"),
    ModelFormat.ONNX: step("onnx_static_qdq"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A compressed model beside the float one.

    Attributes:
        way: How it was made.
        format: Of the files.
        accuracy: On the evaluation set (0..1).
        lost: The float model's accuracy less that (0.01 is one point).
        size_ratio: Of the files.
        zipped_ratio: Of the files after zlib level 9.
        time_ratio: Of the median latencies on one thread in the same runtime.
        macs_ratio: Of the multiplications.
    """

    way: str
    format: ModelFormat
    accuracy: float
    lost: float
    size_ratio: float
    zipped_ratio: float
    time_ratio: float
    macs_ratio: float


def polynomial_pruning() -> list[Finding]:
    """Return what polynomial decay to 80 % zeros gives, as a float file, in both formats."""
    return _findings("80 % zeros, float", SPARSE, {})


def structured_int8() -> list[Finding]:
    """Return what structured pruning, distillation and int8 give together, in both formats."""
    return _findings("channels + distillation + int8", CHANNELS, INT8)


def _findings(way: str, made_by: Step, quantize: Mapping[ModelFormat, Step]) -> list[Finding]:
    task = load_task(TASK)
    context = training_context(task, seed=0, say=lambda _line: None)
    module = train([made_by], context, app.compression.training_pass)
    macs = cost(module, task.probe).macs / cost(task.module, task.probe).macs
    return [
        _finding(way, demo_case(each), _quantized(each, export_trained(module, each, context)[0], quantize), macs)
        for each in (ModelFormat.TFLITE, ModelFormat.ONNX)
    ]


def _quantized(model_format: ModelFormat, model: bytes, quantize: Mapping[ModelFormat, Step]) -> bytes:
    rounding = quantize.get(model_format)
    if rounding is None:
        return model
    return app.compression.compression_pass(rounding.pass_name)(
        model, rounding.parameters, _context_of(model_format, model)
    )


def _context_of(model_format: ModelFormat, model: bytes) -> StepContext:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{model_format.value}"
        path.write_bytes(model)
        facts = load_source(path).facts
    return StepContext(calibration=demo_case(model_format).calibration, source=facts)


def _finding(way: str, case: Case, model: bytes, macs: float) -> Finding:
    dense, found = (_accuracy(case, each) for each in (case.source.data, model))
    sizes = [(len(each), len(zlib.compress(each, 9))) for each in (case.source.data, model)]
    return Finding(
        way=way,
        format=case.format,
        accuracy=found,
        lost=dense - found,
        size_ratio=sizes[1][0] / sizes[0][0],
        zipped_ratio=sizes[1][1] / sizes[0][1],
        time_ratio=latency_ratios(case, [case.source.data, model])[1],
        macs_ratio=macs,
    )


def _accuracy(case: Case, model: bytes) -> float:
    found = case.answers(model)
    return float(np.mean(found.reshape(len(found), -1).argmax(axis=1) == case.evaluation.labels))


def show(findings: list[Finding]) -> None:
    """Print findings, one per line."""
    say(f"{'':<32} {'format':<7} {'accuracy':>9} {'lost':>7} {'bytes':>7} {'zipped':>7} {'time':>6} {'MACs':>6}")
    for each in findings:
        say(
            f"{each.way:<32} {each.format.value:<7} {each.accuracy:9.2%} {each.lost:7.2%} {each.size_ratio:7.3f} "
            f"{each.zipped_ratio:7.3f} {each.time_ratio:6.2f} {each.macs_ratio:6.2f}"
        )


PARTS = {"sparse": polynomial_pruning, "channels": structured_int8}


def main() -> None:
    """Print the parts asked for."""
    parser = argparse.ArgumentParser(description="What pruning with training is worth, on the demo's model.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all without any")
    for part in parser.parse_args().parts or PARTS:
        show(PARTS[part]())


if __name__ == "__main__":
    main()
