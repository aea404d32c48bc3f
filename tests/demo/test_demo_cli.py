"""The command says what was found, and its exit code is the truth."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_host.cli import demo as command
from edgepick_host.cli.main import run
from edgepick_host.demo.result import DemoResult
from edgepick_host.demo.workspace import Workspace
from edgepick_wire import codec
from fakes.demo_result import a_good_run


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[DemoResult]:
    """Replace the job by a list with its result."""
    results = [a_good_run()]

    def job(options, _progress, on_result):
        on_result(results[0], Workspace(folder=options.out, states=options.out))
        return results[0]

    monkeypatch.setattr(command, "run_demo", job)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    return results


def test_a_good_run_ends_with_zero_and_the_reports_path(told, tmp_path: Path, capsys) -> None:
    """Table, facts, stand-in note and path are on the standard output."""
    code = run(["demo", "--out", str(tmp_path)])

    out = capsys.readouterr().out
    assert code == 0
    assert f"report: {tmp_path / 'report.html'}" in out
    assert "Stand-in figures: measured on AMD EPYC 7763" in out
    assert "pi4-hall was killed after 17 of 41 chunks and resumed" in out
    assert "caught on coral-gate (bad-signature)" in out
    assert all(profile.profile in out for profile in told[0].profiles)


def test_a_broken_promise_ends_with_one_and_is_named(told, tmp_path: Path, capsys) -> None:
    """A fault that was not caught is a failure of the demo."""
    told[0] = replace(told[0], faults=(replace(told[0].faults[0], caught=False),))

    code = run(["demo", "--out", str(tmp_path)])

    out = capsys.readouterr().out
    assert code == 1
    assert "NOT caught" in out
    assert "problem: A variant that answers wrongly" in out


def test_json_is_the_whole_result(told, tmp_path: Path, capsys) -> None:
    """Programs get every figure, and nothing else on the standard output."""
    run(["demo", "--out", str(tmp_path), "--json"])

    assert codec.decode_document(DemoResult, capsys.readouterr().out.encode()) == told[0]


def test_a_broker_that_does_not_exist_is_a_usage_error(told, capsys) -> None:
    """The choices are named."""
    code = run(["demo", "--broker", "rabbit"])

    assert code == 2
    assert "amqtt" in capsys.readouterr().err


def test_somebodys_folder_is_refused_before_anything_starts(tmp_path: Path, capsys, monkeypatch) -> None:
    """The real job looks at its folder first."""
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    (tmp_path / "thesis.tex").touch()

    code = run(["demo", "--out", str(tmp_path)])

    assert code == 2
    assert "did not make" in capsys.readouterr().err
