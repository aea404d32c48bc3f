"""The support bundle where it is needed most: what ails the device is in it, and no secret is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import pytest
from test_technician_troubled import LESS_RIGHTS

from edgepick_agent.adapters import control_socket
from edgepick_agent.config import schema
from edgepick_agent.core.redaction import TOLD

CANARY = "C4n4ry-7"
ALWAYS = {"config.json", "doctor.json", "versions.json"}
OF_THE_AGENT = {"status.json", "log.txt"}
SECRET_TEXTS = [key for key, what in schema().items() if "str" in str(what.hint) and key not in TOLD]
"""Every setting that may hold a secret: a new one too, until somebody says that it is told."""
VALID = {
    "broker.username": f'username = "{CANARY}"',
    "broker.password_file": f'username = "bob"\npassword_file = "{CANARY}"',
    "broker.key_file": f'cert_file = "own.pem"\nkey_file = "{CANARY}"',
    "fetch.site_cache": f'[fetch]\nsite_cache = "https://cache.site/{{sha256}}?token={CANARY}"',
    "power.command": f'[power]\ncommand = ["sh", "-c", "echo curl: no host {CANARY} >&2; exit 6; -u admin:{CANARY}"]',
    "power.mqtt_topic": f'[power]\nmqtt_topic = "{CANARY}"',
}
"""How each stands below ``[broker]`` in a configuration that is in order."""
WRONG = [
    f'username = ["{CANARY}"]',
    f'password_file = ["{CANARY}"]',
    f'[fetch]\nsite_cache = "https://bob:{CANARY}@cache.site/{{sha256}}"',
    f'[power]\ncommand = "curl -u admin:{CANARY}"',
    f'host = "mqtt://bob:{CANARY}@broker"',
    f'host = "mqtt://bob:{CANARY}@broker "',
]
"""Values that are refused, and quoted by the refusal."""


@pytest.fixture
def bundle(command, config_file, tmp_path):
    """Provide a function that writes a support bundle, and returns its members by name."""

    def write():
        found = command("support-bundle", "-c", config_file, "--out", tmp_path / "s.tar.gz")
        assert found.exit_code == 0, found.output
        return members(tmp_path / "s.tar.gz")

    return write


def members(path):
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2]: archive.extractfile(member).read() for member in archive}


def test_every_setting_that_may_hold_a_secret_is_tried_below():
    """A new one has to be written down here, or told by name."""
    assert set(SECRET_TEXTS) == set(VALID)


@pytest.mark.parametrize("key", SECRET_TEXTS)
def test_a_secret_is_in_no_member(bundle, config_file, tmp_path, key):
    """Not in the configuration, what a check says of it, the log, nor a state file, whole or damaged."""
    with config_file.open("a") as file:
        file.write(VALID[key])
    (tmp_path / "state" / "log").mkdir(parents=True)
    said = json.dumps({"time": 1, "level": "info", "text": f"no answer from {CANARY}"})
    (tmp_path / "state" / "log" / "agent.log").write_text(f"{said}\n")
    (tmp_path / "state" / "state.json").write_text(f'{{"last_error": "{CANARY}", ')

    held = bundle()

    assert held.keys() >= ALWAYS | OF_THE_AGENT
    assert json.loads(held["config.json"])[key] == "(redacted)"
    assert [name for name, data in held.items() if CANARY.encode() in data] == []


@pytest.mark.parametrize("line", WRONG)
def test_a_value_that_is_refused_is_not_quoted(bundle, config_file, line):
    """What is wrong is told, and what would be right; what stands there is not."""
    text = config_file.read_text()
    config_file.write_text(text.replace('host = "127.0.0.1"', line) if line.startswith("host") else text + line)

    held = bundle()

    assert ("expected" in str(held["config.json"])) != ("allowed" in str(held["config.json"]))
    assert [name for name, data in held.items() if CANARY.encode() in data] == []


def test_of_an_agent_that_hangs_everything_else_is_told(agent, bundle, monkeypatch):
    """Its own word is replaced by that it does not answer; its log and its state are there."""
    agent().send_signal(signal.SIGSTOP)
    monkeypatch.setattr(control_socket, "PROMPT_SECONDS", 0.5)

    held = bundle()

    assert held.keys() >= ALWAYS | OF_THE_AGENT | {"state.json"}
    assert json.loads(held["status.json"]).keys() == {"error", "hint"}


def test_of_a_damaged_state_the_damage_is_told(bundle, tmp_path):
    """The file as it is, and in place of the status what is wrong with it."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_bytes(b'{"schema": 1, "mod')

    held = bundle()

    assert held["state.json"] == b'{"schema": 1, "mod'
    assert "state.json" in json.loads(held["status.json"])["error"]


def test_for_another_account_what_it_may_not_read_is_named(command, config_file, tmp_path):
    """It gets a bundle, which says what needs another account, and holds what does not."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can be somebody else")
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "state.json").write_text("{}")
    shutil.chown(tmp_path / "state", 65534)
    words = ["support-bundle", "-c", str(config_file), "--out", str(tmp_path / "s.tar.gz")]

    done = subprocess.run([*LESS_RIGHTS, sys.executable, "-m", "edgepick_agent", *words], check=False)

    held = members(tmp_path / "s.tar.gz")
    assert done.returncode == 0
    assert {name for name in held if b"ermission denied" in held[name]} >= {"status.json", "state.json"}
    assert held.keys() >= ALWAYS
