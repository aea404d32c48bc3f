"""Beside a device that works: one that floods, one that lies, and two that use one name, at a real broker."""

import json

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgepick_wire import codec, topics
from edgepick_wire.messages import Presence
from edgepick_wire.topics import DeviceTopic
from fleet.synthetic import birth, fell_back, manifest_of, measured, measurement, release
from integration.whole_system import DEADLINE_SECONDS, FLEET, MODEL, PROFILE, Device, until

REPORTS = 5_000
NOTHING = manifest_of("0", "nothing")


class Neighbour:
    """A device that speaks the protocol and keeps to nothing else."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.max_queued_messages_set(0)
        self.client.connect("127.0.0.1", int(url.rpartition(":")[2]))
        self.client.loop_start()

    def say(self, kind: DeviceTopic, payload: bytes) -> paho.MQTTMessageInfo:
        retain = kind is not DeviceTopic.REPORT
        return self.client.publish(topics.device(FLEET, self.name, kind), payload, qos=1, retain=retain)

    def come_up(self) -> None:
        self.say(DeviceTopic.BIRTH, codec.encode(birth(self.name, PROFILE)))
        self.say(DeviceTopic.PRESENCE, codec.encode(Presence(session=1, online=True)))

    def go(self) -> None:
        """Leave, and clear what is retained."""
        for kind in (DeviceTopic.BIRTH, DeviceTopic.PRESENCE):
            self.say(kind, b"").wait_for_publish(DEADLINE_SECONDS)
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def neighbour(plant, request):
    """Provide a device beside the plant's; another one for each test, since of one a line a minute is said."""
    made = Neighbour(plant[0].url, request.node.name[5:12])
    made.come_up()
    yield made
    made.go()


def test_a_flood_does_not_keep_a_device_from_being_heard(serving, neighbour):
    """While one sends thousands of reports and as much rubbish, another's report is stored and acknowledged."""
    host, _ = serving
    other = Neighbour(host.url, "honest")
    other.come_up()
    flood = [codec.encode(fell_back(neighbour.name, NOTHING, number=n)) for n in range(REPORTS)]

    for payload in flood:
        neighbour.say(DeviceTopic.REPORT, payload)
        last = neighbour.say(DeviceTopic.REPORT, b"{" * 100)
    report = fell_back(other.name, NOTHING)
    other.say(DeviceTopic.REPORT, codec.encode(report))
    until(lambda: host.reports(other.name), "the honest report is stored")
    last.wait_for_publish(DEADLINE_SECONDS)
    until(lambda: host.reports(neighbour.name), "of the flood something is stored, too")

    refused = [line for line in host.said().splitlines() if f"d/{neighbour.name}/report: " in line]
    assert host.reports(other.name) == [report]
    assert 1 <= len(refused) < 10  # one a minute, not five thousand
    other.go()


def test_a_lie_is_shown_as_one(serving, neighbour):
    """What cannot be stored is said by its field, what cannot be true is marked in the device's history."""
    host, _ = serving
    good = measured(neighbour.name, release("a"), measurement(), number=1)
    lie = measured(neighbour.name, release("b"), measurement(-1.0), number=2)
    spoiled = json.loads(codec.encode(measured(neighbour.name, release("c"), measurement(), number=3)))
    spoiled["measurement"]["measurement"]["latency"]["p95_ns"] = float("nan")

    neighbour.say(DeviceTopic.REPORT, json.dumps(spoiled).encode())
    for report in (lie, good):
        neighbour.say(DeviceTopic.REPORT, codec.encode(report))
    until(lambda: good in host.reports(neighbour.name), "the true report is stored")

    history = host("devices", "history", neighbour.name).out
    assert {r.id for r in host.reports(neighbour.name)} >= {good.id, lie.id}
    assert "c-3" not in {r.id for r in host.reports(neighbour.name)}
    assert "not used: it reports what cannot be" in " ".join(history.split())
    assert "latency.p95_ns: NaN is not a JSON number" in host.said()


def test_two_agents_with_one_name_are_told_to_the_operator(plant, tmp_path):
    """They push each other off the broker; the service says which name it is, and the plant's own device goes on."""
    host, device = plant
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    twins = [Device(folder, host, "twin") for folder in folders]
    try:
        twins[0].start()
        twins[0].stop()
        for twin in twins:  # the first has a session more
            twin.start()
        until(lambda: "twin was heard in session 2" in host.said(), "the operator is told")
    finally:
        for twin in twins:
            twin.end()
    said = next(line for line in host.said().splitlines() if "twin was heard" in line)

    assert "two machines use its name" in said
    assert device.status().broker == "connected"
    assert device.answers() >= 0.75
    assert MODEL in host.ask("devices", "show", device.name).out
