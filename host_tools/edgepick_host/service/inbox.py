"""Takes in what devices say: checked, stored, and only then acknowledged."""

import queue
from collections.abc import Callable, Iterable
from typing import TypeVar

from edgepick_host.ports import Broker, Clock, Store
from edgepick_wire import codec, topics
from edgepick_wire.errors import MalformedError, WireError
from edgepick_wire.messages import Ack, Birth, Presence, Report, Reported
from edgepick_wire.topics import Address, DeviceTopic

HEARD = (DeviceTopic.BIRTH, DeviceTopic.PRESENCE, DeviceTopic.REPORTED, DeviceTopic.REPORT)
ACK_IDS = 500
"""Most ids in one acknowledgement: 32-character ids stay far below a payload's limit."""
BATCH = 1000
"""Most messages taken in between two looks at the rollouts."""

Say = Callable[[str], None]
Said = TypeVar("Said", Birth, Reported, Report)


class Inbox:
    """Messages of devices on their way into the store.

    Attributes:
        reports: Every report, in the order of the store.
    """

    def __init__(self, *, fleet: str, store: Store, broker: Broker, clock: Clock, say: Say) -> None:
        self._fleet = fleet
        self._store = store
        self._broker = broker
        self._clock = clock
        self._say = say
        self._queue: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._unacknowledged: dict[str, list[str]] = {}
        self.reports: list[Report] = list(store.reports())

    def open(self) -> None:
        """Hear every device; returns once everything retained has been taken in."""
        filters = [topics.every_device(self._fleet, kind) for kind in HEARD]
        self._broker.subscribe(filters, lambda topic, payload: self._queue.put((topic, payload)))
        retained = self._broker.retained(filters[:3])
        self._take(retained.items())

    def drain(self, timeout_seconds: float) -> bool:
        """Take in what has arrived, waiting for the first at most so long; returns whether anything had."""
        batch = []
        try:
            batch.append(self._queue.get(timeout=timeout_seconds) if timeout_seconds > 0 else self._queue.get_nowait())
            while len(batch) < BATCH:
                batch.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        self._take(batch)
        return bool(batch)

    def _take(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Store messages in one transaction, and only then acknowledge the reports among them."""
        messages = [(topic, payload) for topic, payload in messages if payload]  # nothing: somebody cleared it
        if messages:
            with self._store.batch():
                for topic, payload in messages:
                    self._take_one(topic, payload)
        self._acknowledge()

    def _take_one(self, topic: str, payload: bytes) -> None:
        try:
            address = topics.parse_device(self._fleet, topic)
            stored = self._store_message(address, payload)
        except WireError as error:
            self._say(f"refused a message on {topic[-80:]}: {error}")
            return
        if stored is not None:
            self._unacknowledged.setdefault(address.device, []).append(stored)

    def _store_message(self, address: Address, payload: bytes) -> str | None:
        """Return the id of the report that is now stored, if it was one."""
        now = self._clock.now()
        if address.kind is DeviceTopic.BIRTH:
            self._store.heard_birth(_of(address, codec.decode(Birth, payload)), now)
        elif address.kind is DeviceTopic.PRESENCE:
            self._store.heard_presence(address.device, codec.decode(Presence, payload), now)
        elif address.kind is DeviceTopic.REPORTED:
            self._store.heard_reported(_of(address, codec.decode(Reported, payload)), now)
        elif address.kind is DeviceTopic.REPORT:
            report = _of(address, codec.decode(Report, payload))
            if self._store.add_report(report, now):
                self.reports.append(report)
            return report.id
        return None

    def _acknowledge(self) -> None:
        while self._unacknowledged:
            device, ids = next(iter(self._unacknowledged.items()))
            unique = list(dict.fromkeys(ids))
            topic = topics.device(self._fleet, device, DeviceTopic.ACK)
            for start in range(0, len(unique), ACK_IDS):
                ack = Ack(ids=tuple(unique[start : start + ACK_IDS]))
                self._broker.publish(topic, codec.encode(ack), retain=False)
            del self._unacknowledged[device]


def _of(address: Address, message: Said) -> Said:
    if message.device != address.device:
        raise MalformedError(f"a message of device {message.device!r} on the topic of {address.device!r}")
    return message
