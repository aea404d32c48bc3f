"""``measure`` in a real process: what a measurement holds, and how each failure is told."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edgepick_agent import app
from edgepick_agent.adapters.runner_process import probe_runtimes, runner_environment
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_agent.core.runner_spec import GoldenFile, RunnerMode
from edgepick_agent.errors import (
    AcceleratorError,
    InferenceError,
    InputError,
    ModelLoadError,
    RunError,
    RuntimeMissingError,
)
from edgepick_wire import codec
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import MeasurePlan
from fakes import runtime_models as models
from fakes.runner_outside import until
from fakes.sensor_trees import AMD_RAPL, plant

ONNX = (RuntimeChoice(name=RuntimeName.ONNXRUNTIME),)


def request(model, **options):
    return ProfileRequest(model=str(model), **options)


def onnx_spec(spec, path, content=None, **changes):
    if content is not None:
        path.write_bytes(content)
    return replace(spec, model_path=str(path), format=ModelFormat.ONNX, runtimes=ONNX, **changes)


def test_a_measurement_holds_everything(start, spec, golden):
    """Latency, memory, golden answers, conditions and what ran it are there and fit together."""
    result, ended = start.measured(replace(spec, golden=golden, stand_in=True))

    found = result.measurement
    assert ended.exit_code == 0
    assert found.plan == spec.plan
    assert (found.runtime.name, found.runtime.accelerator) == ("litert", "xnnpack")
    assert found.latency.runs >= 60
    assert 0 < found.latency.min_ns <= found.latency.p50_ns <= found.latency.p95_ns <= found.latency.max_ns
    assert found.load_ns > 0
    assert found.first_inference_ns > 0
    assert found.throughput_per_s == pytest.approx(1e9 / found.latency.mean_ns, rel=0.5)
    assert (found.golden.samples, found.golden.passed, found.golden.agreement) == (24, True, 1.0)
    assert found.golden.accuracy >= 0.9
    assert found.conditions.stand_in
    assert found.extra["inputs"] == "golden"
    assert found.energy.reason == "no power sensor"
    assert result.failure is None


def test_memory_is_the_runners_own(start, spec):
    """Peak, steady and baseline are of the runner process, however large the process that started it."""
    ballast = bytearray(os.urandom(1 << 20)) * 300

    memory = start.measured(spec)[0].measurement.memory

    assert len(ballast) == 300 << 20
    assert memory.baseline_rss_bytes < memory.peak_rss_bytes < 200 << 20
    assert memory.steady_rss_bytes <= memory.peak_rss_bytes
    assert 0 < memory.private_bytes <= memory.proportional_bytes <= memory.peak_rss_bytes
    assert memory.model_file_bytes == models.DIGITS.stat().st_size
    assert memory.arena_bytes is None


def test_percentiles_without_enough_runs_are_not_told(start, spec):
    """Six runs estimate a median and nothing above it."""
    plan = MeasurePlan(warmup_runs=1, warmup_seconds=0, min_runs=6, min_seconds=0, max_seconds=20)

    latency = start.measured(replace(spec, plan=plan))[0].measurement.latency

    assert latency.runs == 6
    assert latency.p50_ns is not None
    assert (latency.p90_ns, latency.p95_ns, latency.p99_ns) == (None, None, None)


def test_the_maximum_time_ends_a_run_that_would_be_too_long(start, spec):
    """A plan that asks for more runs than fit is cut off, and the measurement says so."""
    plan = MeasurePlan(warmup_runs=1, warmup_seconds=0, min_runs=10**9, min_seconds=0, max_seconds=0.2)

    found = start.measured(replace(spec, plan=plan))[0].measurement

    assert 0 < found.latency.runs < 10**9
    assert any("runs fitted into 0.2 s" in reason for reason in found.reasons)


def test_onnx_models_are_measured_alike(start, spec, golden):
    """The same images through ONNX Runtime give the same answers."""
    result, _ = start.measured(onnx_spec(spec, models.DIGITS_ONNX, golden=golden))

    found = result.measurement
    assert found.runtime.name == "onnxruntime"
    assert found.golden.passed


def test_the_microcontroller_runtime_reports_its_arena(start, spec, golden):
    """On tflm the exact arena is part of the measurement."""
    choice = RuntimeChoice(name=RuntimeName.TFLM)

    found = start.measured(replace(spec, runtimes=(choice,), golden=golden))[0].measurement

    assert found.runtime.name == "tflm"
    assert found.golden.passed
    assert found.memory.arena_bytes > 0


def test_an_int8_model_answers_golden_inputs_given_as_real_numbers(start, spec, tmp_path):
    """Inputs are quantized with the model's scale, outputs dequantized, so real numbers are compared."""
    file = tmp_path / "int8.tflite"
    file.write_bytes(models.tflite(quantized=True))
    x = np.array([[1.5, -2.0, 0.26, 60.0], [-1.0, 3.0, 0.0, 2.5]], np.float32)
    np.savez(tmp_path / "g.npz", x_a=x, expected=np.maximum(x, 0), y=np.array([3, 1]))
    tolerance = GoldenFile(path=str(tmp_path / "g.npz"), min_agreement=1, max_mean_abs_error=models.SCALE / 2)

    judged = start.measured(replace(spec, model_path=str(file), golden=tolerance))[0].measurement.golden

    assert judged.passed, judged.detail
    assert judged.accuracy == 1
    assert 0 < judged.mean_abs_error < models.SCALE / 2


