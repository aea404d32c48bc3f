"""The doctor: what ails a device is a line with a cure, and a healthy one gets a clean bill."""

import errno
import json
import os
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from edgepick_agent import app
from edgepick_agent.adapters import inspection
from edgepick_agent.cli import site
from edgepick_agent.cli.doctor import CHECKS, PIP_LINES, examine
from edgepick_agent.config import load_settings
from edgepick_agent.core.findings import Finding, Level, worst
from edgepick_agent.core.service import LOCAL_PATH
from edgepick_wire.manifest import RuntimeName
from edgepick_wire.messages import RuntimeAvailable

MOUNTS = """/dev/mmcblk0p2 / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 /media/usb\\040stick vfat rw 0 0
tmpfs /run/user/1000 tmpfs rw 0 0
"""


LITERT = RuntimeAvailable(name="litert", version="2.1")


@pytest.fixture(autouse=True)
def one_runtime(monkeypatch):
    """Spare the tests that are about something else a process that looks for runtimes."""
    monkeypatch.setattr(app, "available_runtimes", lambda _settings: (LITERT,))


def findings(config_file):
    return {f.check: f for f in reversed(list(examine(config_file, {}, progress=False)))}


def set_key(config_file, line):
    key = line.partition(" = ")[0]
    kept = [old for old in config_file.read_text().splitlines() if not old.startswith(f"{key} = ")]
    config_file.write_text("\n".join([line, *kept]) + "\n")


def test_a_device_whose_broker_answers_is_ready(command, config_file, broker, monkeypatch):
    """With broker, document, disk and a runtime in order nothing fails, and the exit code is 0."""
    monkeypatch.undo()  # the real runtimes
    text = config_file.read_text().replace("port = 1", f"port = {broker.port}")
    config_file.write_text(text)

    result = command("doctor", "-c", config_file)

    assert result.exit_code == 0, result.output
    assert "FAIL" not in result.output
    for check in ("configuration", "root document", "state directory", "clock", "broker login", "runtime", "power"):
        assert f"OK    {check}" in result.output
    assert result.output.splitlines()[-1].startswith("ready")


def test_a_broker_that_is_away_is_one_failure_with_its_cure(command, config_file):
    """The failed step says what to do, the rest is still checked, and the exit code is 1."""
    result = command("doctor", "-c", config_file, "--json")
    document = json.loads(result.stdout)
    failed = [f for f in document["findings"] if f["level"] == "fail"]

    assert (result.exit_code, document["worst"]) == (1, "fail")
    assert [f["check"] for f in failed] == ["broker port"]
    assert "is the broker running" in failed[0]["mend"]


def test_every_problem_of_the_configuration_is_a_finding(config_file):
    """A wrong file is not the end of the examination, but its first findings."""
    set_key(config_file, 'device = "Pi 7"')
    set_key(config_file, 'fleet = "Farm"')

    found = list(examine(config_file, {}, progress=False))

    assert [f.check for f in found] == ["configuration", "configuration"]
    assert worst(found) is Level.FAIL


def test_a_missing_configuration_is_a_finding(tmp_path):
    """Without a file, the doctor says how to make one."""
    found = list(examine(tmp_path / "none.toml", {}, progress=False))

    assert (found[0].check, found[0].level) == ("configuration", Level.FAIL)
    assert "edgepick-agent init" in found[0].mend


def test_a_root_document_of_another_fleet_is_found(config_file):
    """The document must speak for the fleet that the configuration names."""
    set_key(config_file, 'fleet = "other"')

    assert "'farm'" in findings(config_file)["root document"].detail


@pytest.mark.parametrize("damage", ["away", "flipped", "no document"])
def test_a_damaged_root_document_is_found(config_file, root_file, damage):
    """A document that is away, altered or none at all is a failure of its own."""
    data = bytearray(root_file.read_bytes())
    data[-30] ^= 1
    root_file.write_bytes({"away": b"", "flipped": bytes(data), "no document": b"hello"}[damage])
    if damage == "away":
        root_file.unlink()

    found = findings(config_file)["root document"]

    assert found.level is Level.FAIL
    assert found.mend


def test_a_state_directory_that_cannot_be_made_is_found(config_file):
    """A place that cannot be made says so, with the command that makes it for who runs the service."""
    file = config_file.with_name("f")
    file.touch()
    set_key(config_file, f"state_dir = {json.dumps(str(file / 's'))}\nsysfs_root = {json.dumps(str(file.parent))}")
    local = file.parent / LOCAL_PATH.removeprefix("/")
    local.parent.mkdir(parents=True)
    local.write_text("[Service]\nUser=pi\n")

    found = findings(config_file)["state directory"]

    assert found.level is Level.FAIL
    assert found.mend == f"sudo install -d -o pi {file / 's'}"


@pytest.mark.parametrize(
    ("number", "word"), [(errno.EACCES, "put sudo before"), (errno.EROFS, "read-only"), (errno.EIO, "dmesg")]
)
def test_a_state_directory_that_cannot_be_written_has_a_mend_for_its_cause(config_file, monkeypatch, number, word):
    """Another account's, mounted read-only, broken: the owner is named, and nobody is told to make the folder anew."""
    state = config_file.parent / "state"
    state.mkdir()

    def write(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(type(state), "write_bytes", write)

    found = findings(config_file)["state directory"]

    assert (found.level, state.owner() in found.detail) == (Level.FAIL, True)
    assert word in found.mend
    assert "install -d" not in found.mend


def test_a_state_directory_in_memory_is_a_warning(config_file, monkeypatch):
    """A tmpfs works, but forgets; that is said."""
    monkeypatch.setattr(inspection, "file_system", lambda _path, _mounts: "tmpfs")

    found = findings(config_file)["state directory"]

    assert (found.level, "tmpfs" in found.detail) == (Level.WARN, True)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/var/lib/x", "ext4"), ("/run/x", "tmpfs"), ("/running", "ext4"), ("/media/usb stick/x", "vfat")],
)
def test_the_file_system_is_that_of_the_deepest_mount(tmp_path, path, kind):
    """The longest mount point above a path decides, and spaces in it are understood."""
    assert inspection.file_system(type(tmp_path)(path), MOUNTS) == kind


