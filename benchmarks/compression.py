"""``make bench-compression``: what our compression is worth, beside the tools that a user would take instead.

    make bench-compression                                   # the demo's model
    EDGEPICK_BENCH_DATA=folder make bench-compression        # and the models and images of that folder
    python benchmarks/compression.py int8 pruning --json     # parts of it, as JSON
    python benchmarks/compression.py int8 --model my.onnx --calibration c.npz --evaluation e.npz

Everything runs on this machine in one go, and ends with a table of what was to be reached and what was found. No
setting is chosen by the evaluation set: quantizers see the calibration samples alone, and where settings of a training
are compared, a held-out share of the training data decides. What that means in detail: docs/adr/0044.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cases import DEMO, Case, as_onnx, bench_data, demo_case, published_cases, resnet_case, user_case
from fidelity import Figures, Report, Row, table, taken
from rivals import aeq_defaults, nncf_defaults, ort_defaults

from edgepick_host import app
from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.coreset import CoresetMethod, calibration_coreset
from edgepick_profiles.load import profile_files
from edgepick_wire.manifest import ModelFormat

FEW = 32
"""Samples of a coreset."""
PUBLISHED = "published int8 file"
OURS = "edgepick, auto"
LEAST_ACCURACY = 0.77
FIRST_SECONDS, SECOND_SECONDS = 300.0, 5.0
MAX_LSB = 1

Part = Callable[[Report], None]


def ours(case: Case, pass_name: str, **parameters: str) -> bytes:
    """Return the model after one of our passes."""
    return app.compression_pass(pass_name)(case.source.data, parameters, case.context)


def int8_rows(case: Case) -> list[Row]:
    """Return int8 by other tools, by our plain recipe and by our automatic one."""
    if case.format is ModelFormat.TFLITE:
        return [
            taken("ai-edge-quantizer, its defaults", lambda: aeq_defaults(case)),
            taken("edgepick, min-max", lambda: ours(case, "tflite_static_int8")),
            taken(OURS, lambda: ours(case, "tflite_static_int8", calibration="auto")),
        ]
    found = [
        taken("ONNX Runtime, its defaults", lambda: ort_defaults(case)),
        taken("NNCF, its defaults", lambda: nncf_defaults(case)),
        taken("edgepick, min-max", lambda: ours(case, "onnx_static_qdq")),
        taken(OURS, lambda: ours(case, "onnx_static_qdq", calibration="auto")),
    ]
    unsigned = "edgepick, auto, uint8 (for x86)"
    return [*found, taken(unsigned, lambda: ours(case, "onnx_static_qdq", calibration="auto", activations="uint8"))]


def int8(report: Report) -> None:
    """Print int8 by every tool, on the demo's model and on every published one."""
    for model_format in ModelFormat:
        case = report.case(demo_case(model_format))
        _judge_against_defaults(report, case, table(report, case, int8_rows(case)))
    folder = bench_data()
    if folder is None:
        _left_out(report, "the published models")
        return
    reference: Figures | None = None
    for published in published_cases(folder):
        case = report.case(published)
        known = [Row(way=PUBLISHED, model=_reference_of(folder))] if _is_resnet_file(case) else []
        found = table(report, case, [*known, *int8_rows(case)])
        _judge_against_defaults(report, case, found)
        reference = found.get(PUBLISHED, reference)
        if reference is not None and "ResNet8" in case.name:
            _judge_resnet(report, case, found[OURS], reference)


def _is_resnet_file(case: Case) -> bool:
    return "ResNet8" in case.name and case.format is ModelFormat.TFLITE


def _reference_of(folder: Path) -> bytes:
    return (folder / "mlperf_tiny/resnet8_int8_reference.tflite").read_bytes()


def _left_out(report: Report, what: str) -> None:
    report.say(f"\nEDGEPICK_BENCH_DATA names no folder of published models: {what} are left out")


def _judge_against_defaults(report: Report, case: Case, found: dict[str, Figures]) -> None:
    """Note for each rival whether the automatic recipe is nearer to the float model, by error and by divergence."""
    mine = found[OURS]
    for way, rival in found.items():
        if not way.endswith("defaults"):
            continue
        tool = way.partition(",")[0]
        for what, ours_, theirs in (("|error|", mine.error, rival.error), ("KL", mine.divergence, rival.divergence)):
            if ours_ is not None and theirs is not None:
                name = f"{case.title}: mean {what} below {tool}'s"
                report.judge(name, f"< {theirs:.4f}", f"{ours_:.4f}", reached=ours_ < theirs)


