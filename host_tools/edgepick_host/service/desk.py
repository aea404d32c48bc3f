"""Writes desired state: stores it, signs it, sends it; in an order that no device can misread.

Rules:
- A document is stored before it is sent; sending it again is harmless, so everything stored is
  sent again at every start.
- A profile's document outranks the older documents of its devices. Where a device must keep
  something else, its new document (with a still higher sequence) is sent first.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from edgepick_host.core.assignments import actives, assignment_in, device_models, effective, profile_models
from edgepick_host.ports import Broker, Clock, SignDocument, Store
from edgepick_wire import codec, topics
from edgepick_wire.envelope import DocumentType, pack
from edgepick_wire.messages import Assignment, Desired, MeasureRequest, TargetKind
from edgepick_wire.topics import DeviceTopic

Key = tuple[TargetKind, str]


class Desk:
    """The one writer of desired state in a coordinator."""

    def __init__(self, *, fleet: str, store: Store, broker: Broker, sign: SignDocument, clock: Clock) -> None:
        self._fleet = fleet
        self._store = store
        self._broker = broker
        self._sign = sign
        self._clock = clock
        self._documents: dict[Key, Desired] = {}

    def read(self) -> None:
        """Take in what is stored, by whomever it was written."""
        self._documents = {(d.target_kind, d.target): d for d in self._store.all_desired()}

    def send_all(self) -> None:
        """Send everything that is stored, devices before profiles."""
        self.read()
        ordered = sorted(self._documents.values(), key=lambda d: d.target_kind is TargetKind.PROFILE)
        self._broker.publish_many((self._message(d) for d in ordered), on_done=lambda _count: None)

    def active(self, device: str, profile: str, model: str) -> Assignment:
        """Return what a device should do about a model, by the document that holds."""
        own, common = self._both(device, profile)
        return assignment_in(effective(own, common), model)

    def profile_assignment(self, profile: str, model: str) -> Assignment:
        """Return what a profile should do about a model."""
        return assignment_in(self._documents.get((TargetKind.PROFILE, profile)), model)

    def profile_active(self, profile: str, model: str) -> str | None:
        """Return what a profile should run."""
        return self.profile_assignment(profile, model).active

    def orders(self, profile: str, model: str) -> frozenset[str]:
        """Return the manifests that a profile was told to measure."""
        said = assignment_in(self._documents.get((TargetKind.PROFILE, profile)), model)
        return frozenset(r.manifest for r in said.measure)

    def want_device(self, device: str, profile: str, change: Assignment) -> None:
        """Make one device want ``change``; does nothing if it does already."""
        now = self.active(device, profile, change.model)
        if (now.active, now.rollout) == (change.active, change.rollout):
            return
        own, common = self._both(device, profile)
        self._write(TargetKind.DEVICE, device, self._next(), device_models(own, common, change))

    def want_profile(
        self,
        profile: str,
        change: Assignment,
        *,
        devices: Iterable[str],
        exceptions: Mapping[str, str | None],
        measure: Sequence[MeasureRequest] = (),
    ) -> None:
        """Make a whole profile want ``change``, but ``exceptions`` something else about this model.

        Args:
            profile: The kind of device.
            change: What its devices should do about one model.
            devices: Every known device of the profile.
            exceptions: Device -> variant of the same model that it should run instead.
            measure: More orders to measure, for all of them.
        """
        common = self._documents.get((TargetKind.PROFILE, profile))
        models = profile_models(common, change, measure=measure)
        sequence = self._next()
        document = self._document(TargetKind.PROFILE, profile, sequence, models)
        for device in devices:
            self._keep_apart(device, document, change, exceptions)
        self._send(document)

    def _keep_apart(
        self, device: str, document: Desired, change: Assignment, exceptions: Mapping[str, str | None]
    ) -> None:
        own, common = self._both(device, document.target)
        active = exceptions.get(device, change.active)
        budget = change.max_bytes if active == change.active else None
        target = Assignment(model=change.model, active=active, rollout=change.rollout, max_bytes=budget)
        holding = device_models(own, common, target)
        orders = {m.model: m.measure for m in document.models}
        if actives(holding) != actives(document.models):
            models = tuple(dataclasses.replace(m, measure=orders.get(m.model, m.measure)) for m in holding)
            self._write(TargetKind.DEVICE, device, self._next(), models)

    def _next(self) -> int:
        return self._store.next_sequence(above=max((d.sequence for d in self._documents.values()), default=0))

    def _both(self, device: str, profile: str) -> tuple[Desired | None, Desired | None]:
        return self._documents.get((TargetKind.DEVICE, device)), self._documents.get((TargetKind.PROFILE, profile))

    def _write(self, kind: TargetKind, target: str, sequence: int, models: tuple[Assignment, ...]) -> None:
        self._send(self._document(kind, target, sequence, models))

    def _document(self, kind: TargetKind, target: str, sequence: int, models: tuple[Assignment, ...]) -> Desired:
        return Desired(
            fleet=self._fleet,
            target_kind=kind,
            target=target,
            sequence=sequence,
            issued_at=self._clock.now(),
            models=models,
        )

    def _send(self, document: Desired) -> None:
        self._store.save_desired(document)
        self._documents[document.target_kind, document.target] = document
        topic, payload = self._message(document)
        self._broker.publish(topic, payload, retain=True)

    def _message(self, document: Desired) -> tuple[str, bytes]:
        if document.target_kind is TargetKind.PROFILE:
            topic = topics.profile_desired(self._fleet, document.target)
        else:
            topic = topics.device(self._fleet, document.target, DeviceTopic.DESIRED)
        return topic, pack(self._sign(DocumentType.DESIRED, codec.encode(document)))
