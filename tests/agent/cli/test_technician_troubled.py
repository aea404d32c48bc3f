"""Every command where something is missing, broken or forbidden: one message, what to do, the right exit code."""

import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest
from test_technician_walk import TREE

CONFIGURED = {
    "config check": "-c {config}",
    "config show": "-c {config}",
    "run": "-c {config}",
    "status": "-c {config}",
    "doctor": "-c {config}",
    "watch": "-c {config} --count 1",
    "infer": "{file} -c {config}",
    "install": "{bundle} -c {config} --yes",
    "rollback": "-c {config} --yes",
    "pin": "-c {config} --yes",
    "unpin": "-c {config}",
    "logs": "-c {config}",
    "support-bundle": "-c {config} --out {out}",
    "service install": "-c {config} --dry-run",
    "benchmark": "{file} -c {config}",
}
"""Commands that read the device's configuration, each with what it needs to begin."""
OTHERS = {"init", "compare", "completion", "service uninstall"}
"""Commands that read none."""
LESS_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--")
"""What makes root somebody who may read only what is everybody's."""


@pytest.fixture
def words(tmp_path, bundle_file):
    """Provide a function that returns the words of a command with a configuration."""
    (tmp_path / "x.npy").write_text("no array")
    places = {"file": tmp_path / "x.npy", "bundle": bundle_file("1"), "out": tmp_path / "s.tar.gz"}
    return lambda name, config: [
        *name.split(), *(word.format(config=config, **places) for word in CONFIGURED[name].split())
    ]  # fmt: skip


def test_every_command_is_in_the_table():
    """A new command is tried in every trouble too, or said to read no configuration."""
    assert set(CONFIGURED) | OTHERS == set(TREE)


def absent(config):
    config.unlink()


def no_toml(config):
    config.write_text('device = "a\n[[')


def no_text(config):
    config.write_bytes(b"\xff\xfe\x00")


def not_ascii(config):
    config.write_text(config.read_text().replace("pi-7", "gerät"))


def no_value(config):
    config.write_text(config.read_text().replace("port = 1", 'port = "one"'))


def folder(config):
    config.unlink()
    config.mkdir()


def mends(text):
    """Return whether an output says what to do: a hint, doctor's arrow, a value that is allowed, click's own words."""
    return any(word in text for word in ("hint: ", "-> ", "Edit ", "expected", "is a directory"))


@pytest.mark.parametrize("spoil", [absent, no_toml, no_text, not_ascii, no_value, folder])
def test_a_configuration_that_cannot_be_used_is_one_message(command, config_file, words, spoil):
    """Missing, torn, no text, a name that is not allowed, a wrong value, a folder: exit code 2 and how to mend it.

    ``doctor`` has it as its finding, exit code 1; ``support-bundle`` has its own test.
    """
    spoil(config_file)

    said = {name: command(*words(name, config_file)) for name in CONFIGURED if name != "support-bundle"}

    codes = {name: found.exit_code for name, found in said.items()}
    texts = {name: found.output for name, found in said.items()}
    assert {name for name, code in codes.items() if code != 2} == ({"doctor"} if spoil is not folder else set())
    assert [name for name, text in texts.items() if str(config_file) not in text or not mends(text)] == []
    assert [name for name, text in texts.items() if "Traceback" in text or "unexpected" in text] == []


@pytest.mark.parametrize("spoil", [absent, no_toml, no_text, not_ascii, no_value])
def test_a_support_bundle_says_what_is_wrong_with_the_configuration(command, config_file, words, spoil, tmp_path):
    """Where help is needed most it is still written, with the problems in place of what cannot be known."""
    spoil(config_file)

    found = command(*words("support-bundle", config_file))

    assert found.exit_code == 0, found.output
    with tarfile.open(tmp_path / "s.tar.gz") as archive:
        held = {m.name.partition("/")[2]: json.load(archive.extractfile(m)) for m in archive if m.name.endswith("json")}
    assert held["config.json"]["problems"]
    assert held["doctor.json"][0]["level"] == "fail"
    assert set(held) == {"config.json", "doctor.json", "versions.json"}


def test_without_an_agent_or_anything_that_one_left(command, config_file, words):
    """On a device where none has run yet: each command works or says what comes first."""
    said = {name: command(*words(name, config_file)) for name in CONFIGURED if name not in {"run", "install"}}

    codes = {name: found.exit_code for name, found in said.items() if found.exit_code}
    assert codes == dict.fromkeys(("status", "doctor", "infer", "rollback", "pin", "unpin", "benchmark"), 1)
    assert [name for name in codes if not mends(said[name].output)] == []


def test_while_the_agent_runs_without_a_network(command, config_file, words, agent):
    """With an agent whose broker is not there: what is installed and looked at goes through it, and works."""
    agent()

    said = {name: command(*words(name, config_file)) for name in ("install", *CONFIGURED) if name != "run"}

    codes = {name: found.exit_code for name, found in said.items() if found.exit_code}
    assert codes == {"infer": 1, "rollback": 1, "doctor": 1, "benchmark": 1}, said["install"].output
    assert [name for name in codes if not mends(said[name].output)] == []
    assert "no previous variant" in said["rollback"].output


def test_as_another_user_each_says_whose_it_is(command, config_file, words):
    """Where the state belongs to the service's account: what needs it says so and what to do; the rest works."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can be somebody else")
    assert command(*words("install", config_file)).exit_code == 0
    shutil.chown(config_file.parent / "state", 65534)
    (config_file.parent / "state").chmod(0o700)

    said = {name: _as_another(words(name, config_file)) for name in CONFIGURED}

    texts = {name: found.stdout + found.stderr for name, found in said.items()}
    denied = {name for name, found in said.items() if found.returncode}
    assert {"run", "status", "doctor", "install", "rollback", "pin", "unpin", "infer", "logs"} <= denied
    assert {name for name, found in said.items() if found.returncode not in {0, 1, 3}} == set()
    assert [name for name in denied if not mends(texts[name])] == []
    assert [name for name, text in texts.items() if "Traceback" in text or "unexpected" in text] == []


def test_a_file_that_the_service_may_not_reach_is_installed_by_root(command, config_file, agent, bundle_file):
    """From a folder that is the technician's alone: the command hands the running agent the file that it has opened."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can be somebody else")
    bundle = bundle_file("1")
    home = bundle.parent / "home"
    home.mkdir()
    bundle = bundle.rename(home / bundle.name)
    shutil.chown(home, 65534)
    home.chmod(0o700)
    agent(*LESS_RIGHTS)

    found = command("install", bundle, "-c", config_file, "--yes")

    assert found.exit_code == 0, found.output
    assert "digits: confirm" in found.stdout


def _as_another(arguments):
    """Return what a command did that may read only what is everybody's."""
    command = [*LESS_RIGHTS, sys.executable, "-m", "edgepick_agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
