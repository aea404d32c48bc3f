"""``edgepick profiles``: what it prints and how it ends."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgepick_host.cli.profiles import profiles
from edgepick_profiles.errors import ProfileError
from edgepick_profiles.load import SHIPPED

CHILD = 'name = "pi-8gb"\ntitle = "Raspberry Pi 4, 8 GB"\ninherits = "raspberry-pi-4"\nhardware.ram_bytes = "8 GiB"\n'


def run(*arguments: str) -> Result:
    return CliRunner().invoke(profiles, arguments, env={"COLUMNS": "120"})


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a directory of own profiles, in a home without any configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "pi-8gb.toml").write_text(CHILD)
    return folder


def test_list_names_every_profile(own: Path):
    """The list holds the shipped profiles and the user's own."""
    result = run("list", "--profiles", str(own))

    assert result.exit_code == 0
    assert {"pi-8gb", *(p.stem for p in SHIPPED.glob("*.toml"))} <= set(result.output.split())


def test_list_as_json():
    """Programs get every profile whole."""
    found = json.loads(run("list", "--json").output)

    assert len(found) == len(list(SHIPPED.glob("*.toml")))
    assert found[0]["hardware"]["ram_bytes"] > 0


def test_show_for_people():
    """A profile is shown with rules, budgets and sources."""
    result = run("show", "coral-dev-board")

    assert result.exit_code == 0
    assert "integer only" in result.output
    assert "model 7.5 MiB" in result.output
    assert "https://coral.ai/docs/dev-board/datasheet/" in result.output


def test_show_as_json(own: Path):
    """A program gets the profile after inheritance."""
    found = json.loads(run("show", "pi-8gb", "--profiles", str(own), "--json").output)

    assert found["hardware"]["ram_bytes"] == 8 * 1024**3
    assert found["rules"]["formats"] == ["tflite", "onnx"]


def test_directories_of_the_configuration(own: Path, monkeypatch: pytest.MonkeyPatch):
    """Without the option, the directories of the host's configuration are used."""
    (own.parent / "host.toml").write_text('profiles = ["own"]\n')
    assert isinstance(run("show", "pi-8gb").exception, ProfileError)
    monkeypatch.setenv("EDGEPICK_CONFIG", str(own.parent / "host.toml"))

    result = run("show", "pi-8gb")

    assert result.exit_code == 0
    assert "8 GiB" in result.output


def test_show_unknown_profile():
    """An unknown name is an error for the person, with the names that exist."""
    result = run("show", "nothing")

    assert isinstance(result.exception, ProfileError)
    assert "known are: coral-dev-board" in str(result.exception)


def test_check_without_paths_checks_all():
    """Without paths every shipped profile is checked."""
    result = run("check")

    assert result.exit_code == 0
    assert result.output.count(": ok") == len(list(SHIPPED.glob("*.toml")))


def test_check_takes_files_and_directories(own: Path):
    """A directory stands for the files in it."""
    result = run("check", str(own), str(SHIPPED / "esp32-s3.toml"))

    assert result.output.splitlines() == [f"{own}/pi-8gb.toml: ok", f"{SHIPPED}/esp32-s3.toml: ok"]


def test_check_names_every_mistake_of_every_file(own: Path):
    """What is right is said, then all that is wrong is raised as one error."""
    (own / "bad.toml").write_text('name = "bad"\ntitel = "T"\ninherits = "pi-8gb"\n')

    result = run("check", str(own))

    assert result.output == f"{own}/pi-8gb.toml: ok\n"
    assert isinstance(result.exception, ProfileError)
    assert [p.key for p in result.exception.problems] == ["titel", "title"]


def test_check_as_json_ends_with_usage_error(own: Path):
    """For programs the problems are data on stdout, and the exit code still tells."""
    (own / "bad.toml").write_text('name = "bad"\ntitel = "T"\ninherits = "pi-8gb"\n')

    result = run("check", "--json", str(own))

    found = json.loads(result.output)
    assert result.exit_code == 2
    assert found[f"{own}/pi-8gb.toml"] == {"ok": True, "problems": []}
    assert found[f"{own}/bad.toml"]["problems"][0]["suggestion"] == "title"
