"""A host of one fleet at a real broker: retains what a case wants, and remembers what the device said."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgepick_host.conformance.interface import BrokerAddress
from edgepick_host.conformance.verdict import CaseFailedError
from edgepick_host.errors import UnreachableError
from edgepick_wire import codec, topics
from edgepick_wire.errors import WireError
from edgepick_wire.messages import Ack, Birth, Presence, Report, Reported
from edgepick_wire.topics import DeviceTopic

T = TypeVar("T")
M = TypeVar("M", Birth, Presence, Reported, Report)
PUBLISH_SECONDS = 30.0
"""Longest time for the broker to take or to answer anything; the embedded one is slow on a busy machine."""
SUBSCRIBE_ATTEMPTS = 6
KEEPALIVE_SECONDS = 60
MESSAGES = {
    Birth: DeviceTopic.BIRTH,
    Presence: DeviceTopic.PRESENCE,
    Reported: DeviceTopic.REPORTED,
    Report: DeviceTopic.REPORT,
}


class SimulatedHost:
    """Publishes to one fleet and listens to one device; acknowledges reports while ``acknowledges`` is true."""

    def __init__(self, broker: BrokerAddress, fleet: str, device: str) -> None:
        self.fleet = fleet
        self.device = device
        self.acknowledges = True
        self.session = 0
        self._broker = broker
        self._changed = threading.Condition()
        self._heard: list[tuple[str, bytes]] = []
        self._retained: set[str] = set()
        self._client: paho.Client | None = None

    # --- connection ---

    def connect(self) -> None:
        """Return once subscribed to everything that the device says, with a presence of a new session.

        Raises:
            UnreachableError: No broker there.
        """
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.on_message = self._on_message
        subscribed = threading.Event()
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_connect = lambda c, *_: c.subscribe(self._everything, qos=1)
        address = f"{self._broker.host}:{self._broker.port}"
        try:
            client.connect(self._broker.host, self._broker.port, KEEPALIVE_SECONDS)
        except OSError as error:
            hint = "Start a broker, or leave --broker out to have one started."
            raise UnreachableError(f"no broker at {address}: {error}", hint=hint) from error
        client.loop_start()
        self._client = client
        if not self._subscribed(client, subscribed):
            raise UnreachableError(f"the broker at {address} does not answer", hint="Look at its log.")
        self.new_session()

    @property
    def _everything(self) -> str:
        return f"{topics.PREFIX}/{self.fleet}/d/#"

    def _subscribed(self, client: paho.Client, subscribed: threading.Event) -> bool:
        """Return whether the broker took the subscription; a busy embedded one may lose the first request."""
        for _ in range(SUBSCRIBE_ATTEMPTS):
            if subscribed.wait(PUBLISH_SECONDS / SUBSCRIBE_ATTEMPTS):
                return True
            client.subscribe(self._everything, qos=1)
        return False

    def new_session(self) -> None:
        """Say that a host is there that was not there before."""
        self.session += 1
        self.say_presence(self.session, online=True)

    def say_presence(self, session: int, *, online: bool) -> None:
        """Retain a presence of the host."""
        self.put(topics.host(self.fleet), codec.encode(Presence(session=session, online=online)))

    def vanish(self) -> None:
        """Be gone; what is retained stays."""
        if self._client is not None:
            self.say_presence(self.session, online=False)
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def close(self) -> None:
        """Leave nothing of this fleet in the broker."""
        if self._client is None:
            self.connect()
        with self._changed:
            theirs = {topic for topic, _ in self._heard}
        for topic in sorted(self._retained | theirs):
            self.put(topic, b"")
        self.vanish()
        self._clear_presence()

    def _clear_presence(self) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect(self._broker.host, self._broker.port, KEEPALIVE_SECONDS)
        client.loop_start()
        client.publish(topics.host(self.fleet), b"", qos=1, retain=True).wait_for_publish(PUBLISH_SECONDS)
        client.disconnect()
        client.loop_stop()

    # --- saying ---

    def put(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish; the broker has it when this returns."""
        if self._client is None:
            raise CaseFailedError("a defect of the kit: the simulated host is not connected")
        if retain:
            self._retained.add(topic)
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PUBLISH_SECONDS)

    def acknowledge(self, *ids: str) -> None:
        """Tell the device that these reports are stored."""
        self._send_ack(ids, wait=True)

    def _send_ack(self, ids: tuple[str, ...], *, wait: bool) -> None:
        topic = topics.device(self.fleet, self.device, DeviceTopic.ACK)
        if self._client is not None:
            sent = self._client.publish(topic, codec.encode(Ack(ids=ids)), qos=1)
            if wait:
                sent.wait_for_publish(PUBLISH_SECONDS)

    # --- hearing ---

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        topic, payload = message.topic, bytes(message.payload)
        if topics.parse_device(self.fleet, topic).kind not in MESSAGES.values():
            return
        with self._changed:
            self._heard.append((topic, payload))
            self._changed.notify_all()
        if self.acknowledges and topic.endswith(f"/{DeviceTopic.REPORT.value}"):
            found = _decoded(Report, payload)
            if found is not None:
                self._send_ack((found.id,), wait=False)

    def forget(self) -> None:
        """Forget what was heard so far."""
        with self._changed:
            self._heard.clear()

    def heard(self, kind: type[M]) -> list[M]:
        """Return every message of a kind that the device has sent, oldest first.

        Raises:
            CaseFailedError: One of them is not what the protocol says.
        """
        topic = topics.device(self.fleet, self.device, MESSAGES[kind])
        with self._changed:
            payloads = [payload for where, payload in self._heard if where == topic and payload]
        try:
            return [codec.decode(kind, payload) for payload in payloads]
        except WireError as error:
            raise CaseFailedError(f"the device published a bad message on {topic}: {error}") from error

    def wait(self, look: Callable[[], T | None], what: str, seconds: float, check: Callable[[], None]) -> T:
        """Return the first true value of ``look``, asked again whenever the device has said something.

        Raises:
            CaseFailedError: It did not come in time.
        """
        end = time.monotonic() + seconds
        while True:
            check()
            found = look()
            if found:
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise CaseFailedError(f"not within {seconds:g} s: {what}")
            with self._changed:
                self._changed.wait(min(left, 0.1))


def _decoded(kind: type[M], payload: bytes) -> M | None:
    try:
        return codec.decode(kind, payload)
    except WireError:
        return None


@contextmanager
def present(host: SimulatedHost) -> Iterator[SimulatedHost]:
    """Provide the host connected; at the end nothing of it is left in the broker."""
    host.connect()
    try:
        yield host
    finally:
        host.close()
