"""A broker in memory, and the agent's end of it."""

from collections.abc import Callable, Iterable

from edgepick_agent.core.events import ChunksDelivered, Connected, Delivered, Disconnected, Oversized, TransportEvent
from edgepick_agent.core.fetch import TOPICS_PER_PACKET
from edgepick_agent.core.intake import chunk_named
from edgepick_agent.ports import TakeChunk
from edgepick_wire.limits import MAX_PAYLOAD_BYTES


class FakeBroker:
    """Retained messages, live subscriptions, and a record of everything that was published."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.published: list[tuple[str, bytes]] = []
        self.delivered: list[str] = []
        self.clients: list[FakeTransport] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        self.published.append((topic, payload))
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for client in tuple(self.clients):
            client.receive(topic, payload)

    def payloads(self, ending: str) -> list[bytes]:
        """Return everything that was ever published on topics with this ending."""
        return [payload for topic, payload in self.published if topic.endswith(ending)]


class FakeTransport:
    """Keeps ``edgepick_agent.ports.Transport``; stricter than a broker about the size of packets."""

    def __init__(
        self, broker: FakeBroker, will: tuple[str, bytes], sink: Callable[[TransportEvent], None], take: TakeChunk
    ) -> None:
        self._broker = broker
        self._will = will
        self._sink = sink
        self._take = take
        self.up = False
        self.topics: set[str] = set()
        self.packets: list[int] = []

    def start(self) -> None:
        self.connect()

    def connect(self) -> None:
        self.up = True
        self.topics = set()
        self._broker.clients.append(self)
        self._sink(Connected())

    def disconnect(self, reason: str = "connection lost") -> None:
        """Lose the connection without a goodbye."""
        if self.up:
            self._leave()
            self._broker.publish(*self._will)
        self._sink(Disconnected(reason))

    def _leave(self) -> None:
        self.up = False
        self._broker.clients.remove(self)

    def receive(self, topic: str, payload: bytes) -> None:
        if topic in self.topics:
            self._broker.delivered.append(topic)
            digest = chunk_named(topic)
            if len(payload) > MAX_PAYLOAD_BYTES:
                self._sink(Oversized(topic, len(payload)))
            elif digest is None:
                self._sink(Delivered(topic, payload))
            elif (chunk := self._take(digest, payload)) is not None:
                self._sink(ChunksDelivered((chunk,)))

    def subscribe(self, topics: Iterable[tuple[str, int]]) -> None:
        wanted = [topic for topic, _ in topics] if self.up else []
        for start in range(0, len(wanted), TOPICS_PER_PACKET):
            self.packets.append(len(wanted[start : start + TOPICS_PER_PACKET]))
        for topic in wanted:
            self.topics.add(topic)
            if topic in self._broker.retained:
                self.receive(topic, self._broker.retained[topic])

    def unsubscribe(self, topics: Iterable[str]) -> None:
        self.topics -= set(topics)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        if self.up:
            self._broker.publish(topic, payload, retain=retain)

    def stop(self, farewell: tuple[str, bytes] | None = None) -> None:
        if self.up:
            if farewell is not None:
                self._broker.publish(*farewell)
            self._leave()
