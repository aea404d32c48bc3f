"""Broken set-ups, each a real one: ``doctor`` and ``status`` both say what is wrong, and what to do about it."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgepick_agent.adapters import inspection
from fakes.certificates import Authority

PAGE = (Path(__file__).parents[3] / "docs/technician.md").read_text(encoding="utf-8")
PATIENCE_SECONDS = 60.0


@dataclass
class Site:
    """A device in a test: its configuration, what breaks it, and the fixtures to do so."""

    config: Path
    tmp: Path
    broker: Any
    start_broker: Callable[[str], Any]
    agent: Callable[..., Any]
    command: Callable[..., Any]
    bundle: Callable[..., Path]
    patch: pytest.MonkeyPatch
    before: list[str] = field(default_factory=list)
    """What commands are run through."""
    kept: list[Any] = field(default_factory=list)
    """What is held open while the commands run."""

    def set(self, **values: object) -> None:
        """Set keys of the configuration; a name with two underscores is in a section."""
        lines = self.config.read_text().splitlines()
        for name, value in values.items():
            section, _, key = name.rpartition("__")
            lines = [line for line in lines if not line.startswith(f"{key} = ")]
            at = lines.index(f"[{section}]") + 1 if section else 0
            lines.insert(at, f"{key} = {json.dumps(value)}")
        self.config.write_text("\n".join(lines) + "\n")

    def connect(self, **values: object) -> None:
        """Have the device use the broker that runs."""
        self.set(broker__port=self.broker.port, **values)

    def encrypted(self, *, extra: str = "", **changes: Any) -> Authority:
        """Have the device use a broker with a certificate that was made so."""
        authority = Authority.begin(self.tmp)
        certificate, key = authority.issue("broker", **changes)
        broker = self.start_broker(f"cafile {authority.ca}\ncertfile {certificate}\nkeyfile {key}\n{extra}")
        self.set(broker__port=broker.port, broker__tls=True, broker__ca_file=str(authority.ca))
        return authority

    def installed(self) -> Any:
        """Have an agent run that has a confirmed model."""
        self.connect()
        with self.config.open("a") as file:
            file.write("\n[runner]\nconfirm_seconds = 0.2\nhealth_interval_seconds = 0.1\nhealthy_seconds = 600\n")
        process = self.agent()
        assert self.command("install", self.bundle("1"), "-c", self.config, "--yes").exit_code == 0
        return process

    def tree(self, **files: str) -> None:
        """Have /sys and the rest of the machine be these files."""
        for name, content in files.items():
            path = self.tmp / "tree" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (self.tmp / "tree").mkdir(exist_ok=True)
        self.set(sysfs_root=str(self.tmp / "tree"))


# --- how each is broken ---------------------------------------------------------------------------


def refused(site: Site) -> None:
    site.agent()


def unresolved(site: Site) -> None:
    site.set(broker__host="no-such-host.invalid")
    site.agent()


def wrong_password(site: Site) -> None:
    secret = site.tmp / "password"
    secret.write_text("wrong")
    (site.tmp / "passwords").write_text("")
    port = site.start_broker(f"allow_anonymous false\npassword_file {site.tmp / 'passwords'}").port
    site.set(broker__port=port, broker__username="pi", broker__password_file=str(secret))
    site.agent()


def expired(site: Site) -> None:
    site.encrypted(begins=-100, ends=-1)
    site.agent()


def clock_behind(site: Site) -> None:
    site.encrypted(begins=1, ends=100)
    site.agent()
    now = SimpleNamespace(time=lambda: 3600.0, strftime=time.strftime, gmtime=time.gmtime)
    site.patch.setattr(inspection, "time", now)


def other_host_name(site: Site) -> None:
    site.encrypted(host="broker.example")
    site.agent()


def stranger_of_a_broker(site: Site) -> None:
    site.encrypted()
    site.set(broker__ca_file=str(Authority.begin(site.tmp, "other").ca))
    site.agent()


def stranger_of_a_device(site: Site) -> None:
    site.encrypted(extra="require_certificate true")
    certificate, key = Authority.begin(site.tmp, "other").issue("pi-7", host=None)
    site.set(broker__cert_file=certificate, broker__key_file=key)
    site.agent()


def full_disk(site: Site) -> None:
    state = site.config.parent / "state"
    state.mkdir()
    small = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k none "$0" && exec "$@"', str(state)]
    if subprocess.run([*small, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    site.before += small


def no_right_to_write(site: Site) -> None:
    (site.config.parent / "state").mkdir(mode=0o555)
    site.before += unprivileged()


def no_runtime(site: Site) -> None:
    bare = site.tmp / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    site.connect()
    with site.config.open("a") as file:
        file.write(f'\n[runner]\npython = "{bare}"\n')
    site.agent()


def no_accelerator_library(site: Site) -> None:
    site.tree(**{"sys__bus__usb__devices__1-1__idVendor": "1a6e\n"})
    site.connect(profile="coral-usb-accelerator", stand_in=True)
    site.agent()


def unreadable_sensor(site: Site) -> None:
    zone = "sys__class__powercap__intel-rapl:0__"
    site.tree(**{zone + "name": "package-0\n", zone + "energy_uj": "1\n", zone + "max_energy_range_uj": "9\n"})
    (site.tmp / "tree" / (zone + "energy_uj").replace("__", "/")).chmod(0)
    site.connect()
    site.before += unprivileged()


def taken_port(site: Site) -> None:
    other = socket.create_server(("127.0.0.1", 0))
    site.kept.append(other)
    site.connect()
    with site.config.open("a") as file:
        file.write(f"\n[runner]\ntcp_port = {other.getsockname()[1]}\n")
    site.agent()


def broken_configuration(site: Site) -> None:
    site.set(devcie="pi-7")


def no_root_document(site: Site) -> None:
    site.set(root_document=str(site.tmp / "none.signed"))


def root_document_of_others(site: Site) -> None:
    site.set(fleet="orchard")


def held_by_another(site: Site) -> None:
    (site.config.parent / "state").mkdir()
    site.kept.append((site.config.parent / "state" / "lock").open("w"))
    fcntl.flock(site.kept[-1], fcntl.LOCK_EX)


def crashing_runner(site: Site) -> None:
    site.installed()
    for _ in range(2):
        os.kill(_runner_pid(site), signal.SIGKILL)
        time_limit = time.monotonic() + PATIENCE_SECONDS
        while _runner(site)["failures"] == 0:
            assert time.monotonic() < time_limit
            time.sleep(0.05)


def _runner(site: Site) -> dict[str, Any]:
    document = json.loads(site.command("status", "-c", site.config, "--json").stdout)
    (runner,) = document["status"]["runners"]
    return dict(runner)


def _runner_pid(site: Site) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _runner(site)["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(_runner(site)["pid"])


def pinned(site: Site) -> None:
    site.installed()
    assert site.command("pin", "-c", site.config).exit_code == 0


def unprivileged() -> list[str]:
    """Return what a command is run through so that a file's mode counts for it, even if it is root's."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]


