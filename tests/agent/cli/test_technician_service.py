"""The systemd service: the shipped unit, the plan, and the words to systemd."""

import os
import pwd
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent import config
from edgepick_agent.adapters import service as adapter
from edgepick_agent.adapters.systemd import notifier, watchdog_seconds
from edgepick_agent.core import service as plans
from edgepick_agent.core.service import (
    LOCAL_PATH,
    UNIT,
    UNIT_PATH,
    Remove,
    RunCommand,
    ServiceFacts,
    WriteFile,
    local_conf,
    plan_install,
    plan_uninstall,
    quoted,
)
from edgepick_agent.errors import AgentError, StorageError

HIGHEST_EXPOSURE = 2.5
needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def facts(**changes):
    plain = {
        "unit_text": adapter.unit_text(),
        "user": "edgepick",
        "user_exists": True,
        "python": "/opt/edgepick/bin/python",
        "config": "/etc/edgepick/agent.toml",
        "state_dir": "/var/lib/edgepick-agent",
        "board": "generic-linux",
    }
    return ServiceFacts(**{**plain, **changes})


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


def unit_with(tmp_path: Path, **changes) -> Path:
    """Write the unit with its drop-in, runnable on this machine, for systemd-analyze."""
    unit = tmp_path / UNIT
    unit.write_text(adapter.unit_text())
    local = tmp_path / f"{UNIT}.d" / "10-local.conf"
    local.parent.mkdir()
    local.write_text(local_conf(facts(python="/bin/sh", **changes)))
    return unit


@needs_analyze
@pytest.mark.parametrize("board", ["generic-linux", "raspberry-pi-4", "coral-usb-accelerator", "jetson-orin-nano"])
def test_the_unit_is_valid_and_tight(tmp_path, board):
    """Systemd finds nothing to complain about, and its own rating of the exposure is at most 2.5 of 10."""
    unit = unit_with(tmp_path, board=board)

    verified = analyze("verify", str(unit))
    rated = analyze("security", "--offline=true", str(unit))
    rating = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated.stdout)

    assert (verified.returncode, verified.stderr) == (0, "")
    assert rating is not None, rated
    assert float(rating[1]) <= HIGHEST_EXPOSURE


def test_the_unit_is_found_from_the_repository_and_goes_into_the_wheel():
    """One function finds the shipped unit, and the build puts the same folder into the wheel."""
    root = Path(adapter.__file__).parents[3]
    build = config.tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert build["force-include"] == {"systemd": "edgepick_agent/systemd"}
    assert Path(adapter.__file__).parents[1] / "systemd" == adapter.IN_WHEEL
    assert "Type=notify" in adapter.unit_text()


def test_the_unit_is_found_in_a_wheel(tmp_path, monkeypatch):
    """Beside an installed package, its own copy is taken; without any, the message names the cure."""
    monkeypatch.setattr(adapter, "IN_WHEEL", tmp_path)
    monkeypatch.setattr(adapter, "IN_REPOSITORY", tmp_path / "nowhere")
    with pytest.raises(AgentError, match="missing from this installation"):
        adapter.unit_text()
    (tmp_path / UNIT).write_text("[Service]")

    assert adapter.unit_text() == "[Service]"


def test_a_dry_run_prints_the_plan_and_does_nothing(command, config_file, monkeypatch):
    """``--dry-run`` names each file with its content and each command, and touches neither."""
    monkeypatch.setattr(adapter, "_run", pytest.fail)
    monkeypatch.setattr(adapter, "_write", pytest.fail)

    result = command("service", "install", "--dry-run", "-c", config_file)

    assert result.exit_code == 0, result.output
    for line in (
        f"would write {UNIT_PATH}",
        f"would write {LOCAL_PATH}",
        "would run systemctl daemon-reload",
        f"would run systemctl enable {UNIT}",
        f"would run systemctl restart {UNIT}",
        f"    ReadWritePaths={config_file.parent / 'state'}",
    ):
        assert line in result.stdout.splitlines()