@pytest.mark.parametrize(("free_mib", "level"), [(1, Level.FAIL), (100, Level.WARN), (5000, Level.OK)])
def test_little_space_is_said_before_it_is_none(tmp_path, monkeypatch, free_mib, level):
    """The disk is fine, short or full, and each is told apart."""
    facts = type("Facts", (), {"f_bavail": free_mib, "f_frsize": 1024**2})()
    monkeypatch.setattr(inspection.os, "statvfs", lambda _path: facts)

    assert inspection._space(tmp_path).level is level


def test_a_clock_before_the_release_is_a_warning():
    """A board without a battery that thinks it is 1970 is told so."""
    assert inspection._clock(0.0).level is Level.WARN
    assert inspection._clock(inspection.RELEASED + 1.0).level is Level.OK


@pytest.mark.parametrize(
    ("profile", "files", "failed"),
    [
        ("generic-linux", (), ()),
        ("coral-usb-accelerator", (), ("accelerator", "edge tpu library")),
        ("coral-dev-board", ("dev/apex_0", "usr/lib/aarch64-linux-gnu/libedgetpu.so.1"), ()),
        ("coral-dev-board", ("dev/apex_0",), ("edge tpu library",)),
        ("jetson-orin-nano", ("dev/nvhost-gpu",), ()),
        ("jetson-orin-nano", (), ("accelerator",)),
    ],
)
def test_the_accelerator_that_the_profile_needs_is_looked_for(tmp_path, profile, files, failed):
    """Device node and library are checked for the profiles that need them."""
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = list(inspection._accelerator(profile, tmp_path))

    assert tuple(f.check for f in found if f.level is Level.FAIL) == failed


def test_a_profile_that_is_not_this_machine_is_a_warning(config_file):
    """A board named that is not the one detected is questioned, unless it is declared a stand-in."""
    set_key(config_file, 'profile = "raspberry-pi-5"')
    suspicious = findings(config_file)["board"]
    set_key(config_file, "stand_in = true")

    assert (suspicious.level, findings(config_file)["board"].level) == (Level.WARN, Level.OK)


def test_a_check_that_breaks_hides_no_other(config_file, monkeypatch):
    """A defect in one check is a warning, and the checks after it still run."""

    def broken(_settings):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(site, "inspect_machine", broken)

    found = findings(config_file)

    assert (found["machine"].level, "oops" in found["machine"].detail) == (Level.WARN, True)
    assert "broker port" in found


def test_no_runtime_at_all_is_a_failure_with_a_pip_line(config_file, monkeypatch):
    """A device that can run nothing is told what to install."""
    monkeypatch.setattr(app, "available_runtimes", lambda *_args, **_kwargs: ())

    found = findings(config_file)["runtime"]

    assert (found.level, "pip install" in found.mend) == (Level.FAIL, True)


def test_a_runtime_that_is_configured_but_absent_is_named(config_file, monkeypatch):
    """Each runtime that the configuration asks for and that is not there has its own pip line."""
    monkeypatch.setattr(app, "available_runtimes", lambda *_args, **_kwargs: ())
    (runtimes,) = (check for check in CHECKS if check.__name__ == "_runtimes")
    with config_file.open("a") as file:
        file.write('\n[runner]\nruntimes = ["tflite_runtime"]\n')

    found = list(runtimes(load_settings(config_file, {})))

    assert "edgepick[tflite]" in found[0].mend


def test_every_runtime_has_a_pip_line():
    """What can be missing can be installed."""
    assert set(PIP_LINES) == {runtime.value for runtime in RuntimeName}


def test_the_worst_finding_decides():
    """Levels are ordered, and nothing found is fine."""
    some = [Finding(check="a", level=level, detail="") for level in (Level.OK, Level.FAIL, Level.WARN)]

    assert (worst(some), worst(some[::2]), worst([])) == (Level.FAIL, Level.WARN, Level.OK)


class Stranger(BaseHTTPRequestHandler):
    """Answers as a web server of somebody else's."""

    def do_GET(self) -> None:
        """Answer something that is JSON, but of no runner."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"name": "somebody else"}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def with_port(config_file, port):
    text = config_file.read_text()
    config_file.write_text(f"{text}\n[runner]\ntcp_port = {port}\n")
    return findings(config_file)["tcp port"]


def test_a_port_that_another_program_has_is_found(config_file):
    """It says that the port is taken, that the socket is not touched by it, and how to find out who has it."""
    with HTTPServer(("127.0.0.1", 0), Stranger) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        found = with_port(config_file, other.server_port)
        other.shutdown()

    assert found.level is Level.WARN
    assert f"{other.server_port} cannot be served on: address already in use" in found.detail
    assert f"sport = :{other.server_port}" in found.mend


def test_a_free_port_stays_free(config_file):
    """Nothing listens on it after the check."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    found = with_port(config_file, port)

    assert (found.level, found.detail) == (Level.OK, f"{port} is free")
    socket.create_server(("127.0.0.1", port)).close()


def test_without_a_port_there_is_none_to_check(config_file):
    """Most devices serve on the socket alone."""
    assert "tcp port" not in findings(config_file)
