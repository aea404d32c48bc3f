"""What the host's broker promises: over paho to a real broker, and the fake that tests use."""

import threading

import pytest

from edgepick_host.adapters.mqtt import MqttBroker
from edgepick_host.core.settings import BrokerSettings
from fakes.host_broker import MemoryBroker

WAIT_SECONDS = 60


@pytest.fixture(params=["real", "fake"])
def host_broker(request):
    if request.param == "fake":
        yield MemoryBroker()
        return
    made = MqttBroker(BrokerSettings(port=request.getfixturevalue("broker").port))
    made.connect()
    yield made
    made.close()


class Inbox:
    """Collects messages and waits for them."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()

    def __call__(self, topic: str, payload: bytes) -> None:
        with self._changed:
            self.messages.append((topic, payload))
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[tuple[str, bytes]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= count, WAIT_SECONDS)
        return self.messages


def test_retained_message_is_found_again(host_broker):
    """What was published retained is found by topic and by filter; what was not is not."""
    host_broker.publish("t/a/x", b"1", retain=True)
    host_broker.publish("t/b/x", b"2", retain=True)
    host_broker.publish("t/c/x", b"3", retain=False)

    assert host_broker.retained(["t/a/x"]) == {"t/a/x": b"1"}
    assert host_broker.retained(["t/+/x", "t/none"]) == {"t/a/x": b"1", "t/b/x": b"2"}


def test_empty_message_clears(host_broker):
    """A retained message is gone after an empty one."""
    host_broker.publish("t/a", b"1", retain=True)

    host_broker.publish("t/a", b"", retain=True)

    assert host_broker.retained(["t/a", "t/+"]) == {}


def test_many_are_all_acknowledged_in_order(host_broker):
    """Every message of a long generator is retained, and the count rises one by one."""
    counts: list[int] = []

    host_broker.publish_many(((f"many/{n}", bytes([n % 251]) * 1000) for n in range(100)), on_done=counts.append)

    assert counts == list(range(1, 101))
    assert len(host_broker.retained(["many/+"])) == 100


def test_subscriber_hears_retained_and_new(host_broker):
    """A subscription brings what is retained and what comes after it."""
    inbox = Inbox()
    host_broker.publish("s/a", b"before", retain=True)

    host_broker.subscribe(["s/+"], inbox)
    inbox.wait_for(1)
    host_broker.publish("s/b", b"after", retain=False)

    assert inbox.wait_for(2) == [("s/a", b"before"), ("s/b", b"after")]


def test_handler_may_publish(host_broker):
    """A handler can answer a message and wait for the acknowledgement."""
    inbox = Inbox()
    host_broker.subscribe(["answer"], inbox)
    host_broker.subscribe(["question"], lambda _topic, payload: host_broker.publish("answer", payload, retain=False))

    host_broker.publish("question", b"?", retain=False)

    assert inbox.wait_for(1) == [("answer", b"?")]


def test_what_it_deals_out_comes_once(host_broker):
    """If shared subscriptions work here, one brings a message once; if not, it is told so."""
    inbox = Inbox()

    works = host_broker.shares("edgepick/1/demo/d/nobody/ack")
    if works:
        host_broker.subscribe(["$share/group/shared/+"], inbox)
        host_broker.publish("shared/a", b"1", retain=False)
        inbox.wait_for(1)
    host_broker.subscribe(["plain"], inbox)
    host_broker.publish("plain", b"end", retain=False)

    assert inbox.wait_for(1 + works) == [("shared/a", b"1")] * works + [("plain", b"end")]
