"""A simulated fleet whose reports a host does not get: told of where a host is there, and nowhere else."""

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from edgepick_host.cli.main import run
from edgepick_host.simulate.hearing import Hearing, overdue
from edgepick_host.simulate.scenario import Ailment, Scenario, identities
from edgepick_host.simulate.state import DeviceState
from edgepick_wire.messages import Presence
from fakes.free_ports import free_port
from host.simulate.conftest import SimSite
from integration.tls_plant import MOSQUITTO, TlsBroker

HOST = Presence(session=7, online=True)
WARNING = "warning: the host is there and acknowledges none of"


@pytest.fixture
def guarded(site, capsys):
    """Provide a broker that `edgepick broker init` configured, not started yet; the site's settings lead to it."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    port = free_port()
    words = ["broker", "init", "--host", "localhost", "--port", str(port), "--fleet", site.settings().fleet, "--json"]
    assert run(words) == 0
    config = site.folder / "edgepick.toml"
    config.write_text(config.read_text().partition("[broker]")[0] + json.loads(capsys.readouterr().out)["settings"])
    made = TlsBroker(site.folder / "broker" / "server", port)
    yield made
    made.stop()


class Devices:
    """The running command, and what it has said so far."""

    def __init__(self, folder, resend: float) -> None:
        scenario = folder / "fleet.toml"
        scenario.write_text(f"[pace]\nfetch = 0.1\nconfirm = 0.1\nmeasure = 0.1\nresend = {resend}\n")
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        words = [sys.executable, "-m", "edgepick_host", "simulate", "--devices", "3", "--scenario", scenario, "--json"]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(list(map(str, words)), cwd=folder, stdout=out, stderr=err)

    @property
    def said(self) -> str:
        return self._err.read_text()

    @property
    def tallies(self) -> list[dict]:
        lines = self._out.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def all_in(self) -> bool:
        """Return whether all three run something that they have confirmed, and every report of it is acknowledged."""
        return any(now["phases"].get("confirmed") == 3 and now["waiting"] == 0 for now in self.tallies)


@contextmanager
def simulated(site: SimSite, resend: float):
    """Publish something for the command's devices, and have them there."""
    site.publish("float32", "1", activate="float32")
    devices = Devices(site.folder, resend)
    try:
        yield devices
    finally:
        devices.process.terminate()
        devices.process.wait()


def test_a_fleet_that_the_access_list_silences_is_warned_of_once(site, guarded):
    """The broker acknowledges and drops what devices say; the command says what that looks like, and goes on."""
    guarded.start()
    plant = SimSite(site, f"mqtts://localhost:{guarded.port}")

    with simulated(plant, resend=0.3) as devices:
        plant.host_until(lambda: WARNING in devices.said, "the warning")
        before = len(devices.tallies)
        plant.host_until(lambda: len(devices.tallies) > before + 1, "it goes on")

    assert devices.process.returncode == 0
    assert any(now["unheard"] for now in devices.tallies)
    assert devices.said.count("warning:") == 1
    assert "docs/simulate.md" in devices.said


def test_the_same_broker_without_its_list_hears_the_fleet(site, guarded):
    """TLS and the host's certificate are enough: what docs/simulate.md names as the way to do it works."""
    config = guarded.folder / "mosquitto.conf"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("acl_file")))
    guarded.start()
    plant = SimSite(site, f"mqtts://localhost:{guarded.port}")

    with simulated(plant, resend=300.0) as devices:
        plant.host_until(devices.all_in, "every report is acknowledged")

    assert devices.said == ""
    assert len(lines) - len(config.read_text().splitlines()) == 1


def test_a_host_is_silent_from_its_last_word_on():
    """Its coming and each acknowledgement begin the time anew; where no host is, nobody is silent."""
    hearing = Hearing()
    assert not hearing.is_silent(1000.0, patience=5.0)

    hearing.saw(HOST, 1000.0)
    hearing.saw(HOST, 1004.0)
    assert (hearing.is_silent(1005.0, patience=5.0), hearing.is_silent(1005.1, patience=5.0)) == (False, True)

    hearing.acknowledged(1005.0)
    assert (hearing.is_silent(1010.0, patience=5.0), hearing.is_silent(1010.1, patience=5.0)) == (False, True)

    hearing.saw(Presence(session=7, online=False), 1011.0)
    assert not hearing.is_silent(2000.0, patience=5.0)


def test_a_new_host_gets_its_time_and_an_old_will_says_nothing():
    """A host that just came has not had the time to answer; the last will of the one before is about that one."""
    hearing = Hearing()
    hearing.saw(HOST, 0.0)

    hearing.saw(Presence(session=8, online=True), 100.0)
    hearing.saw(Presence(session=7, online=False), 103.0)

    assert not hearing.is_silent(104.0, patience=5.0)
    assert hearing.is_silent(106.0, patience=5.0)


@pytest.mark.parametrize(
    ("ailment", "change", "count"),
    [
        (None, {}, 2),
        (None, {"resend_pause": 30.0}, 0),
        (None, {"online": False}, 0),
        (Ailment.NAN, {}, 0),
    ],
    ids=["sent again", "not yet", "gone", "a liar's"],
)
def test_reports_are_overdue_once_they_were_sent_again(ailment, change, count):
    """Those of devices that lie are not: a host cannot read them, let alone acknowledge them."""
    device = replace(identities(Scenario(), 1)[0], ailment=ailment)
    state = DeviceState(online=True, outbox={"a": b"", "b": b""}, resend_pause=60.0)

    assert overdue(device, replace(state, **change)) == count