def test_installing_needs_root_and_says_so(command, config_file, monkeypatch):
    """Without root nothing is done, and the line to run instead is printed."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(adapter, "_run", pytest.fail)

    result = command("service", "install", "-c", config_file)

    assert result.exit_code == 1
    assert "needs root" in result.stderr
    assert f"service install --config {config_file} --user edgepick" in result.stderr


def test_the_plan_makes_an_account_only_if_there_is_none():
    """An existing account is used as it is."""
    assert not any("useradd" in str(step) for step in plan_install(facts()))
    assert "useradd" in str(plan_install(facts(user_exists=False))[0])


def test_the_plan_hands_secrets_to_the_account():
    """A password file is given to the account that must read it."""
    steps = plan_install(facts(secrets=("/etc/edgepick/broker.password",)))

    assert RunCommand(arguments=("chown", "edgepick", "/etc/edgepick/broker.password")) in steps


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"board": "raspberry-pi-5"}, "DeviceAllow=/dev/vcio rw"),
        ({"board": "coral-usb-accelerator"}, "DeviceAllow=char-usb_device rw"),
        ({"board": "coral-dev-board"}, "DeviceAllow=/dev/apex_0 rw"),
        ({"board": "jetson-agx-orin"}, "DevicePolicy=auto"),
        ({"python": "/home/pi/venv/bin/python"}, "ProtectHome=read-only"),
        ({"config": "/tmp/agent.toml"}, "PrivateTmp=no"),
        ({"state_dir": "/data/agent"}, "ReadWritePaths=/data/agent"),
        ({"systemd_version": 254}, "RestartSteps=6"),
        ({"user": "pi"}, "User=pi"),
    ],
)
def test_the_drop_in_holds_what_is_particular_to_the_machine(changes, expected):
    """Each fact that the shipped unit cannot know adds its lines, and only then."""
    assert expected in local_conf(facts(**changes)).splitlines()
    assert expected not in local_conf(facts()).splitlines()


def test_uninstalling_undoes_the_files_and_keeps_the_models():
    """What was written is removed; state and configuration are not mentioned."""
    removed = {step.path for step in plan_uninstall() if isinstance(step, Remove)}
    written = {step.path for step in plan_install(facts()) if isinstance(step, WriteFile)}

    assert written <= removed
    assert not any("/var/lib" in str(step) or "/etc/edgepick" in str(step) for step in plan_uninstall())


@pytest.mark.parametrize("own", [(), ("20-more.conf",)])
def test_a_drop_in_of_ones_own_stays(tmp_path, monkeypatch, own):
    """The service is gone; the folder goes too, unless something lies there that the page told people to put there."""
    monkeypatch.setattr(plans, "UNIT_PATH", str(tmp_path / UNIT))
    monkeypatch.setattr(plans, "LOCAL_FOLDER", str(tmp_path / "unit.d"))
    monkeypatch.setattr(plans, "LOCAL_PATH", str(tmp_path / "unit.d" / "10-local.conf"))
    (tmp_path / "unit.d").mkdir()
    for name in (UNIT, "unit.d/10-local.conf", *(f"unit.d/{name}" for name in own)):
        (tmp_path / name).touch()

    adapter.carry_out(step for step in plan_uninstall() if "systemctl" not in str(step))

    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert sorted(left) == (["unit.d", "unit.d/20-more.conf"] if own else [])


def test_the_plan_gives_the_account_what_root_left_in_its_state(tmp_path):
    """Files that a run as root made become the account's; a link, and what else lies there, are left alone."""
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    state = tmp_path / "state"
    (state / "outbox").mkdir(parents=True)
    for path in (state / "state.json", state / "outbox/1.json", state / "other", tmp_path / "secret"):
        path.touch()
    (state / "store").symlink_to(tmp_path / "secret")

    plan = plan_install(facts(state_dir=str(state), user="nobody"))
    adapter.carry_out(
        step for step in plan if isinstance(step, RunCommand) and step.arguments[-1].startswith(str(state))
    )

    nobody = pwd.getpwnam("nobody").pw_uid
    given = {path.name for path in state.rglob("*") if path.lstat().st_uid == nobody}
    assert given == {"state.json", "outbox", "1.json", "store"}
    assert (state.stat().st_uid, (tmp_path / "secret").stat().st_uid) == (nobody, 0)


def test_the_steps_of_a_plan_are_carried_out(tmp_path):
    """Files are written whole, removed if there, and a failing command names itself."""
    path = tmp_path / "unit.d" / "10-local.conf"
    adapter.carry_out([WriteFile(path=str(path), text="[Service]\n")])
    written = path.read_text()
    adapter.carry_out([Remove(path=str(path)), Remove(path=str(path))])

    assert written == "[Service]\n"
    assert list(path.parent.iterdir()) == []
    with pytest.raises(AgentError, match="false: exit code 1"):
        adapter.carry_out([RunCommand(arguments=("false",))])
    with pytest.raises(AgentError, match="no-such-program is not installed"):
        adapter.carry_out([RunCommand(arguments=("no-such-program",))])
    with pytest.raises(StorageError):
        adapter.carry_out([WriteFile(path="/proc/none/x", text="")])
    adapter.carry_out([RunCommand(arguments=("false",), may_fail=True)])


@given(st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1, max_size=30))
def test_a_quoted_path_is_one_word_for_systemd(path):
    """Undoing systemd's quoting, specifiers and variables gives the path back."""
    word = quoted(path)
    bare = re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') and len(word) > 1 else word

    assert bare.replace("%%", "%").replace("$$", "$") == path
    assert word.startswith('"') or not re.search(r"[\s\"'\\%$;]", word)


def test_systemd_is_told_over_its_socket(tmp_path, monkeypatch):
    """A state arrives as one datagram, and without a socket nothing happens."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("notify")
        server.settimeout(5)
        notifier({"NOTIFY_SOCKET": "notify"})("READY=1")

        assert server.recv(100) == b"READY=1"
    notifier({"NOTIFY_SOCKET": "notify"})("READY=1")
    notifier({})("READY=1")


def test_an_abstract_socket_is_understood():
    """Systemd may name a socket that is no file, with an @ in front."""
    name = f"edgepick-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0{name}")
        server.settimeout(5)
        notifier({"NOTIFY_SOCKET": f"@{name}"})("STOPPING=1")

        assert server.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(environ, expected):
    """The period is half of systemd's, and only for the process that it is meant for."""
    assert watchdog_seconds(environ) == expected