def test_wrong_answers_are_a_result_not_a_failure(start, spec, wrong_golden):
    """A model that runs but answers wrongly is measured; its golden result says that it did not pass."""
    result, ended = start.measured(replace(spec, golden=wrong_golden))

    assert ended.exit_code == 0
    assert not result.measurement.golden.passed
    assert "agrees with the float model" in result.measurement.golden.detail


def test_outputs_that_are_not_numbers_do_not_pass(start, spec, tmp_path):
    """A model that answers NaN is caught by its golden inputs, and the report can still be written."""
    np.savez(tmp_path / "g.npz", x=-np.ones((3, 4), np.float32), expected=np.ones((3, 4), np.float32))
    lenient = GoldenFile(path=str(tmp_path / "g.npz"), min_agreement=0, max_mean_abs_error=1e38)

    result, _ = start.measured(onnx_spec(spec, tmp_path / "nan.onnx", models.onnx_logarithm(), golden=lenient))

    judged = result.measurement.golden
    assert (judged.finite, judged.passed, judged.agreement) == (False, False, 0.0)
    assert "NaN" in judged.detail


def test_a_counter_that_stands_still_measures_no_energy(start, spec, tmp_path):
    """A counter that can be read and does not count gives no energy of zero; its name is in the reason."""
    root = plant(tmp_path / "amd", AMD_RAPL)
    plan = replace(spec.plan, min_seconds=0.25)

    energy = start.measured(replace(spec, plan=plan, sysfs_root=str(root)))[0].measurement.energy

    assert (energy.gross_uj, energy.net_uj) == (None, None)
    assert energy.reason.startswith("powercap-rapl:package-0+package-1 stood still")


def test_a_window_too_short_for_the_counter_is_not_measured(start, spec, tmp_path):
    """A timed window below two hundred counter periods gives no energy, and the reason has both lengths."""
    root = plant(tmp_path / "amd", AMD_RAPL)
    few = replace(spec.plan, min_runs=5, min_seconds=0)

    def measured():
        return start.measured(replace(spec, sysfs_root=str(root), plan=few))[0].measurement.energy

    # A machine that stands still in the middle of the five runs makes the window long enough for the counter.
    energy = until(lambda: "stood still" not in (found := measured()).reason and found, "a short window")

    assert energy.gross_uj is None
    assert "needs a window of 0.2 s" in energy.reason


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"hello, this is no model", "bytes 4 to 8"), (b"", "empty"), (None, "No such file")],
    ids=["foreign", "empty", "missing"],
)
def test_a_file_that_is_no_model_is_a_failure_with_its_name(start, spec, tmp_path, content, said):
    """The result is a failure with the code of the error, the file and what was found; the exit code is 1."""
    file = tmp_path / "broken.tflite"
    if content is not None:
        file.write_bytes(content)

    result, ended = start.measured(replace(spec, model_path=str(file)))

    assert (ended.exit_code, result.failure.code) == (1, ModelLoadError.code)
    assert "broken.tflite" in result.failure.detail
    assert said in result.failure.detail
    assert result.failure.hint
    assert result.measurement is None


