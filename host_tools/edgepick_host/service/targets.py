"""What devices and profiles are told: read, changed for one model, signed, kept, published.

Rules:
- What a target follows is the newer of its own document and, for a device, its profile's.
- A document that says nothing new keeps its sequence and its exact bytes; it is published again all
  the same, so that a host that died between its store and the broker mends itself.
- A new sequence is above everything that this host has signed, also where its store was lost and only
  the broker remembers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgepick_host.core.release import Wish, assign, assignment_of, with_assignment
from edgepick_host.errors import StateError
from edgepick_host.ports import Broker, Clock, SignDocument, Store
from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.errors import WireError
from edgepick_wire.messages import Assignment, Birth, Desired, TargetKind
from edgepick_wire.topics import DeviceTopic


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom a desired state addresses; ``profile`` is its kind of device."""

    kind: TargetKind
    name: str
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldTarget:
    """What a target is told about a model.

    Attributes:
        sequence: Of the desired state; 0 where none has been written.
        active: Manifest that it should run.
        measure: Number of orders to measure.
        changed: It was told something else, or nothing, before.
    """

    kind: TargetKind
    target: str
    sequence: int
    active: str | None
    measure: int
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets of one fleet on one broker."""

    fleet: str
    broker: Broker
    store: Store
    sign: SignDocument
    clock: Clock

    def of_devices(self, devices: Sequence[str]) -> tuple[Target, ...]:
        """Return the targets of these devices, whose profiles their births tell.

        Raises:
            StateError: A device was never heard of.
        """
        places = {d: topics.device(self.fleet, d, DeviceTopic.BIRTH) for d in devices}
        heard = self.broker.retained(list(places.values()))
        missing = [d for d, place in places.items() if place not in heard]
        if missing:
            raise StateError(
                f"never heard of device {', '.join(missing)}: its profile is not known",
                hint="`edgepick devices list` shows every device; start the agent once, or publish to its profile.",
            )
        births = {d: codec.decode(Birth, heard[place]) for d, place in places.items()}
        return tuple(Target(kind=TargetKind.DEVICE, name=d, profile=b.profile) for d, b in births.items())

    def tell(self, wishes: Mapping[Target, Wish]) -> tuple[ToldTarget, ...]:
        """Return what each target has now been told; every document is acknowledged by the broker.

        Raises:
            UnreachableError: The broker went away.
        """
        if not wishes:
            return ()
        heard = self._heard(wishes)
        above = max((d.sequence for d in heard.values()), default=0)
        return tuple(self._tell(target, wish, heard, above) for target, wish in wishes.items())

    def _heard(self, wishes: Iterable[Target]) -> Mapping[str, Desired]:
        """Return what the broker retains of ours: every profile's, and every device's if the store is empty."""
        if self.store.all_desired():
            devices = [self._topic(t.kind, t.name) for t in wishes if t.kind is TargetKind.DEVICE]
        else:
            devices = [topics.every_device(self.fleet, DeviceTopic.DESIRED)]
        found = self.broker.retained([topics.every_profile_desired(self.fleet), *devices])
        ours = {topic: self._ours(data) for topic, data in found.items()}
        return {topic: desired for topic, desired in ours.items() if desired is not None}

    def _tell(self, target: Target, wish: Wish, heard: Mapping[str, Desired], above: int) -> ToldTarget:
        own = self._latest(target.kind, target.name, heard)
        followed = _newer(own, self._latest(TargetKind.PROFILE, target.profile, heard))
        before = assignment_of(followed, wish.model)
        after = assign(before, wish)
        unchanged = own is not None and followed is own and after == before
        desired = own if unchanged and own else self._next(target, followed, after, above)
        self._publish(desired)
        return told(target, after, sequence=desired.sequence, changed=not unchanged)

    def _next(self, target: Target, followed: Desired | None, assignment: Assignment, above: int) -> Desired:
        return Desired(
            fleet=self.fleet,
            target_kind=target.kind,
            target=target.name,
            sequence=self.store.next_sequence(above=above),
            issued_at=self.clock.now(),
            models=with_assignment(followed.models if followed else (), assignment),
        )

    def _publish(self, desired: Desired) -> None:
        data = envelope.pack(self.sign(DocumentType.DESIRED, codec.encode(desired)))
        self.store.save_desired(desired)
        self.broker.publish(self._topic(desired.target_kind, desired.target), data, retain=True)

    def _latest(self, kind: TargetKind, name: str, heard: Mapping[str, Desired]) -> Desired | None:
        return _newer(self.store.desired(kind, name), heard.get(self._topic(kind, name)))

    def _ours(self, retained: bytes) -> Desired | None:
        """Return a retained desired state if this host's campaign key signed exactly these bytes.

        Ed25519 signatures are deterministic (RFC 8032, section 5.1.6): signing again gives the same.
        """
        try:
            payload = envelope.unpack(retained).payload
            genuine = envelope.pack(self.sign(DocumentType.DESIRED, payload)) == retained
            return codec.decode(Desired, payload) if genuine else None
        except WireError:
            return None

    def _topic(self, kind: TargetKind, name: str) -> str:
        if kind is TargetKind.PROFILE:
            return topics.profile_desired(self.fleet, name)
        return topics.device(self.fleet, name, DeviceTopic.DESIRED)


def _newer(one: Desired | None, other: Desired | None) -> Desired | None:
    if one is None or other is None:
        return one or other
    return other if other.sequence > one.sequence else one


def told(target: Target, assignment: Assignment, *, sequence: int, changed: bool) -> ToldTarget:
    """Return the record of what a target is told."""
    return ToldTarget(
        kind=target.kind,
        target=target.name,
        sequence=sequence,
        active=assignment.active,
        measure=len(assignment.measure),
        changed=changed,
    )
