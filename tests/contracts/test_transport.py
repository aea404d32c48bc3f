"""What every transport promises: paho at a real broker, and the broker in memory that the bench uses."""

import queue
import time

import pytest

from edgepick_agent.adapters.mqtt import MqttTransport
from edgepick_agent.core.events import ChunksDelivered, Connected, Delivered, Disconnected, Oversized
from edgepick_agent.core.fetch import Chunk
from edgepick_agent.core.settings import BrokerSettings
from edgepick_wire.ids import digest_of
from edgepick_wire.limits import MAX_PAYLOAD_BYTES
from fakes.agent_process import HostClient
from fakes.transport import FakeBroker, FakeTransport

PATIENCE_SECONDS = 60.0
WILL = ("edgepick/1/demo/d/pi-1/presence", b"gone")


class Inbox:
    """Collects what a transport says, and waits for it."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue = queue.SimpleQueue()
        self.seen: list = []
        self.chunks: list[tuple[str, bytes]] = []

    def put(self, event) -> None:
        self.queue.put(event)

    def take(self, digest, data):
        """Keep every chunk."""
        self.chunks.append((digest, bytes(data)))
        return Chunk(digest, len(data), good=True)

    def wait(self, kind, count: int = 1) -> list:
        """Return all events of a kind once there are so many."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = [event for event in self.seen if isinstance(event, kind)]
            if len(found) >= count:
                return found
            try:
                self.seen.append(self.queue.get(timeout=0.2))
            except queue.Empty:
                continue
        raise AssertionError(f"{count} x {kind} did not come; seen: {self.seen}")


@pytest.fixture(params=["real", "fake"])
def ends(request):
    """Provide a transport, its inbox, and the broker's other side with ``publish`` and ``latest``."""
    inbox = Inbox()
    if request.param == "fake":
        far = FakeBroker()
        transport = FakeTransport(far, WILL, inbox.put, inbox.take)
        far.latest = lambda ending: next(iter(far.payloads(ending)[-1:]), None)
        yield transport, inbox, far
        return
    broker = request.getfixturevalue("broker")
    far, settings = HostClient(broker.port), BrokerSettings(host="127.0.0.1", port=broker.port)
    transport = MqttTransport(settings, "agent", WILL, inbox.put, inbox.take)
    yield transport, inbox, far
    transport.stop()
    far.close()


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_connects_and_says_so(ends):
    """After the start a session begins, and is announced once."""
    transport, inbox, _ = ends

    transport.start()

    assert inbox.wait(Connected) == [Connected()]


def test_a_retained_message_comes_with_every_subscription(ends):
    """Subscribing again delivers a retained message again: this is how chunks are asked for twice."""
    transport, inbox, far = ends
    far.publish("edgepick/1/demo/x", b"retained")
    transport.start()
    inbox.wait(Connected)

    transport.subscribe([("edgepick/1/demo/x", 0)])
    inbox.wait(Delivered)
    transport.subscribe([("edgepick/1/demo/x", 0)])

    assert inbox.wait(Delivered, 2) == [Delivered("edgepick/1/demo/x", b"retained")] * 2


def test_many_topics_at_once_all_arrive(ends):
    """A hundred subscriptions in one call are cut into packets, and every message comes."""
    transport, inbox, far = ends
    names = [f"edgepick/1/demo/c/{n}" for n in range(100)]
    for name in names:
        far.publish(name, name.encode())
    transport.start()
    inbox.wait(Connected)

    transport.subscribe((name, 0) for name in names)

    assert {event.topic for event in inbox.wait(Delivered, 100)} == set(names)


def test_chunks_are_handed_over_before_they_are_told(ends):
    """What comes on a chunk's topic is given whole to whoever keeps it; the event says which, and how long."""
    transport, inbox, far = ends
    data = [bytes([n]) * 30_000 for n in range(40)]
    names = [f"edgepick/1/demo/c/{digest_of(d)}" for d in data]
    for name, payload in zip(names, data, strict=True):
        far.publish(name, payload)
    transport.start()
    inbox.wait(Connected)

    transport.subscribe((name, 0) for name in names)
    wait_for(lambda: len(inbox.chunks) == len(data))
    transport.subscribe([("edgepick/1/demo/done", 0)])
    far.publish("edgepick/1/demo/done", b"done")
    inbox.wait(Delivered)

    told = [chunk for event in inbox.seen if isinstance(event, ChunksDelivered) for chunk in event.chunks]
    assert sorted(inbox.chunks) == sorted((digest_of(d), d) for d in data)
    assert sorted(told) == sorted(Chunk(digest_of(d), len(d), good=True) for d in data)


def test_after_unsubscribing_nothing_more_comes(ends):
    """A topic that was given up is silent; another still speaks."""
    transport, inbox, far = ends
    transport.start()
    inbox.wait(Connected)
    transport.subscribe([("edgepick/1/demo/a", 1), ("edgepick/1/demo/b", 1)])
    far.publish("edgepick/1/demo/a", b"1")
    inbox.wait(Delivered)

    transport.unsubscribe(["edgepick/1/demo/a"])
    transport.subscribe([("edgepick/1/demo/done", 1)])
    far.publish("edgepick/1/demo/done", b"2")
    inbox.wait(Delivered, 2)
    far.publish("edgepick/1/demo/a", b"unheard")
    far.publish("edgepick/1/demo/b", b"3")

    assert [event.payload for event in inbox.wait(Delivered, 3)] == [b"1", b"2", b"3"]


def test_a_published_message_reaches_the_other_side(ends):
    """What is published at QoS 1 arrives."""
    transport, inbox, far = ends
    transport.start()
    inbox.wait(Connected)

    transport.publish("edgepick/1/demo/d/pi-1/report", b"hello", qos=1, retain=False)

    wait_for(lambda: far.latest("/report") == b"hello")


def test_publishing_without_a_connection_is_dropped_in_silence(ends):
    """Offline nothing is queued behind the outbox's back."""
    transport, inbox, far = ends

    transport.publish("edgepick/1/demo/d/pi-1/report", b"lost", qos=1, retain=False)
    transport.start()
    inbox.wait(Connected)
    transport.publish("edgepick/1/demo/d/pi-1/report", b"found", qos=1, retain=False)
    wait_for(lambda: far.latest("/report") == b"found")

    assert far.latest("lost") is None


@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES + 1, 20 * MAX_PAYLOAD_BYTES])
def test_an_oversized_message_is_told_by_size_only(ends, size):
    """More than the protocol allows is dropped; its topic and size are handed on, however large."""
    transport, inbox, far = ends
    far.publish("edgepick/1/demo/x", b"x" * size)
    transport.start()
    inbox.wait(Connected)

    transport.subscribe([("edgepick/1/demo/x", 0)])

    assert inbox.wait(Oversized) == [Oversized("edgepick/1/demo/x", size)]


def test_a_farewell_is_published_before_it_leaves(ends):
    """Stopping says goodbye with the given message, not with the last will."""
    transport, inbox, far = ends
    transport.start()
    inbox.wait(Connected)

    transport.stop(("edgepick/1/demo/d/pi-1/presence", b"bye"))

    wait_for(lambda: far.latest("/presence") == b"bye")


def test_a_lost_connection_is_told(ends, request):
    """When the broker goes, the transport says so with a reason in words."""
    transport, inbox, _ = ends
    transport.start()
    inbox.wait(Connected)

    if isinstance(transport, FakeTransport):
        transport.disconnect()
    else:
        request.getfixturevalue("broker").stop()

    assert inbox.wait(Disconnected)[0].reason
