"""Every command of the tree, found by walking it: documents for programs, and one message whatever is broken."""

import json

import pytest
from terminals import on_terminal

from edgepick_agent.cli.commands import cli
from fakes.command_tree import options, walk

NO_DOCUMENT = {
    "run": "goes on until it is stopped; what it says is in `logs --json`",
    "completion": "prints a script for a shell",
}
"""Commands without ``--json``, and why."""


TREE = dict(walk(cli))


def test_every_command_has_documents_for_programs():
    """``--json`` is everywhere but where a reason stands against it, and no reason outlives its command."""
    without = {name for name, found in TREE.items() if "--json" not in options(found)}

    assert without == set(NO_DOCUMENT)


def test_what_changes_what_runs_can_be_looked_at_first():
    """Each command that changes what the device runs, or how it starts, has a --dry-run."""
    changing = {"install", "rollback", "pin", "unpin", "service install", "service uninstall"}

    assert {name for name, found in TREE.items() if "--dry-run" in options(found)} == changing


@pytest.fixture
def two(command, config_file, bundle_file):
    """Provide the configuration of a device on which the second of two versions runs."""
    for version in ("1", "2"):
        assert command("install", bundle_file(version), "-c", config_file, "--yes").exit_code == 0
    return config_file


def models(command, config):
    return json.loads(command("status", "-c", config, "--json").stdout)["status"]["models"]


@pytest.mark.parametrize("line", ["install {}", "rollback", "pin previous", "pin", "unpin"])
def test_looking_first_changes_nothing(command, two, bundle_file, line):
    """With --dry-run the change is named, to people and to programs, nobody is asked, and all stays as it was."""
    third = bundle_file("3")
    before = models(command, two)

    told = command(*line.format(third).split(), "-c", two, "--dry-run")
    document = json.loads(command(*line.format(third).split(), "-c", two, "--dry-run", "--json").stdout)["would"]

    assert (told.exit_code, "nothing was done" in told.stdout) == (0, True), told.output
    assert "digits" in told.stdout
    assert (document["model"], document["from"]) == ("digits", before[0]["active"])
    assert models(command, two) == before


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [("rollback", b"y", (0, "1")), ("pin previous", b"y", (0, "1")), ("rollback", b"n", (1, "2"))],
)
def test_one_question_is_asked_and_its_answer_is_followed(command, two, line, key, expected):
    """On a terminal one key decides, after what would happen was shown; "no" changes nothing."""
    with on_terminal(*line.split(), "-c", two, TERM="vt100") as session:
        session.type(key + b"\n")

    code, version = expected
    assert session.process.returncode == code
    assert session.seen.count(b"[y/N]") == 1
    assert session.seen.index(b"->") < session.seen.index(b"[y/N]")
    assert models(command, two)[0]["active_label"] == f"digits {version} float32"


def test_what_init_wrote_is_a_document(command, tmp_path):
    """Where the file is, what stands in it, and what board was seen."""
    written = command("init", "--out", tmp_path / "a.toml", "--device", "pi-9", "--json")

    document = json.loads(written.stdout)
    assert (document["path"], document["config"]["device"]) == (str(tmp_path / "a.toml"), "pi-9")
    assert document["board"]["profile"]


def test_the_plan_of_the_service_is_a_document(command, config_file):
    """Each step in words, with the text of the files that it would write; nothing is done."""
    found = json.loads(command("service", "install", "-c", config_file, "--dry-run", "--json").stdout)
    removed = json.loads(command("service", "uninstall", "--dry-run", "--json").stdout)

    assert (found["done"], removed["done"]) == (False, False)
    assert any("[Service]" in (step["text"] or "") for step in found["steps"])
    assert all(step["step"] for step in removed["steps"])
