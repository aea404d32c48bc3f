"""``edgepick devices`` against a real broker."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from edgepick_host import app
from edgepick_host.cli import devices as commands
from edgepick_host.cli import render
from edgepick_wire import codec, topics
from edgepick_wire.messages import Birth, ModelState, Phase, Presence, Refusal, RefusalCode, Reported
from edgepick_wire.topics import DeviceTopic
from fakes.host_site import FLEET, two_variants

WAIT_SECONDS = 60


@pytest.fixture
def fleet(broker, site):
    """Provide a way to speak as a device."""
    connection = app.connect_broker(site.settings(broker=broker.url))

    def say(device: str, kind: DeviceTopic, message: object) -> None:
        connection.publish(topics.device(FLEET, device, kind), codec.encode(message), retain=True)

    yield say
    connection.close()


def born(device: str, session: int = 1, *, stand_in: bool = False) -> Birth:
    return Birth(
        device=device,
        session=session,
        profile="raspberry-pi-4",
        agent_version="0.1.0",
        machine="aarch64",
        system="Linux",
        python="3.11",
        runtimes=(),
        memory_bytes=4 * 1024**3,
        disk_free_bytes=1024**3,
        stand_in=stand_in,
        labels={"site": "hall 3"},
    )


def running(device: str) -> Reported:
    refusal = Refusal(code=RefusalCode.TRIAL_FAILED, detail="3 of 10 agree", hint="look at the report")
    state = ModelState(
        model="digits", phase=Phase.REVERTED, active="a" * 64, active_label="float32", wanted="b" * 64, refusal=refusal
    )
    return Reported(device=device, session=1, sequence=7, security_epoch=2, models=(state,))


def test_list_without_a_service(broker, site, edgepick, fleet):
    """Devices are listed from what the broker retains, with presence and what they run; no database is made."""
    fleet("pi-1", DeviceTopic.BIRTH, born("pi-1", stand_in=True))
    fleet("pi-1", DeviceTopic.PRESENCE, Presence(session=1, online=True))
    fleet("pi-1", DeviceTopic.REPORTED, running("pi-1"))
    fleet("pi-2", DeviceTopic.BIRTH, born("pi-2"))
    fleet("pi-2", DeviceTopic.PRESENCE, Presence(session=1, online=False))

    listed = edgepick("devices", "list", "--broker", broker.url)
    as_json = edgepick("devices", "list", "--broker", broker.url, "--json").json()

    assert listed.code == 0
    assert "(stand-in)" in listed.out
    assert [(d["device"], d["online"]) for d in as_json] == [("pi-1", True), ("pi-2", False)]
    assert not (site.folder / "edgepick.db").exists()


def test_show_tells_why(broker, edgepick, fleet):
    """One device is shown with its machine, its labels, and why it does not run what it should."""
    fleet("pi-1", DeviceTopic.BIRTH, born("pi-1"))
    fleet("pi-1", DeviceTopic.REPORTED, running("pi-1"))

    shown = edgepick("devices", "show", "pi-1", "--broker", broker.url)

    for word in ("hall 3", "4 GiB", "trial-failed", "3 of 10 agree", "look at the report", "float32"):
        assert word in shown.out
    assert edgepick("devices", "show", "pi-1", "--broker", broker.url, "--json").json()["device"] == "pi-1"


def test_show_a_device_that_is_not_there(broker, edgepick):
    """An unknown device gives exit code 1, a name that cannot be one exit code 2."""
    unknown = edgepick("devices", "show", "pi-9", "--broker", broker.url)
    impossible = edgepick("devices", "show", "Pi 9", "--broker", broker.url)

    assert (unknown.code, impossible.code) == (1, 2)
    assert "never heard of device 'pi-9'" in unknown.err


def test_unreadable_birth_is_a_warning(broker, edgepick, fleet):
    """A device that says nonsense is named in a warning; the list is printed all the same."""
    fleet("pi-1", DeviceTopic.BIRTH, born("pi-1"))
    fleet("pi-2", DeviceTopic.BIRTH, born("pi-3"))

    listed = edgepick("devices", "list", "--broker", broker.url, "--json")

    assert listed.code == 0
    assert [d["device"] for d in listed.json()] == ["pi-1"]
    assert "warning: " in listed.err
    assert "pi-2/birth" in listed.err


def test_empty_fleet(broker, site, edgepick):
    """A fleet that nobody has spoken for is said to be empty, by its name and broker."""
    listed = edgepick("devices", "list", "--broker", broker.url)

    assert listed.code == 0
    assert f"no device of fleet {FLEET} has been heard at 127.0.0.1:{broker.port}" in listed.out


def test_broker_away(edgepick):
    """Without a broker the exit code is 3."""
    assert edgepick("devices", "list", "--broker", "mqtt://127.0.0.1:1").code == 3


def test_publish_to_one_device(broker, edgepick, fleet, site):
    """``publish --device`` tells that device alone, by the profile of its birth."""
    fleet("pi-1", DeviceTopic.BIRTH, born("pi-1"))
    folder = two_variants(site.folder / "out")

    done = edgepick("publish", folder, "--broker", broker.url, "--device", "pi-1", "--json").json()

    assert [(t["kind"], t["target"], t["measure"]) for t in done["targets"]] == [("device", "pi-1", 2)]


def test_watch_sees_a_death(broker, site, fleet):
    """``watch --json`` prints a line per change until Ctrl-C, which ends it with exit code 0."""
    fleet("pi-1", DeviceTopic.BIRTH, born("pi-1"))
    fleet("pi-1", DeviceTopic.PRESENCE, Presence(session=1, online=True))
    command = [sys.executable, "-m", "edgepick_host", "devices", "watch", "--broker", broker.url, "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=site.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watcher:
        guard = threading.Timer(WAIT_SECONDS, watcher.kill)
        guard.start()
        lines = (json.loads(line) for line in watcher.stdout)

        next(found for found in lines if [d["online"] for d in found] == [True])
        fleet("pi-1", DeviceTopic.PRESENCE, Presence(session=1, online=False))
        next(found for found in lines if [d["online"] for d in found] == [False])
        watcher.send_signal(signal.SIGINT)
        code = watcher.wait(WAIT_SECONDS)
        guard.cancel()
        errors = watcher.stderr.read()

    assert (code, errors) == (0, "")


def test_watch_for_a_while(broker, edgepick, fleet, monkeypatch):
    """``watch --for`` draws the table and ends by itself."""
    fleet("pi-1", DeviceTopic.BIRTH, born("pi-1"))
    drawn, draw = threading.Event(), render.table

    def seen(columns, rows):
        table = draw(columns, rows)
        if rows:
            drawn.set()
        return table

    class Clock:  # stands still until the device has been heard, however long that takes
        def monotonic(self) -> float:
            return time.monotonic() if drawn.is_set() else 0.0

    monkeypatch.setattr(render, "table", seen)
    monkeypatch.setattr(commands, "time", Clock())

    done = edgepick("devices", "watch", "--broker", broker.url, "--for", "0.5")

    assert done.code == 0
    assert "pi-1" in done.out
