"""No broker: what the commands use that work on the state directory themselves."""

from collections.abc import Iterable


class NoTransport:
    """Keeps :class:`edgepick_agent.ports.Transport`; never connects."""

    def start(self) -> None:
        """Do nothing."""

    def subscribe(self, topics: Iterable[tuple[str, int]]) -> None:
        """Do nothing."""

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Do nothing."""

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Drop it; reports wait in the outbox."""

    def stop(self, farewell: tuple[str, bytes] | None = None) -> None:
        """Do nothing."""