def test_a_truncated_model_is_a_failure_with_its_name(start, spec, tmp_path):
    """Half of the demo model is refused by name and size."""
    file = tmp_path / "half.tflite"
    file.write_bytes(models.DIGITS.read_bytes()[:70_000])

    result, _ = start.measured(replace(spec, model_path=str(file)))

    assert result.failure.code == ModelLoadError.code
    assert "half.tflite (70000 bytes)" in result.failure.detail


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((2, 32, 32, 1))}, "needs 'expected' and 'x'"),
        ({"x": np.zeros((2, 31, 32, 1)), "expected": np.zeros((2, 10))}, "shape [31, 32, 1]"),
        ({"x": np.zeros((3, 32, 32, 1)), "expected": np.zeros((2, 10))}, "same number of samples"),
        ({"x": np.zeros((0, 32, 32, 1)), "expected": np.zeros((0, 10))}, "at least one"),
        ({"x": np.full((1, 32, 32, 1), np.nan), "expected": np.zeros((1, 10))}, "NaN"),
        ({"x": np.zeros((1, 32, 32, 1)), "expected": np.zeros((1, 9))}, "the model gives 10"),
        ({"x": np.zeros((1, 32, 32, 1)), "expected": np.full((1, 10), np.inf)}, "infinity"),
        ({"x_other": np.zeros((1, 32, 32, 1)), "expected": np.zeros((1, 10))}, "no 'x_image'"),
        ({"x": np.array([["text"]]), "expected": np.zeros((1, 10))}, "shape"),
        ({"x": np.zeros((2, 32, 32, 1)), "expected": np.zeros((2, 10)), "y": np.zeros(3)}, "'y' has shape"),
    ],
)
def test_golden_inputs_that_do_not_fit_are_told_apart(start, spec, tmp_path, arrays, said):
    """A wrong archive is an input failure that names the file, what was found and what fits."""
    np.savez(tmp_path / "golden.npz", **arrays)
    tolerance = GoldenFile(path=str(tmp_path / "golden.npz"), min_agreement=0, max_mean_abs_error=1)

    result, _ = start.measured(replace(spec, golden=tolerance))

    assert result.failure.code == InputError.code
    assert "golden.npz" in result.failure.detail
    assert said in result.failure.detail


def test_an_archive_that_is_none_is_told(start, spec, tmp_path):
    """A golden file that is no .npz is an input failure, not a crash."""
    (tmp_path / "golden.npz").write_bytes(b"PK\x03\x04 broken")
    tolerance = GoldenFile(path=str(tmp_path / "golden.npz"), min_agreement=0, max_mean_abs_error=1)

    failure = start.measured(replace(spec, golden=tolerance))[0].failure

    assert failure.code == InputError.code
    assert "not a readable .npz" in failure.detail


def test_an_inference_that_does_not_end_is_a_failure(start, spec, tmp_path):
    """The runner ends itself when an inference exceeds its limit, and says so."""
    endless = onnx_spec(spec, tmp_path / "endless.onnx", models.onnx_endless())

    result, ended = start.measured(replace(endless, limits=RunLimits(inference_seconds=0.3)))

    assert ended.exit_code == 1
    assert result.failure.code == InferenceError.code
    assert "longer than 0.3 s" in result.failure.detail


def test_the_first_installed_runtime_is_taken(start, spec):
    """A choice whose accelerator is missing is passed over for the next, as one not installed is."""
    coral = RuntimeChoice(name=RuntimeName.LITERT, accelerators=("edgetpu",))
    micro = RuntimeChoice(name=RuntimeName.TFLM)

    found = start.measured(replace(spec, runtimes=(coral, micro)))[0].measurement

    assert found.runtime.name == "tflm"


def test_no_accelerator_at_all_is_a_failure(start, spec):
    """Without the CPU among the accelerators the missing one is named."""
    coral = RuntimeChoice(name=RuntimeName.LITERT, accelerators=("edgetpu",))

    failure = start.measured(replace(spec, runtimes=(coral,)))[0].failure

    assert failure.code == AcceleratorError.code
    assert "libedgetpu" in failure.detail


def test_a_runtime_for_another_format_is_refused(start, spec):
    """ONNX Runtime does not read .tflite, and the hint says who does."""
    failure = start.measured(replace(spec, runtimes=ONNX))[0].failure

    assert failure.code == ModelLoadError.code
    assert "litert" in failure.hint


