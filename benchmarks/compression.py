"""``make bench-compression``: what our compression is worth, beside the tools that a user would take instead.

    make bench-compression                                   # the demo's model
    EDGEPICK_BENCH_DATA=folder make bench-compression        # and the models and images of that folder
    python benchmarks/compression.py int8 pruning            # parts of it

Everything runs on this machine in one go. Fidelity is measured against the float model on the evaluation set: the
share of equal answers, the mean absolute error of a probability, and the mean KL divergence in nats. Latency is the
median of single inferences on one thread, each model in turn, as a ratio to the float model in the same runtime.
Nothing is tuned on the evaluation set: each way sees the calibration samples alone.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import edgepick_host.demo
from edgepick_host import app
from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.coreset import CoresetMethod, calibration_coreset
from edgepick_host.compress.dataset import Dataset, load_dataset
from edgepick_host.compress.predictor import open_predictor, predict
from edgepick_host.compress.quiet import quiet
from edgepick_host.compress.source import SourceModel, load_source
from edgepick_host.compress.step import StepContext
from edgepick_profiles.load import profile_files
from edgepick_wire.manifest import ModelFormat

DEMO = Path(edgepick_host.demo.__file__).parent / "data"
FEW = 32
"""Samples of a coreset."""
ROUNDS = 7
RUNS = 40
"""Single inferences per model and round; models take turns, so that a busy moment hits all of them."""


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A float model, and the data to calibrate and evaluate on."""

    name: str
    source: SourceModel
    calibration: Dataset
    evaluation: Dataset

    @property
    def format(self) -> ModelFormat:
        """The model's format."""
        return self.source.facts.format

    @property
    def context(self) -> StepContext:
        """What a pass sees."""
        return StepContext(calibration=self.calibration, source=self.source.facts)

    def answers(self, model: bytes) -> np.ndarray:
        """Return the model's answers on the evaluation set, ``[N, ...]``."""
        return predict(open_predictor(model, self.format, exact=True), self.evaluation, self.source.facts.inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one way of compressing gave."""

    way: str
    model: bytes
    seconds: float


def taken(way: str, work: Callable[[], bytes]) -> Row:
    """Return what ``work`` made, and how long it took."""
    began = time.perf_counter()
    with quiet():
        model = work()
    return Row(way=way, model=model, seconds=time.perf_counter() - began)


def latency_ratios(case: Case, models: Iterable[bytes]) -> list[float]:
    """Return each model's median latency over the first one's; the models take turns."""
    sample = next(case.evaluation.samples(case.source.facts.inputs))
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
    p, q = (np.clip(each.reshape(len(each), -1).astype(np.float64), 1e-8, None) for each in (reference, found))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return float(np.mean(np.sum(p * np.log(p / q), axis=1)))


def table(case: Case, rows: list[Row]) -> None:
    """Print what each way gave, the float model first."""
    rows = [Row(way="float32", model=case.source.data, seconds=0.0), *rows]
    reference = case.answers(case.source.data)
    labels = case.evaluation.labels
    ratios = latency_ratios(case, [row.model for row in rows])
    say(f"\n{case.name}, {case.format.value}; {len(case.calibration)} samples to calibrate, {len(labels)} to evaluate")
    heads = f"{'accuracy':>9} {'agreed':>8} {'|error|':>8} {'KL':>8} {'bytes':>9} {'zipped':>9} {'time':>6} {'s':>6}"
    say(f"  {'':<34} {heads}")
    for row, ratio in zip(rows, ratios, strict=True):
        found = case.answers(row.model)
        answer = found.reshape(len(found), -1).argmax(axis=1)
        agreed = np.mean(answer == reference.reshape(len(found), -1).argmax(axis=1))
        say(
            f"  {row.way:<34} {np.mean(answer == labels):9.2%} {agreed:8.2%} {np.abs(found - reference).mean():8.4f} "
            f"{divergence(found, reference):8.4f} {len(row.model):9,} {len(zlib.compress(row.model, 9)):9,} "
            f"{ratio:6.2f} {row.seconds:6.1f}"
        )


# --- other tools, as their documentation begins ----------------------------------------------------


def aeq_defaults(case: Case) -> bytes:
    """Return ai-edge-quantizer's own static int8 recipe, calibrated by its own calibration."""
    from ai_edge_quantizer import quantizer, recipe

    engine = quantizer.Quantizer(bytearray(case.source.data))
    engine.load_quantization_recipe(recipe.static_wi8_ai8())
    name = case.source.facts.inputs[0].name
    samples = [{name: sample[0]} for sample in case.calibration.samples(case.source.facts.inputs)]
    ranges = engine.calibrate({"serving_default": samples})
    return bytes(engine.quantize(ranges, enable_progress_report=False).quantized_model)


def ort_defaults(case: Case) -> bytes:
    """Return ONNX Runtime's ``quantize_static`` with its defaults."""
    from onnxruntime import quantization

    name = case.source.facts.inputs[0].name
    samples = iter([{name: sample[0]} for sample in case.calibration.samples(case.source.facts.inputs)])

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(samples, None)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        source.write_bytes(case.source.data)
        quantization.quantize_static(source, target, Reader())
        return target.read_bytes()


def nncf_defaults(case: Case) -> bytes:
    """Return NNCF's ``quantize`` with its defaults (fast bias correction, statistics of up to 300 samples)."""
    import nncf
    import onnx

    name = case.source.facts.inputs[0].name
    samples = [{name: sample[0]} for sample in case.calibration.samples(case.source.facts.inputs)]
    model = nncf.quantize(onnx.load_model_from_string(case.source.data), nncf.Dataset(samples))
    return bytes(model.SerializeToString())


# --- parts -----------------------------------------------------------------------------------------


def ours(case: Case, pass_name: str, **parameters: str) -> bytes:
    """Return the model after one of our passes."""
    return app.compression_pass(pass_name)(case.source.data, parameters, case.context)


def bench_data() -> Path | None:
    """Return the folder of published models and images, where there is one."""
    folder = os.environ.get("EDGEPICK_BENCH_DATA")
    return Path(folder) if folder else None


def demo_case(model_format: ModelFormat) -> Case:
    """Return the demo's model in a format."""
    return Case(
        name="demo model (digits)",
        source=load_source(DEMO / f"digits.{model_format.value}"),
        calibration=load_dataset(DEMO / "calibration.npz"),
        evaluation=load_dataset(DEMO / "evaluation.npz"),
    )


def resnet_case(folder: Path) -> Case:
    """Return MLPerf Tiny's ResNet8 on CIFAR-10."""
    return Case(
        name="MLPerf Tiny ResNet8 (CIFAR-10)",
        source=load_source(folder / "mlperf_tiny/resnet8_float.tflite"),
        calibration=load_dataset(folder / "cifar10/calibration_256.npz"),
        evaluation=load_dataset(folder / "cifar10/evaluation_2000.npz"),
    )


def resnet_onnx_case(folder: Path) -> Case:
    """Return the same network as ONNX, converted weight by weight from the published file."""
    from tflite_to_onnx import converted

    published = resnet_case(folder)
    place = Path(tempfile.mkdtemp()) / "resnet8.onnx"
    place.write_bytes(converted(published.source.data))
    return Case(
        name=published.name,
        source=load_source(place),
        calibration=published.calibration,
        evaluation=published.evaluation,
    )


def int8_rows(case: Case) -> list[Row]:
    """Return int8 by other tools, by our plain recipe and by our automatic one."""
    if case.format is ModelFormat.TFLITE:
        return [
            taken("ai-edge-quantizer, its defaults", lambda: aeq_defaults(case)),
            taken("edgepick, min-max", lambda: ours(case, "tflite_static_int8")),
            taken("edgepick, auto", lambda: ours(case, "tflite_static_int8", calibration="auto")),
        ]
    return [
        taken("ONNX Runtime, its defaults", lambda: ort_defaults(case)),
        taken("NNCF, its defaults", lambda: nncf_defaults(case)),
        taken("edgepick, min-max", lambda: ours(case, "onnx_static_qdq")),
        taken("edgepick, auto", lambda: ours(case, "onnx_static_qdq", calibration="auto")),
    ]


def int8() -> None:
    """Print int8 by every tool, on the demo's model and on ResNet8."""
    for model_format in ModelFormat:
        case = demo_case(model_format)
        table(case, int8_rows(case))
    folder = bench_data()
    if folder is None:
        say("\nEDGEPICK_BENCH_DATA names no folder of published models: ResNet8 is left out")
        return
    case = resnet_case(folder)
    published = (folder / "mlperf_tiny/resnet8_int8_reference.tflite").read_bytes()
    table(case, [Row(way="published int8 file", model=published, seconds=0.0), *int8_rows(case)])
    case = resnet_onnx_case(folder)
    table(case, int8_rows(case))


def coreset() -> None:
    """Print int8 calibrated on 32 samples, chosen in every way, beside all 256."""
    folder = bench_data()
    if folder is None:
        say("\nEDGEPICK_BENCH_DATA names no folder of published models: the coreset part is left out")
        return
    case = resnet_case(folder)
    few = {"the first 32": case.calibration.subset(range(FEW))}
    few |= {f"{FEW} by {m.value}": calibration_coreset(case.calibration, case.source, FEW, m) for m in CoresetMethod}
    rows = [taken(f"all {len(case.calibration)}", lambda: ours(case, "tflite_static_int8", calibration="auto"))]
    for name, samples in few.items():
        small = replace(case, calibration=samples)
        rows.append(taken(name, lambda small=small: ours(small, "tflite_static_int8", calibration="auto")))
    table(case, rows)


def search() -> None:
    """Print how long the search takes for every shipped profile at once, and again with everything cached."""
    names = [name for profile in profile_files() for name in ("--profile", profile)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "edgepick_host", "compress"),
            *(str(DEMO / "digits.tflite"), str(DEMO / "digits.onnx")),
            *("--calibration", str(DEMO / "calibration.npz"), "--evaluation", str(DEMO / "evaluation.npz")),
            *("--out", f"{folder}/out", "--cache", f"{folder}/cache", "--json", *names),
        ]
        say(f"\nSearch on the demo model for {len(names) // 2} profiles, without torch:")
        for run in ("first", "second"):
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = json.loads(done.stdout)
            kept = len(found["variants"])
            say(f"  {run:<7} run {time.perf_counter() - began:6.1f} s, {kept} variants (exit code {done.returncode})")