def _judge_resnet(report: Report, case: Case, found: Figures, published: Figures) -> None:
    """Note the issue's figures: nearer to the float model than the published file, and accurate enough."""
    name = f"ResNet8 int8 {case.format.value}"
    least, most = published.agreement or 0.0, published.divergence or 0.0
    agreed, diverged, right = found.agreement or 0.0, found.divergence or 0.0, found.accuracy or 0.0
    report.judge(f"{name}: agreement", f"> {least:.2%}", f"{agreed:.2%}", reached=agreed > least)
    report.judge(
        f"{name}: mean |error|", f"< {published.error:.4f}", f"{found.error:.4f}", reached=found.error < published.error
    )
    report.judge(f"{name}: mean KL", f"< {most:.4f}", f"{diverged:.4f}", reached=diverged < most)
    report.judge(f"{name}: accuracy", f">= {LEAST_ACCURACY:.1%}", f"{right:.2%}", reached=right >= LEAST_ACCURACY)


def own(case: Case) -> Part:
    """Return the int8 part for a model of the caller's."""

    def part(report: Report) -> None:
        _judge_against_defaults(report, case, table(report, case, int8_rows(case)))

    return part


def coreset(report: Report) -> None:
    """Print int8 calibrated on 32 samples, chosen in every way, beside all 256."""
    folder = bench_data()
    if folder is None:
        _left_out(report, "coresets")
        return
    for whole in (resnet_case(folder), as_onnx(resnet_case(folder))):
        case = report.case(whole)
        few = {"the first 32": case.calibration.subset(range(FEW))}
        few |= {
            f"{FEW} by {m.value}": calibration_coreset(case.calibration, case.source, FEW, m) for m in CoresetMethod
        }
        everything = f"all {len(case.calibration)}"
        rows = [taken(everything, lambda case=case: _auto(case))]
        small = {way: replace(case, calibration=samples) for way, samples in few.items()}
        rows += [taken(way, lambda each=each: _auto(each)) for way, each in small.items()]
        found = table(report, case, rows)
        chosen, full = (found[way].accuracy or 0.0 for way in (f"{FEW} by {CoresetMethod.K_MEANS.value}", everything))
        name = f"ResNet8 int8 {case.format.value}: {FEW} chosen (the default, k-means)"
        report.judge(name, f">= {full:.2%} - 0.3", f"{chosen:.2%}", reached=chosen >= full - 0.003 - 1e-9)


def _auto(case: Case) -> bytes:
    name = "tflite_static_int8" if case.format is ModelFormat.TFLITE else "onnx_static_qdq"
    return ours(case, name, calibration="auto")


def microcontroller(report: Report) -> None:
    """Print the arena that tflite-micro itself needs for our int8 files."""
    report.say("\nMicrocontroller: the arena that tflite-micro records, and units in the last place off LiteRT's")
    report.say("reference kernels")
    folder = bench_data()
    known = [each for each in published_cases(folder) if each.format is ModelFormat.TFLITE] if folder else []
    rows: list[dict[str, object]] = []
    for case in (demo_case(ModelFormat.TFLITE), *known):
        model = ours(case, "tflite_static_int8")
        arena = measure_arena(model, case.evaluation.subset(range(8)), case.source.facts.inputs)
        off = arena.failure or f"{arena.max_lsb} off"
        report.say(f"  {case.name:<32} {arena.recorded_bytes:8,} recorded, runs in {arena.arena_bytes:8,}, {off}")
        rows.append({"model": case.name, "recorded": arena.recorded_bytes, "arena": arena.arena_bytes, "off": off})
        most = MAX_LSB if case.classifies else 3
        within = not arena.failure and arena.max_lsb <= most
        report.judge(f"{case.name}: tflite-micro's answers", f"<= {most} units off", off, reached=within)
    report.keep("microcontroller", rows)