def run_module(tmp_path, *arguments: str, prelude: str = "", flags: tuple[str, ...] = ()):
    """Run the runner's module under a prelude and return the finished process."""
    program = f"{prelude}\nimport runpy, sys\nsys.argv[1:] = {list(arguments)!r}\n"
    program += "runpy.run_module('edgepick_agent.runner', run_name='__main__')"
    return subprocess.run(
        [sys.executable, *flags, "-c", program],
        env=runner_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_runner_needs_numpy_and_one_runtime_only(spec, tmp_path):
    """With everything else of the agent and every other runtime missing, it measures."""
    absent = ["paho", "nacl", "click", "psutil", "onnxruntime", "onnx", "tflite_micro", "tflite_runtime", "rich"]
    target = tmp_path / "spec.json"
    result = tmp_path / "result.json"
    target.write_bytes(codec.encode_document(replace(spec, result_path=str(result))))

    done = run_module(
        tmp_path, "measure", str(target), prelude=f"import sys\nsys.modules.update(dict.fromkeys({absent}))"
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(result.read_text())["measurement"]["runtime"]["name"] == "litert"


@pytest.mark.parametrize("arguments", [[], ["run"], ["measure"], ["measure", "a", "b"]])
def test_wrong_arguments_are_answered_with_the_usage(arguments, tmp_path):
    """Anything but the three commands prints how to call it and exits with 2."""
    done = run_module(tmp_path, *arguments)

    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


@pytest.mark.parametrize(("content", "said"), [(b"{", "not JSON"), (b"{}", "missing"), (None, "No such file")])
def test_a_broken_specification_is_named(content, said, tmp_path):
    """A specification that cannot be read exits with 2 and one line that names file and field."""
    target = tmp_path / "spec.json"
    if content is not None:
        target.write_bytes(content)

    done = run_module(tmp_path, "measure", str(target))

    assert done.returncode == 2
    assert "spec.json" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_installed_runtimes_are_listed(tmp_path):
    """Asked in its own process, this interpreter names every runtime that can be imported."""
    found = {runtime.name: runtime for runtime in probe_runtimes(None, tmp_path)}

    assert {"litert", "onnxruntime", "tflm"} <= set(found)
    assert all("cpu" in runtime.accelerators for runtime in found.values())


def test_an_interpreter_without_runtimes_lists_none(tmp_path):
    """Without site-packages there is nothing to import, and the answer is an empty list, not an error."""
    done = run_module(tmp_path, "runtimes", flags=("-S",))

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_runtime_that_crashes_at_import_hides_no_other(tmp_path):
    """An import that ends in a signal, as on a CPU too old for it, leaves the other runtimes listed."""
    crash = (
        "import sys, os, signal\n"
        "class Crash:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ai_edge_litert': os.kill(os.getpid(), signal.SIGILL)\n"
        "sys.meta_path.insert(0, Crash())\n"
    )

    done = run_module(tmp_path, "runtimes", prelude=crash)

    names = [runtime["name"] for runtime in json.loads(done.stdout)]
    assert "litert" not in names
    assert "onnxruntime" in names


def test_an_interpreter_that_is_not_there_has_no_runtimes(tmp_path):
    """A wrong path in the configuration is no crash of the agent."""
    assert probe_runtimes("/nowhere/python", tmp_path) == ()


def test_benchmark_measures_any_model_file():
    """One call measures a file in a runner of its own, with the runtime that its format needs."""
    found = app.benchmark(
        request(models.DIGITS_ONNX, plan=MeasurePlan(min_runs=60, min_seconds=0.05, warmup_seconds=0))
    )

    assert found.runtime.name == "onnxruntime"
    assert found.latency.runs >= 60


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("a.txt", {}, ModelLoadError, "neither a .tflite nor an .onnx"),
        ("a.tflite", {}, ModelLoadError, "bytes 4 to 8"),
        ("a.onnx", {}, ModelLoadError, "a.onnx"),
        ("missing/a.onnx", {}, ModelLoadError, "No such file"),
        ("a.onnx", {"runtime": "torch"}, RuntimeMissingError, "torch"),
        ("a.onnx", {"python": "/nowhere/python"}, RunError, "/nowhere/python"),
    ],
)
def test_benchmark_fails_with_the_error_it_was(tmp_path, name, options, error, said):
    """The runner's failure comes back as the error it was, with its message."""
    file = tmp_path / name
    if file.parent == tmp_path:
        file.write_bytes(b"text, no model")

    with pytest.raises(error) as caught:
        app.benchmark(request(file, **options))

    assert said in str(caught.value)


def test_benchmark_tells_a_runner_that_broke_its_limits():
    """A runner over its memory cap is ended, and that is the error."""
    with pytest.raises(RunError, match="the cap is 1000000"):
        app.benchmark(request(models.DIGITS, limits=RunLimits(peak_rss_bytes=1_000_000)))


def test_nothing_is_left_of_a_benchmark(tmp_path, monkeypatch):
    """Its folder is gone afterwards, whether it worked or not."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    with pytest.raises(ModelLoadError):
        app.benchmark(request(models.DIGITS.with_name("calibration.npz"), runtime="litert"))

    assert list(tmp_path.iterdir()) == []


def test_mode_names_are_the_commands():
    """The modes of the specification are the commands of the module."""
    assert {mode.value for mode in RunnerMode} == {"measure", "serve", "shadow"}
