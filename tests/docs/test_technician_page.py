"""The technician's page: a device that never saw a network, a stick, and the four commands as they stand there."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.doc_commands import DOCS, PROGRAMS, commands
from edgepick_wire.messages import Outcome
from fakes.free_ports import free_port
from integration.conftest import compressed
from integration.whole_system import DATA, DEADLINE_SECONDS, Host, until

AS_ROOT = "sudo -E env PATH=$PATH "
QUESTION = b"[y/N]"
SILENCE_SECONDS = 120


def page_line(beginning: str) -> str:
    """Return the one command line of the page that begins like this."""
    found = re.findall(rf"^{re.escape(beginning)}.*$", (DOCS / "technician.md").read_text(), re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


class Bench:
    """A board on a technician's table: a shell in a terminal, and the agent as its service."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.broker = broker
        self.stick = folder / "usb"
        self.stick.mkdir()
        self.service: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("EDGEPICK_")},
            "PATH": PROGRAMS,
            "EDGEPICK_AGENT_CONFIG": str(folder / "agent.toml"),
            "EDGEPICK_AGENT_STATE_DIR": str(folder / "state"),
        }

    def shell(self, script: str) -> str:
        """Return what a script showed on a terminal where every question is answered with yes; it ended well."""
        script = script.replace("/media/usb", str(self.stick)).replace("192.168.1.10", self.broker)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        shown = b""
        while piece := self._read(ours, process, shown):
            if QUESTION in shown[-len(QUESTION) :] + piece:
                os.write(ours, b"y\n")
            shown += piece
        os.close(ours)
        assert process.wait(DEADLINE_SECONDS) == 0, shown.decode()
        return shown.decode()

    def _read(self, terminal: int, process: "subprocess.Popen[bytes]", shown: bytes) -> bytes:
        if not select.select([terminal], [], [], SILENCE_SECONDS)[0]:
            process.kill()
            raise AssertionError(f"nothing more came: {shown.decode()}")
        try:
            return os.read(terminal, 4096)
        except OSError:  # every process has closed the other end
            return b""

    def start_service(self) -> None:
        with (self.folder / "agent.log").open("wb") as log:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "edgepick_agent", "run", "--config", str(self.folder / "agent.toml")],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self.service is not None:
            self.service.send_signal(signal.SIGTERM)
            self.service.wait(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Provide the demo's model in two variants."""
    return compressed(tmp_path_factory.mktemp("both"), "digits.tflite", "v1", "float32", "static_wi8_ai8")


@pytest.fixture
def operator(tmp_path):
    folder = tmp_path / "host"
    folder.mkdir()
    return Host(folder, f"mqtt://127.0.0.1:{free_port()}")


@pytest.fixture
def table(tmp_path, operator):
    made = Bench(tmp_path, operator.url.removeprefix("mqtt://"))
    yield made
    made.stop()


def fill(stick: Path, operator: Host, both: Path) -> None:
    """Put on the stick what an operator does: root document, bundles, and a model to be measured."""
    (stick / "root.signed").write_bytes(operator.root.read_bytes())
    (stick / "model.tflite").write_bytes((DATA / "digits.tflite").read_bytes())
    for name, (variant, version) in {"old": ("float32-tflite", "1"), "digits": ("static_wi8_ai8-tflite", "2")}.items():
        done = operator(
            *("bundle", "build", both, "--variant", variant, "--version", version),
            *("--out", stick / f"{name}.edgepick"),
        )
        assert done.code == 0, done.err


@pytest.mark.slow
def test_a_technician_with_a_stick_and_no_network(table, operator, both, broker):
    """Set up, install, look, measure and return work from the page alone; later the host learns of all of it."""
    fill(table.stick, operator, both)
    told = table.shell(page_line(f"{AS_ROOT}edgepick-agent init").removeprefix(AS_ROOT))
    table.start_service()
    table.shell("until edgepick-agent status; do sleep 0.2; done; edgepick-agent install /media/usb/old.edgepick")

    shown = table.shell(commands("technician.md"))
    broker.stop()
    broker.port = int(operator.url.rpartition(":")[2])
    broker.start()
    with operator.service():
        heard = until(lambda: outcomes(operator), "the host hears of everything")
        listed = until(lambda: reported(operator), "the host hears what runs")

    benchmarked = (table.stick / f"{socket.gethostname()}.json").read_text()
    assert "agent.toml" in told
    assert "digits: confirmed, active digits 2 static_wi8_ai8-tflite" in shown
    assert "digits: confirmed, active digits 1 float32-tflite" in shown
    assert '"p50' in benchmarked
    assert heard == [Outcome.CONFIRMED, Outcome.CONFIRMED, Outcome.REVERTED]
    assert (listed["active_label"], listed["pinned"]) == ("digits 1 float32-tflite", True)


def outcomes(operator: Host) -> list[Outcome] | None:
    """Return what the host has heard of installing and returning, once it is all."""
    with operator.store() as store:
        found = [r.install.outcome for d in store.devices() for r in store.reports(device=d.device) if r.install]
    return found if len(found) == 3 else None


def reported(operator: Host) -> Any:
    """Return what the one device says of its one model."""
    found = operator.ask("devices", "list", "--json").json()
    return found[0]["reported"]["models"][0] if found and found[0].get("reported") else None
