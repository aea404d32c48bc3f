"""``benchmark`` on real models in real runner processes, without configuration or broker."""

from pathlib import Path

import numpy as np
import pytest

from edgepick_agent.cli import benchmark as module
from edgepick_wire import codec
from edgepick_wire.metrics import Measurement

MODEL = Path(__file__).parents[3] / "host_tools/edgepick_host/demo/data/digits.tflite"
SHORT = ("--runs", 60, "--seconds", 0)


@pytest.fixture(autouse=True)
def no_config_of_this_machine(monkeypatch, tmp_path):
    """Keep a configuration that this machine may have out of the tests."""
    monkeypatch.setattr(module, "DEFAULT_CONFIG", str(tmp_path / "none.toml"))


def test_a_model_file_is_all_it_takes(command):
    """The figures come with units, and what was not had says so."""
    result = command("benchmark", MODEL, "--runs", 60, "--seconds", 0, "--stand-in")

    assert result.exit_code == 0, result.output
    assert "(stand-in)" in result.stdout
    assert "throughput" in result.stdout
    assert "MiB" in result.stdout
    assert "Traceback" not in result.output


def test_json_is_a_measurement_of_the_protocol(command):
    """What ``--json`` prints is what would travel to the host, by the plan that was asked for."""
    result = command("benchmark", MODEL, "--runs", 7, "--seconds", 0, "--threads", 2, "--json")

    found = codec.decode_document(Measurement, result.stdout.encode())

    assert (found.plan.min_runs, found.plan.threads) == (7, 2)
    assert found.latency.runs >= 7
    assert found.memory.peak_rss_bytes


def test_too_few_runs_for_a_percentile_are_said(command):
    """With sixty runs no bound for p99 exists, so it is not invented."""
    result = command("benchmark", MODEL, *SHORT)

    assert "p99              not estimable" in result.stdout
    assert "p90              not" not in result.stdout


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.tflite", b"hello"), ("cut.tflite", "half"), ("empty.onnx", b""), ("README.md", b"# x")],
)
def test_a_file_that_is_no_model_is_one_message(command, tmp_path, name, content):
    """Text, a truncated model and an empty file end with exit code 1 and the file's name."""
    path = tmp_path / name
    data = MODEL.read_bytes()
    path.write_bytes(data[: len(data) // 2] if content == "half" else content)

    result = command("benchmark", path)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert name in result.stderr
    assert "Traceback" not in result.output


def test_a_runtime_that_is_not_installed_names_the_pip_line(command):
    """Asking for a runtime that is not there says how to get it."""
    result = command("benchmark", MODEL, "--runtime", "tflite_runtime")

    assert result.exit_code == 1
    assert "pip install 'edgepick[tflite]'" in result.stderr


def golden(path, expected):
    inputs = np.zeros((4, 32, 32, 1), np.float32)
    np.savez(path, x=inputs, expected=expected)
    return path


def test_wrong_answers_end_with_code_1(command, tmp_path):
    """A model that disagrees with the golden file is measured, and fails."""
    expected = np.tile(np.eye(10, dtype=np.float32)[[9, 8]], (2, 1))

    result = command("benchmark", MODEL, *SHORT, "--golden", golden(tmp_path / "golden.npz", expected))

    assert result.exit_code == 1
    assert "FAILED: " in result.stdout


def test_a_broken_configuration_that_nobody_asked_for_is_only_mentioned(command, tmp_path, monkeypatch):
    """The default file is a help, not a need; one that was named must be right."""
    path = tmp_path / "agent.toml"
    path.write_text("flet = 1")
    monkeypatch.setattr(module, "DEFAULT_CONFIG", str(path))

    unasked = command("benchmark", MODEL, *SHORT)
    asked = command("benchmark", MODEL, *SHORT, "--config", path)

    assert (unasked.exit_code, asked.exit_code) == (0, 2)
    assert "is not used" in unasked.stderr


def test_the_configuration_marks_a_stand_in(command, config_file):
    """What the device's configuration says about the machine holds for its benchmarks too."""
    config_file.write_text("stand_in = true\n" + config_file.read_text())

    result = command("benchmark", MODEL, *SHORT, "--config", config_file)

    assert "(stand-in)" in result.stdout


@pytest.mark.parametrize("option", ["--seconds", "--min-agreement", "--max-error", "--watts"])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_none_is_a_usage_error(command, option, number):
    """It is refused where it was given, not by the runner in words about its protocol."""
    result = command("benchmark", MODEL, *SHORT, option, number)

    assert result.exit_code == 2
    assert option in result.stderr


def test_a_long_plan_may_take_its_time():
    """The upper bound on time never cuts off the seconds that were asked for."""
    assert module.plan(threads=1, runs=10, seconds=100.0).max_seconds == 300.0
    assert module.plan(threads=1, runs=10, seconds=1.0).max_seconds == 60.0
