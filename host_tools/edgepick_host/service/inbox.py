"""Takes in what devices say: checked, stored many at a time, and only then acknowledged.

What waits to be taken in is bounded. A device's birth and its reported state are levels: only the last one waits. Of
reports, those beyond the limit are left to their devices, which keep what is not acknowledged and are asked for it
again when there is room.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from edgepick_host.core.records import Hearing
from edgepick_host.ports import Broker, Clock, Store
from edgepick_host.service.complaints import Complaints, Say
from edgepick_host.service.fleet_table import FleetTable
from edgepick_host.service.report_log import ReportLog
from edgepick_wire import codec, topics
from edgepick_wire.errors import MalformedError, WireError
from edgepick_wire.messages import Ack, Birth, Presence, Report, Reported
from edgepick_wire.topics import Address, DeviceTopic

LEVELS = (DeviceTopic.BIRTH, DeviceTopic.PRESENCE, DeviceTopic.REPORTED)
GROUP = "edgepick"
"""Of the services that share a fleet's reports."""
ACK_IDS = 500
"""Most ids in one acknowledgement: 32-character ids stay far below a payload's limit."""
BATCH = 1000
"""Most messages taken in at once, in one transaction."""
MOST_WAITING_BYTES = 32 * 1024 * 1024
"""Most bytes of reports that wait: about those of ten thousand devices with one measurement each."""
MOST_OF_ONE = 200
"""Most reports of one device that wait, so that one that floods takes no room from the others."""

Said = TypeVar("Said", Birth, Reported, Report)
Message = tuple[str, bytes]


class Waiting:
    """Messages between the broker's thread, which puts them in, and the service's, which takes them out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Message] = deque()
        self._last: dict[str, bytes] = {}
        self._reports: Counter[str] = Counter()
        self._bytes = 0
        self._left_out = 0

    def put(self, topic: str, payload: bytes) -> None:
        """Have a message wait; any thread."""
        with self._changed:
            kind = topic.rpartition("/")[2]
            if kind == DeviceTopic.REPORT:
                self._put_report(topic, payload)
            elif kind == DeviceTopic.PRESENCE:
                self._queue.append((topic, payload))
            else:
                self._last[topic] = payload
            self._changed.notify()

    def _put_report(self, topic: str, payload: bytes) -> None:
        if self._bytes + len(payload) > MOST_WAITING_BYTES or self._reports[topic] >= MOST_OF_ONE:
            self._left_out += 1
            return
        self._bytes += len(payload)
        self._reports[topic] += 1
        self._queue.append((topic, payload))

    def take(self, timeout_seconds: float) -> list[Message]:
        """Return what waits, oldest first, at most so much as is taken in at once; waits for the first."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._last, max(timeout_seconds, 0.0))
            found = [(topic, self._last.pop(topic)) for topic in list(islice(self._last, BATCH))]
            while self._queue and len(found) < BATCH:
                found.append(self._queue.popleft())
                self._forget(*found[-1])
            return found

    def _forget(self, topic: str, payload: bytes) -> None:
        if topic in self._reports:
            self._bytes -= len(payload)
            self._reports[topic] -= 1
            if not self._reports[topic]:
                del self._reports[topic]

    def left_out(self) -> int:
        """Return how many reports were left to their devices, once nothing waits any more; each is told once."""
        with self._changed:
            found = 0 if self._queue else self._left_out
            self._left_out -= found
            return found


@dataclass(slots=True)
class _Batch:
    """What some messages say."""

    hearings: list[Hearing] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)


class Inbox:
    """Messages of devices on their way into the store, and from there to whoever follows the fleet."""

    def __init__(
        self, *, fleet: str, store: Store, broker: Broker, clock: Clock, say: Say, table: FleetTable, log: ReportLog
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._broker = broker
        self._clock = clock
        self._complaints = Complaints(clock, say)
        self._table = table
        self._log = log
        self._waiting = Waiting()
        self._unacknowledged: dict[str, dict[str, None]] = {}

    def open(self, *, shared: bool = False) -> None:
        """Hear every device; returns once everything retained has been taken in.

        Args:
            shared: Leave to other services the reports that the broker gives them.
        """
        levels = [topics.every_device(self._fleet, kind) for kind in LEVELS]
        self._broker.subscribe([*levels, self._reports(shared=shared)], self._waiting.put)
        retained = self._broker.retained(levels)
        self._take(list(retained.items()))

    def open_reports(self, *, shared: bool) -> None:
        """Hear reports, and nothing else."""
        self._broker.subscribe([self._reports(shared=shared)], self._waiting.put)

    def _reports(self, *, shared: bool) -> str:
        reports = topics.every_device(self._fleet, DeviceTopic.REPORT)
        return topics.shared(GROUP, reports) if shared else reports

    def drain(self, timeout_seconds: float) -> bool:
        """Take in what has arrived, waiting for the first at most so long; returns whether anything had."""
        messages = self._waiting.take(timeout_seconds)
        self._take(messages)
        return bool(messages)

    def left_out(self) -> int:
        """Return how many reports their devices have to send again, now that there is room for them."""
        return self._waiting.left_out()

    def _take(self, messages: Iterable[Message]) -> None:
        """Store messages in one transaction, and only then acknowledge the reports among them."""
        batch = _Batch()
        for topic, payload in messages:
            if payload:  # nothing: somebody cleared it
                self._read(batch, topic, payload)
        if batch.hearings or batch.reports:
            with self._store.batch():
                online = self._store.hear(batch.hearings)
                new = self._store.add_reports(batch.reports, self._clock.now())
            self._table.hear(batch.hearings, online)
            self._log.take(new)
        for report in batch.reports:
            self._unacknowledged.setdefault(report.device, {})[report.id] = None
        self._acknowledge()

    def _read(self, batch: _Batch, topic: str, payload: bytes) -> None:
        try:
            address = topics.parse_device(self._fleet, topic)
            self._decode(batch, address, payload)
        except WireError as error:
            self._complaints.refused(topic, error)

    def _decode(self, batch: _Batch, address: Address, payload: bytes) -> None:
        device, now = address.device, self._clock.now()
        if address.kind is DeviceTopic.BIRTH:
            birth = _of(address, codec.decode(Birth, payload))
            known = self._table.devices.get(device)
            self._complaints.born(birth, known.birth if known else None)
            batch.hearings.append(Hearing(device=device, at=now, birth=birth))
        elif address.kind is DeviceTopic.PRESENCE:
            batch.hearings.append(Hearing(device=device, at=now, presence=codec.decode(Presence, payload)))
        elif address.kind is DeviceTopic.REPORTED:
            reported = _of(address, codec.decode(Reported, payload))
            batch.hearings.append(Hearing(device=device, at=now, reported=reported))
        elif address.kind is DeviceTopic.REPORT:
            batch.reports.append(_of(address, codec.decode(Report, payload)))

    def _acknowledge(self) -> None:
        """Acknowledge what is stored; what the broker does not take goes out with the next."""
        if not self._unacknowledged:
            return
        self._broker.publish_many(self._acks(), on_done=lambda _count: None, retain=False)
        self._unacknowledged = {}

    def _acks(self) -> Iterator[Message]:
        for device, names in self._unacknowledged.items():
            topic, ids = topics.device(self._fleet, device, DeviceTopic.ACK), tuple(names)
            for start in range(0, len(ids), ACK_IDS):
                yield topic, codec.encode(Ack(ids=ids[start : start + ACK_IDS]))


def _of(address: Address, message: Said) -> Said:
    if message.device != address.device:
        raise MalformedError(f"a message of device {message.device!r} on the topic of {address.device!r}")
    return message
