"""The host's broker port in memory; keeps tests/contracts/test_host_broker.py."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from edgepick_host.errors import UnreachableError
from edgepick_host.ports import OnMessage


@dataclass
class MemoryBroker:
    """Retains, delivers at once, and can go away after a number of messages."""

    retains: dict[str, bytes] = field(default_factory=dict)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    subscriptions: list[tuple[str, OnMessage]] = field(default_factory=list)
    lives_for: int | None = None
    """Messages that it acknowledges before it goes away; ``None`` for ever."""

    def connect(self, *, timeout_seconds: float = 10.0) -> None:
        """Do nothing: it is always there."""

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if self.lives_for is not None and len(self.published) >= self.lives_for:
            raise UnreachableError("the broker went away")
        self.published.append((topic, payload))
        if retain and payload:
            self.retains[topic] = payload
        elif retain:
            self.retains.pop(topic, None)
        for pattern, on_message in self.subscriptions:
            if matches(pattern, topic):
                on_message(topic, payload)

    def publish_many(
        self, messages: Iterable[tuple[str, bytes]], *, on_done: Callable[[int], None], retain: bool = True
    ) -> None:
        for number, (topic, payload) in enumerate(messages, 1):
            self.publish(topic, payload, retain=retain)
            on_done(number)

    def subscribe(self, topics: Sequence[str], on_message: OnMessage) -> None:
        for pattern in topics:
            self.subscriptions.append((pattern, on_message))
            for topic in [t for t in self.retains if matches(pattern, t)]:
                on_message(topic, self.retains[topic])

    def shares(self, topic: str) -> bool:
        return True

    def retained(self, topics: Sequence[str], *, quiet_seconds: float = 0.5) -> dict[str, bytes]:
        return {t: p for t, p in self.retains.items() if any(matches(pattern, t) for pattern in topics)}

    def close(self) -> None:
        """Nothing is open."""


def matches(pattern: str, topic: str) -> bool:
    """Return whether an MQTT filter matches a topic; a share of a subscription is alone here."""
    pattern = pattern.split("/", 2)[2] if pattern.startswith("$share/") else pattern
    wanted, found = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        return len(found) >= len(wanted) - 1 and all(w in ("+", f) for w, f in zip(wanted[:-1], found, strict=False))
    return len(wanted) == len(found) and all(w in ("+", f) for w, f in zip(wanted, found, strict=True))