SETUPS: dict[str, tuple[Callable[[Site], None], str, str, str]] = {
    "broker does not run": (refused, "connection refused", "is the broker running", "no broker listens: start it"),
    "broker's name is unknown": (unresolved, "no-such-host.invalid", "getent hosts", "correct broker.host"),
    "wrong password": (wrong_password, "user name", "broker.password_file", "compare broker.username"),
    "broker's certificate has expired": (expired, "has expired", "edgepick broker renew", "edgepick broker renew"),
    "this device's clock is behind": (
        clock_behind,
        "before this version was made",
        "timedatectl",
        "set this device's clock",
    ),
    "broker's certificate is for another name": (other_host_name, "another", "broker.host", "set broker.host"),
    "broker of another authority": (stranger_of_a_broker, "unknown authority", "copy ca.pem", "copy ca.pem"),
    "this device's certificate is refused": (
        stranger_of_a_device,
        "its authority is unknown",
        "enroll ID",
        "enroll ID",
    ),
    "the disk is full": (full_disk, " free", "du -xh", "the disk is full"),
    "the state directory cannot be written": (no_right_to_write, "permission denied", "put sudo", "put sudo"),
    "no runtime": (no_runtime, "no runtime can run", "edgepick[litert]", "edgepick[litert]"),
    "the accelerator's library is missing": (no_accelerator_library, "libedgetpu", "apt install", "apt install"),
    "a sensor may not be read": (unreadable_sensor, "readable by root only", "udev rule", "udev rule"),
    "the configuration is broken": (broken_configuration, "unknown key", "device", "device"),
    "no root document": (no_root_document, "no such file", "edgepick keys show", "edgepick keys show"),
    "root document of another fleet": (root_document_of_others, "'farm'", "root document of your fleet", "your fleet"),
    "another process holds the state": (held_by_another, "holds", "sudo kill", "sudo kill"),
    "the runner crashes again and again": (
        crashing_runner,
        "in a row",
        "edgepick-agent install FILE",
        "edgepick-agent logs",
    ),
    "another program has the models' port": (taken_port, "cannot be served on", "ss -ltnp", "ss -ltnp"),
    "pinned": (pinned, "until it is unpinned", "edgepick-agent unpin", "edgepick-agent unpin digits"),
}
"""What is broken -> how, what ``doctor`` names, the mend that it gives, and the mend that ``status`` gives."""


@pytest.fixture
def site(*, config_file, tmp_path, broker, start_broker, agent, command, bundle_file, monkeypatch):
    """Provide a device that nothing is wrong with, but that its broker is not there."""
    made = Site(config_file, tmp_path, broker, start_broker, agent, command, bundle_file, monkeypatch)
    yield made
    for held in made.kept:
        held.close()


def said_by(site, command):
    """Return everything that a command prints, on one line."""
    if not site.before:
        output = site.command(command, "-c", site.config).output
    else:
        arguments = [*site.before, sys.executable, "-m", "edgepick_agent", command, "-c", str(site.config)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
    assert "Traceback" not in output
    return " ".join(output.split())


def wait_until_said(site, command, words):
    """Return what a command prints once the words are in it: an agent needs a moment to notice."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(word in (said := said_by(site, command)) for word in words):
        assert time.monotonic() < deadline, f"{words} not in: {said}"
        time.sleep(0.1)
    return said


@pytest.mark.parametrize("name", SETUPS)
def test_a_broken_set_up_is_named_and_mended_by_doctor_and_status(name, site):
    """Both say, in words for this one trouble, what is wrong with the device and what to do about it."""
    break_it, named, doctors_mend, statuss_mend = SETUPS[name]
    break_it(site)

    shown = wait_until_said(site, "status", [statuss_mend])
    examined = wait_until_said(site, "doctor", [doctors_mend])

    assert named in shown.lower()
    assert named in examined.lower()


def test_each_broken_set_up_has_its_own_words():
    """No two of them are given the same advice by both commands."""
    mends = [(doctors, statuss) for _, _, doctors, statuss in SETUPS.values()]

    assert len(set(mends)) == len(mends) >= 10


@pytest.mark.parametrize("name", SETUPS)
def test_each_broken_set_up_is_in_the_technicians_page(name):
    """The page's table has a row for it."""
    assert f"| {name} |" in PAGE