def search(report: Report) -> None:
    """Print how long the search takes for every shipped profile, again with all known, and after being killed."""
    names = [name for profile in profile_files() for name in ("--profile", profile)]
    report.say(f"\nSearch on the demo model for {len(names) // 2} profiles, without torch:")
    with tempfile.TemporaryDirectory() as folder:
        command = _search_command(folder, names)
        seconds = [_timed(report, run, [*command, "--out", f"{folder}/{run}"]) for run in ("first", "second")]
        fresh = [*_search_command(f"{folder}/killed", names), "--out", f"{folder}/killed/out"]
        _kill_after(fresh, seconds[0][0] / 2)
        report.say(f"  killed after {seconds[0][0] / 2:.0f} s")
        resumed, again = _timed(report, "resumed", fresh)
    report.keep("search", [{"first": seconds[0][0], "second": seconds[1][0], "resumed": resumed}])
    for (took, _), most, run in zip(seconds, (FIRST_SECONDS, SECOND_SECONDS), ("first", "second"), strict=True):
        report.judge(f"search: {run} run", f"< {most:.0f} s", f"{took:.1f} s", reached=took < most)
    goes_on = again["remembered"] > 0 and again["variants"] == seconds[0][1]["variants"]
    report.judge(
        "search: a killed run goes on", "some work remembered", f"{again['remembered']} of it", reached=goes_on
    )


def _search_command(folder: str, names: Sequence[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "edgepick_host", "compress"),
        *(str(DEMO / "digits.tflite"), str(DEMO / "digits.onnx")),
        *("--calibration", str(DEMO / "calibration.npz"), "--evaluation", str(DEMO / "evaluation.npz")),
        *("--cache", f"{folder}/cache", "--json", *names),
    ]


def _timed(report: Report, run: str, command: list[str]) -> tuple[float, dict[str, int]]:
    """Run a search; return its seconds, how many variants it kept and how much of its work was known."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    kept = len(json.loads(done.stdout)["variants"])
    record = json.loads((Path(command[command.index("--out") + 1]) / "search.json").read_text(encoding="utf-8"))
    known = {"variants": kept, "remembered": record["remembered"], "computed": record["computed"]}
    work = f"{known['computed']} pieces of work computed, {known['remembered']} remembered"
    report.say(f"  {run:<7} run {seconds:6.1f} s, {kept} variants; {work}")
    return seconds, known


def _kill_after(command: list[str], seconds: float) -> None:
    """Start a search and kill it, its workers too, without a chance to tidy up."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def pruning(report: Report) -> None:
    """Print what pruning with training is worth."""
    from pruning import sparse, structured

    sparse(report)
    structured(report)


def qat(report: Report) -> None:
    """Print what quantization-aware training recovers."""
    from training import recovery

    recovery(report)


def distillation(report: Report) -> None:
    """Print what a teacher is worth."""
    from training import distillation as work

    work(report)


PARTS: dict[str, Part] = {
    "int8": int8,
    "coreset": coreset,
    "microcontroller": microcontroller,
    "search": search,
    "pruning": pruning,
    "qat": qat,
    "distillation": distillation,
}


def machine() -> dict[str, str]:
    """Return what the figures are taken on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    tools = ("ai-edge-quantizer", "ai-edge-litert", "onnxruntime", "nncf", "torch", "torch-pruning", "litert-torch")
    return {
        "cpu": f"{cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} cores",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "load before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "tools": ", ".join(f"{tool} {_version(tool)}" for tool in tools),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmark of the compression.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--part", action="append", default=[], metavar="PART", help="the same, as an option")
    parser.add_argument("--quick", action="store_true", help="few samples, short trainings; nothing is judged")
    parser.add_argument("--json", action="store_true", help="tables and targets as one JSON document")
    parser.add_argument("--model", type=Path, help="a .tflite or .onnx file of yours, for the part int8")
    parser.add_argument("--calibration", type=Path, help="its samples to calibrate on, .npz")
    parser.add_argument("--evaluation", type=Path, help="its samples to evaluate on, .npz")
    options = parser.parse_args()
    options.parts = [*options.parts, *options.part] or list(PARTS)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if options.model and not (options.calibration and options.evaluation):
        parser.error("--model needs --calibration and --evaluation")
    return options


def main() -> None:
    """Run everything, or a part of it; targets that are missed are said, and are no error."""
    options = _options()
    report = Report(quick=options.quick, as_json=options.json, facts=machine())
    for name, fact in report.facts.items():
        report.say(f"{name}: {fact}")
    work = {part: PARTS[part] for part in options.parts}
    if options.model:
        work = {"int8": own(report.case(user_case(options.model, options.calibration, options.evaluation)))}
    for name, part in work.items():
        began = time.perf_counter()
        part(report)
        report.say(f"({name}: {time.perf_counter() - began:.0f} s)")
    report.finish()


if __name__ == "__main__":
    main()
