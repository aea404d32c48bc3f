"""The environment for tflite-runtime is an answer whatever happens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepick_host.demo import tflite_environment as environments
from edgepick_host.demo.tflite_environment import explain, tflite_environment


def fake_environment(folder: Path, script: str) -> Path:
    """Make an interpreter of shell that prints or fails as told."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


def test_an_environment_that_works_is_used_again(tmp_path: Path) -> None:
    """Nothing is installed, and nothing is said, when the interpreter can import tflite-runtime."""
    python = fake_environment(tmp_path / "kept", "echo 2.14.0")
    said: list[str] = []

    found = tflite_environment(tmp_path / "kept", say=said.append)

    assert (found.python, found.version, found.reason) == (python, "2.14.0", "")
    assert said == []


def test_a_failed_installation_leaves_a_reason_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When pip fails, the half-made environment is gone and the reason is pip's."""
    said: list[str] = []

    def run(command: list[str], _seconds: float) -> subprocess.CompletedProcess:
        if "venv" in command:
            fake_environment(Path(command[-1]), "exit 1")
            return subprocess.CompletedProcess(command, 0, "", "")
        return subprocess.CompletedProcess(command, 1, "", "ERROR: disk quota exceeded\n")

    monkeypatch.setattr(environments, "_run", run)

    found = tflite_environment(tmp_path / "new", say=said.append)

    assert found.python is None
    assert found.reason == "disk quota exceeded"
    assert not (tmp_path / "new").exists()
    assert len(said) == 1


def test_a_folder_that_cannot_be_made_is_a_reason(tmp_path: Path) -> None:
    """An operating-system error is told, not raised."""
    (tmp_path / "file").write_text("not a folder")

    found = tflite_environment(tmp_path / "file" / "env", say=lambda _line: None)

    assert found.python is None
    assert "cannot be made" in found.reason


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("WARNING: NewConnectionError('...')\nERROR: No matching distribution found for tflite-runtime", "be reached"),
        ("ERROR: No matching distribution found for tflite-runtime", "has no wheel for Python"),
        ("ERROR: first\nERROR: second", "second"),
        ("", "without a message"),
    ],
)
def test_pip_complaints_become_one_sentence(output: str, expected: str) -> None:
    """Offline, no wheel and anything else are told apart."""
    assert expected in explain(output)


def test_a_program_that_takes_too_long_is_no_answer() -> None:
    """A deadline is kept."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]

    assert environments._run(command, 0.1) is None


def test_the_cache_folder_follows_the_users_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME is respected."""
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", "/somewhere")

    assert environments.default_folder().is_relative_to("/somewhere/edgepick")
