"""The shell around simulated devices: connections, time and documents; one thread of one process.

Devices share the process's connection, or have one each. What sharing simplifies is said in docs/simulate.md.
"""

import heapq
import selectors
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgepick_host.core.settings import BrokerSettings
from edgepick_host.simulate.bundles import Bundles
from edgepick_host.simulate.device import step
from edgepick_host.simulate.documents import Documents
from edgepick_host.simulate.hearing import Hearing, overdue
from edgepick_host.simulate.link import IN_FLIGHT, Link
from edgepick_host.simulate.post import Post, Seat
from edgepick_host.simulate.scenario import Ailment, Identity
from edgepick_host.simulate.state import (
    Acknowledged,
    Action,
    Booted,
    DeviceState,
    Due,
    Event,
    HostSeen,
    Obtain,
    Obtained,
    Send,
    Told,
    Vanish,
    Wake,
)
from edgepick_host.simulate.tally import DeviceRecord, Stand, Tally
from edgepick_wire import codec, topics
from edgepick_wire.envelope import VerifySignature
from edgepick_wire.errors import WireError
from edgepick_wire.messages import Ack, Presence
from edgepick_wire.topics import DeviceTopic
from edgepick_wire.trust import RootDocument

BOOTS_PER_SECOND = 1000
"""Devices that a process starts per second: a fleet does not come up in one moment, and no broker likes it to."""
HOUSEKEEPING_SECONDS = 1.0
PATIENCE_SECONDS = 0.1
"""Longest wait for a message before the time is looked at again."""
GOODBYE_SECONDS = 15.0
"""Longest wait for a broker to take what was said at the end; twice as long, and the parent ends the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlan:
    """What one process simulates.

    Attributes:
        session: Of every device's agent; above that of an earlier run with the same names.
        connection_each: Every device has its own connection, with its own last will.
        first_chunk: The first chunk of each bundle is really fetched and checked, once per connection.
    """

    broker: BrokerSettings
    root: RootDocument
    session: int
    connection_each: bool = False
    first_chunk: bool = False


class Hub:
    """Simulated devices, connected. ``turn`` lets them live for a moment."""

    def __init__(self, plan: HubPlan, identities: Sequence[Identity], check: VerifySignature) -> None:
        self._plan = plan
        self._fleet = plan.root.fleet
        self._selector = selectors.DefaultSelector()
        self._documents = Documents(plan.root, check)
        self._bundles = Bundles(self._fleet, self._documents, first_chunk=plan.first_chunk)
        self._began = time.monotonic()
        self._offset = time.time() - self._began
        self._tend_at = 0.0
        self._calls: list[tuple[float, int, Seat, type[Booted | Due]]] = []
        self._order = 0
        self._booted: set[int] = set()
        self._events: deque[tuple[Seat, Event]] = deque()
        self._by_link: dict[Link, Post] = {}
        self._hearing = Hearing()
        self._seats: list[Seat] = []
        self._take_seats(identities)

    # Life.

    def open(self) -> None:
        """Return once every connection stands; devices start from then on.

        Raises:
            UnreachableError: No broker, or one without room for so many.
        """
        for post in self._by_link.values():
            post.link.connect()
            self._connected(post)
        start = self._now()
        for number, seat in enumerate(self._seats):
            late = seat.identity.scenario.failures.late_seconds if seat.identity.ailment is Ailment.LATE else 0.0
            self._call(seat, start + late + number / BOOTS_PER_SECOND, Booted)

    def turn(self) -> None:
        """Take in what has arrived, do what is due, and send what is to be said."""
        self._write()
        for post in self._readable(self._patience()):
            for topic, payload in post.link.read():
                post.heard += 1
                post.heard_bytes += len(payload)
                self._hear(post, topic, payload)
            if post.link.fresh:
                self._connected(post)
        self._fire()
        self._settle()
        self._look_after()

    def close(self) -> int:
        """Say goodbye for every device that is there, and disconnect once the broker has acknowledged it.

        A broker that meets a closed socket when it acknowledges one message leaves those behind it unread. Whatever
        else arrives meanwhile concerns nobody any more.

        Returns:
            Messages that the broker did not acknowledge in :data:`GOODBYE_SECONDS`; their devices stay online there.
        """
        leaving = deque(seat for seat in self._seats if seat.state.online)
        until = time.monotonic() + GOODBYE_SECONDS
        while (leaving or self._unacknowledged()) and time.monotonic() < until:
            while leaving and leaving[0].post.link.unacknowledged < IN_FLIGHT:
                self._say_offline(leaving.popleft())
            self._write()
            for post in self._readable(PATIENCE_SECONDS):
                post.link.read()
            self._look_after()
        left = len(leaving) + self._unacknowledged()
        for post in self._by_link.values():
            post.link.close()
        self._selector.close()
        return left

    # Figures.

    def tally(self) -> Tally:
        """Return what has happened so far."""
        states = [seat.state for seat in self._seats if seat.identity.number in self._booted]
        models = [model for state in states for model in state.models.values()]
        return Tally(
            seconds=time.monotonic() - self._began,
            devices=len(states),
            online=sum(state.online for state in states),
            phases=Counter(model.phase.value for model in models),
            active=Counter(model.active_label for model in models if model.active_label),
            filed=sum(state.counter for state in states),
            waiting=sum(len(state.outbox) for state in states),
            unheard=self._unheard(),
            sent=sum(post.link.sent for post in self._by_link.values()),
            sent_bytes=sum(post.link.sent_bytes for post in self._by_link.values()),
            heard=sum(post.heard for post in self._by_link.values()),
            heard_bytes=sum(post.heard_bytes for post in self._by_link.values()),
            refused=self._documents.refused,
        )

    def records(self) -> list[DeviceRecord]:
        """Return what became of each device."""
        return [_record(seat) for seat in self._seats]

    def _unheard(self) -> int:
        patience = self._seats[0].identity.scenario.pace.resend if self._seats else 0.0
        if not self._hearing.is_silent(self._now(), patience):
            return 0
        return sum(overdue(seat.identity, seat.state) for seat in self._seats)

    # Connections.

    def _take_seats(self, identities: Sequence[Identity]) -> None:
        shared = None if self._plan.connection_each else Post(link=self._link(None))
        for identity in identities:
            post = shared or Post(link=self._link(identity))
            seat = Seat(identity=identity, state=DeviceState(session=self._plan.session), post=post)
            post.seats.append(seat)
            self._seats.append(seat)
            for kind in (DeviceTopic.DESIRED, DeviceTopic.ACK):
                post.own.setdefault(topics.device(self._fleet, identity.name, kind), []).append(seat)
            self._by_link[post.link] = post

    def _link(self, identity: Identity | None) -> Link:
        name = f"process-{time.monotonic_ns()}" if identity is None else f"{identity.name}-{identity.number}"
        will = None if identity is None else self._offline(identity)
        return Link(self._plan.broker, client_id=f"edgepick-{name}", selector=self._selector, will=will)

    def _offline(self, identity: Identity) -> tuple[str, bytes]:
        topic = topics.device(self._fleet, identity.name, DeviceTopic.PRESENCE)
        return topic, codec.encode(Presence(session=self._plan.session, online=False))

    def _connected(self, post: Post) -> None:
        """Ask for what several devices read; after a break every device behind it announces itself again."""
        post.link.fresh = False
        profiles = {seat.identity.kind.profile for seat in post.seats}
        common = [topics.profile_desired(self._fleet, profile) for profile in sorted(profiles)]
        post.link.subscribe([topics.host(self._fleet), *common, *self._bundles.awaited(post)])
        for seat in post.seats:
            if seat.state.online:
                self._call(seat, self._now(), Booted)

    def _patience(self) -> float:
        due = self._calls[0][0] - self._now() if self._calls else PATIENCE_SECONDS
        return 0.0 if self._events else max(0.0, min(due, PATIENCE_SECONDS))

    def _readable(self, patience: float) -> Iterable[Post]:
        return [self._by_link[key.data] for key, _ in self._selector.select(patience)]

    def _write(self) -> None:
        for post in self._by_link.values():
            if post.link.busy:
                post.link.flush()

    def _look_after(self) -> None:
        if self._now() >= self._tend_at:
            self._tend_at = self._now() + HOUSEKEEPING_SECONDS
            for post in self._by_link.values():
                post.link.look_after()

    def _unacknowledged(self) -> int:
        return sum(post.link.unacknowledged for post in self._by_link.values())

    # What arrives.

    def _hear(self, post: Post, topic: str, payload: bytes) -> None:
        seats = post.own.get(topic)
        if seats is not None:
            for seat in seats:
                self._hear_own(seat, topic, payload)
        elif self._bundles.is_awaited(topic):
            for seat, event in self._bundles.arrived(post, topic, payload, self._now()):
                self._events.append((seat, event))
        else:
            post.common[topic] = payload
            for seat in post.seats:
                self._hear_common(seat, topic, payload)

    def _hear_own(self, seat: Seat, topic: str, payload: bytes) -> None:
        now = self._now()
        if topic.endswith(f"/{DeviceTopic.ACK.value}"):
            try:
                self._events.append((seat, Acknowledged(now=now, ids=codec.decode(Ack, payload).ids)))
            except WireError:
                return
            self._hearing.acknowledged(now)
        elif payload:
            desired = self._documents.own_desired(payload, seat.identity.name)
            if desired is not None:
                self._events.append((seat, Told(now=now, desired=desired)))

    def _hear_common(self, seat: Seat, topic: str, payload: bytes) -> None:
        profile = seat.identity.kind.profile
        if topic == topics.host(self._fleet) and payload:
            try:
                seen = HostSeen(now=self._now(), presence=codec.decode(Presence, payload))
            except WireError:
                return
            self._hearing.saw(seen.presence, seen.now)
            self._events.append((seat, seen))
        elif topic == topics.profile_desired(self._fleet, profile) and payload:
            desired = self._documents.common_desired(payload, profile)
            if desired is not None:
                self._events.append((seat, Told(now=self._now(), desired=desired)))

    # What devices do.

    def _fire(self) -> None:
        now, starting = self._now(), []
        while self._calls and self._calls[0][0] <= now:
            _, _, seat, kind = heapq.heappop(self._calls)
            self._events.append((seat, kind(now=now)))
            if kind is Booted:
                starting.append(seat)
        for seat in starting:
            self._start(seat)

    def _start(self, seat: Seat) -> None:
        """Have a device hear what concerns it, from what is retained on."""
        post = seat.post
        self._booted.add(seat.identity.number)
        kinds = (DeviceTopic.DESIRED, DeviceTopic.ACK)
        post.link.subscribe([topics.device(self._fleet, seat.identity.name, kind) for kind in kinds])
        for topic, payload in post.common.items():
            self._hear_common(seat, topic, payload)

    def _settle(self) -> None:
        while self._events:
            seat, event = self._events.popleft()
            seat.state, actions = step(seat.identity, seat.state, event)
            for action in actions:
                self._do(seat, action)

    def _do(self, seat: Seat, action: Action) -> None:
        match action:
            case Send():
                topic = topics.device(self._fleet, seat.identity.name, action.kind)
                seat.post.link.publish(topic, action.payload, retain=action.retain)
            case Wake():
                self._call(seat, action.at, Due)
            case Obtain():
                self._obtain(seat, action.manifest)
            case Vanish():
                self._vanish(seat)

    def _obtain(self, seat: Seat, manifest: str) -> None:
        known = self._bundles.known(manifest)
        if known is not None:
            self._events.append((seat, Obtained(now=self._now(), manifest=manifest, known=known)))
        else:
            self._bundles.ask(seat.post, seat, manifest)

    def _vanish(self, seat: Seat) -> None:
        """Break the device's connection; where it is shared, say what the broker would."""
        if self._plan.connection_each:
            seat.post.link.drop()
        else:
            self._say_offline(seat)

    def _say_offline(self, seat: Seat) -> None:
        topic, payload = self._offline(seat.identity)
        seat.post.link.publish(topic, payload, retain=True)

    def _call(self, seat: Seat, at: float, kind: type[Booted | Due]) -> None:
        self._order += 1
        heapq.heappush(self._calls, (at, self._order, seat, kind))

    def _now(self) -> float:
        return time.monotonic() + self._offset


def _record(seat: Seat) -> DeviceRecord:
    state, identity = seat.state, seat.identity
    return DeviceRecord(
        device=identity.name,
        number=identity.number,
        profile=identity.kind.profile,
        ailment=identity.ailment.value if identity.ailment else None,
        online=state.online,
        models={name: Stand(active=model.active_label, phase=model.phase) for name, model in state.models.items()},
        served=tuple(state.known[manifest].variant for manifest in state.served),
        measured=len(state.done),
        waiting=len(state.outbox),
    )