def microcontroller() -> None:
    """Print the arena that tflite-micro itself needs for our int8 files."""
    say("\nMicrocontroller: bytes that tflite-micro records for the arena, and steps off LiteRT's reference kernels")
    folder = bench_data()
    cases = [demo_case(ModelFormat.TFLITE), *([resnet_case(folder)] if folder else [])]
    for case in cases:
        model = ours(case, "tflite_static_int8")
        arena = measure_arena(model, case.evaluation.subset(range(8)), case.source.facts.inputs)
        say(
            f"  {case.name:<32} {arena.recorded_bytes:8,} recorded, runs in {arena.arena_bytes:8,}, {arena.max_lsb} off"
        )


def beside(script: str, *arguments: str) -> Callable[[], None]:
    """Return a part that is another benchmark of this folder."""

    def part() -> None:
        subprocess.run([sys.executable, str(Path(__file__).with_name(script)), *arguments], check=True)

    return part


def machine() -> None:
    """Print what the figures were taken on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    say(f"{cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}")
    say(f"Python {platform.python_version()}; load before: {load} (other work makes times larger and noisier)")
    tools = ("ai-edge-quantizer", "ai-edge-litert", "onnxruntime", "nncf", "torch", "torch-pruning")
    say(", ".join(f"{tool} {_version(tool)}" for tool in tools))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


PARTS: dict[str, Callable[[], None]] = {
    "int8": int8,
    "coreset": coreset,
    "microcontroller": microcontroller,
    "search": search,
    "pruning": beside("pruning.py"),
    "qat": beside("training.py", "qat"),
    "distillation": beside("training.py", "distill", "--seeds", "3"),
}


def main() -> None:
    """Run everything, or a part of it."""
    parser = argparse.ArgumentParser(description="Benchmark of the compression.")
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all by default")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        sys.exit(f"error: no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    machine()
    for part in options.parts or PARTS:
        began = time.perf_counter()
        PARTS[part]()
        say(f"({part}: {time.perf_counter() - began:.0f} s)")


if __name__ == "__main__":
    main()
