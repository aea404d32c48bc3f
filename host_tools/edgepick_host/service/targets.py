"""What devices and profiles are told: read, changed for one model, signed, kept, published.

Rules:
- What a target follows is the newer of its own document and, for a device, its profile's.
- A document that says nothing new keeps its sequence and its exact bytes; it is published again all
  the same, so that a host that died between its store and the broker mends itself.
- A device that follows a document of its own (a canary) goes on doing so when its profile is told
  something: its document is sent again first, with a higher sequence than the profile's.
- A new sequence is above everything that this host has signed, also where its store was lost and only
  the broker remembers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgepick_host.core.assignments import desired_topic, effective
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
        found = self._born(devices)
        missing = sorted(set(devices) - {t.name for t in found})
        if missing:
            raise StateError(
                f"never heard of device {', '.join(missing)}: its profile is not known",
                hint="`edgepick devices list` shows every device; start the agent once, or publish to its profile.",
            )
        return found

    def _born(self, devices: Sequence[str]) -> tuple[Target, ...]:
        """Return the targets of those of ``devices`` whose births the broker retains."""
        heard = self.broker.retained([topics.device(self.fleet, d, DeviceTopic.BIRTH) for d in devices])
        births = [codec.decode(Birth, data) for data in heard.values()]
        return tuple(Target(kind=TargetKind.DEVICE, name=b.device, profile=b.profile) for b in births)

    def tell(self, wishes: Mapping[Target, Wish]) -> tuple[ToldTarget, ...]:
        """Return what each target has now been told; every document is acknowledged by the broker.

        Raises:
            UnreachableError: The broker went away.
        """
        if not wishes:
            return ()
        heard = self._heard(wishes)
        above = max((d.sequence for d in heard.values()), default=0)
        return tuple(told for target, wish in wishes.items() for told in self._tell(target, wish, heard, above))

    def _heard(self, wishes: Iterable[Target]) -> Mapping[str, Desired]:
        """Return what the broker retains of ours: every profile's, and every device's if the store is empty."""
        if self.store.all_desired():
            devices = [self._topic(t.kind, t.name) for t in wishes if t.kind is TargetKind.DEVICE]
        else:
            devices = [topics.every_device(self.fleet, DeviceTopic.DESIRED)]
        found = self.broker.retained([topics.every_profile_desired(self.fleet), *devices])
        ours = {topic: self._ours(data) for topic, data in found.items()}
        return {topic: desired for topic, desired in ours.items() if desired is not None}

    def _tell(self, target: Target, wish: Wish, heard: Mapping[str, Desired], above: int) -> list[ToldTarget]:
        own = self._latest(target.kind, target.name, heard)
        common = self._latest(TargetKind.PROFILE, target.profile, heard)
        followed = effective(own, common)
        before = assignment_of(followed, wish.model)
        after = assign(before, wish)
        if own is not None and followed is own and after == before:
            self._publish(own)
            return [told(target, after, sequence=own.sequence, changed=False)]
        desired = self._next(target, followed, after, above)
        apart = [] if wish.forced or target.kind is TargetKind.DEVICE else self._apart(target.profile, common, heard)
        kept = [self._keep_apart(*device, wish, above) for device in apart]
        self._publish(desired)
        return [told(target, after, sequence=desired.sequence, changed=True), *kept]

    def _apart(
        self, profile: str, common: Desired | None, heard: Mapping[str, Desired]
    ) -> list[tuple[Target, Desired]]:
        """Return the devices of a profile that follow a document of their own: a canary, say."""
        documents = {d.target: d for d in (*heard.values(), *self.store.all_desired()) if _outranks(d, common)}
        known = {d.device: d.birth.profile for d in self.store.devices() if d.birth}
        unknown = [name for name in documents if name not in known]
        known |= {t.name: t.profile for t in self._born(unknown)}
        return [
            (Target(kind=TargetKind.DEVICE, name=name, profile=profile), document)
            for name, document in sorted(documents.items())
            if known.get(name) == profile
        ]

    def _keep_apart(self, target: Target, document: Desired, wish: Wish, above: int) -> ToldTarget:
        """Tell a device what it was told, and to measure: above its profile's new document, and sent before it."""
        after = assign(assignment_of(document, wish.model), wish)
        desired = self._next(target, document, after, above)
        self._publish(desired)
        return told(target, after, sequence=desired.sequence, changed=True)

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
        return effective(self.store.desired(kind, name), heard.get(self._topic(kind, name)))

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
        return desired_topic(self.fleet, kind, name)


def _outranks(document: Desired, common: Desired | None) -> bool:
    is_own = document.target_kind is TargetKind.DEVICE
    return is_own and (common is None or document.sequence > common.sequence)


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
