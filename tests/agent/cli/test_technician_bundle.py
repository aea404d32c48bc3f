"""``install`` and ``rollback``: from a stick, without a broker, with the same checks as from the network."""

import json

import pytest

from edgepick_agent.cli.bundle import which
from edgepick_agent.core.control import AgentStatus
from edgepick_agent.errors import AgentError
from edgepick_wire.messages import ModelState, Phase


@pytest.fixture(autouse=True)
def quick_confirmation(config_file):
    """Let a variant be confirmed soon, so that the tests are quick."""
    with config_file.open("a") as file:
        file.write("\n[runner]\nconfirm_seconds = 0.2\nhealth_interval_seconds = 0.1\n")


def active(command, config_file):
    document = json.loads(command("status", "-c", config_file, "--json").stdout)
    (model,) = document["status"]["models"]
    return model


def test_a_bundle_is_shown_installed_and_rolled_back(command, config_file, bundle_file):
    """Two versions from files, then back to the first: each step says what it does and what runs then."""
    first = command("install", bundle_file("1"), "-c", config_file, "--yes")
    second = command("install", bundle_file("2"), "-c", config_file, "--yes", "--json")
    again = command("install", bundle_file("2"), "-c", config_file)
    foreign = command("install", bundle_file("3", profiles=("jetson-nano",)), "-c", config_file, "--yes")
    newest = active(command, config_file)
    back = command("rollback", "-c", config_file, "--yes")

    assert (first.exit_code, second.exit_code, back.exit_code) == (0, 0, 0), first.output + second.output + back.output
    for expected in ("model      digits", "version    1   variant float32", "replaces   nothing", "signature  valid"):
        assert expected in first.stdout
    assert "digits: confirmed" in first.stdout
    assert json.loads(second.stdout)["models"][0]["phase"] == "confirmed"
    assert "signature  valid" in second.stderr
    assert (again.exit_code, "nothing to do" in again.stdout) == (0, True)
    assert foreign.exit_code == 1
    assert (newest["phase"], "2" in newest["active_label"].split()) == ("confirmed", True)
    assert "->" in back.stdout
    assert active(command, config_file)["active"] == newest["previous"]


def test_without_a_terminal_nothing_is_done_unasked(command, config_file, bundle_file):
    """Where nobody can be asked, ``--yes`` is needed, and nothing is installed."""
    result = command("install", bundle_file("1"), "-c", config_file)

    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert not (config_file.parent / "state" / "store").exists()


def damaged(path):
    data = bytearray(path.read_bytes())
    at = data.index(b'"version":"1"') + 11
    data[at] = ord("9")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "code", "word"),
    [
        (lambda bundle: damaged(bundle("1")), 4, "signature"),
        (lambda bundle: bundle("1", content=b"x" * 1000), 4, "digest"),
        (lambda bundle: bundle("1", profiles=("jetson-nano",)), 1, "jetson-nano"),
        (lambda bundle: bundle("1", fleet="other"), 1, "other"),
        (lambda bundle: bundle("1", requires=("teleport",)), 1, "teleport"),
    ],
)
def test_a_bundle_that_must_not_run_here_is_refused(command, config_file, bundle_file, *, make, code, word):
    """A forged, damaged, foreign or too new bundle ends with its exit code and says why; nothing runs."""
    result = command("install", make(bundle_file), "-c", config_file, "--yes")

    assert result.exit_code == code, result.output
    assert word in result.stderr.lower()
    assert "hint: " in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 10240])
def test_a_file_that_is_no_bundle_is_refused(command, config_file, tmp_path, content):
    """Whatever else lies on the stick is not taken for a bundle."""
    path = tmp_path / "photo.edgepick"
    path.write_bytes(content)

    result = command("install", path, "-c", config_file, "--yes")

    assert result.exit_code == 1
    assert "photo.edgepick" in result.stderr


def at_rest(*models):
    return AgentStatus(
        running=False, device="d", fleet="f", profile="p", session=1, broker="", sequence=0, security_epoch=0,
        models=tuple(ModelState(model=m, phase=Phase.CONFIRMED, active="a", previous=p) for m, p in models),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("models", "name", "word"),
    [
        ((), None, "no model is on this device"),
        ((("a", "x"), ("b", "x")), None, "2 models"),
        ((("a", "x"),), "b", "no model 'b'"),
        ((("a", None),), None, "no previous variant"),
    ],
)
def test_a_rollback_that_cannot_be_says_why(models, name, word):
    """Nothing, too much, the wrong name, or no way back: each is its own message."""
    with pytest.raises(AgentError, match=word):
        which(at_rest(*models), name)


def test_the_only_model_need_not_be_named():
    """With one model, ``rollback`` knows which is meant."""
    assert which(at_rest(("a", "x")), None).model == "a"
    assert which(at_rest(("a", "x"), ("b", "y")), "b").model == "b"
