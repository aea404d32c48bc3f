"""Writes desired state: stores it, signs it, sends it; in an order that no device can misread.

Rules:
- A document is stored before it is sent; sending it again is harmless, so everything stored is
  sent again at every start.
- A profile's document outranks the older documents of its devices. Where a device must keep
  something else, its new document (with a still higher sequence) is sent first.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from edgepick_host.core.assignments import (
    actives,
    assignment_in,
    desired_topic,
    device_models,
    effective,
    profile_models,
)
from edgepick_host.ports import Broker, Clock, SignDocument, Store
from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType, pack
from edgepick_wire.messages import Assignment, Desired, MeasureRequest, TargetKind

Key = tuple[TargetKind, str]


class Desk:
    """The one writer of desired state in a coordinator.

    Attributes:
        written_by_others: Rises whenever something was found that this desk has not written.
    """

    def __init__(self, *, fleet: str, store: Store, broker: Broker, sign: SignDocument, clock: Clock) -> None:
        self._fleet = fleet
        self._store = store
        self._broker = broker
        self._sign = sign
        self._clock = clock
        self._documents: dict[Key, Desired] = {}
        self._mark = 0
        self._highest = 0
        self.written_by_others = 0

    def read(self) -> None:
        """Take in what was stored since the last time, by whomever it was written."""
        mark = self._store.marks().desired
        if mark == self._mark and self._documents:
            return
        found = self._store.all_desired(since=self._mark)
        self._mark = mark
        news = [d for d in found if self._documents.get((d.target_kind, d.target)) != d]
        if news:
            self._know(news)
            self.written_by_others += 1

    def _know(self, documents: Iterable[Desired]) -> None:
        for document in documents:
            models = tuple(_compact(m) for m in document.models)
            self._documents[document.target_kind, document.target] = dataclasses.replace(document, models=models)
            self._highest = max(self._highest, document.sequence)

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

    def want_devices(self, wishes: Iterable[tuple[str, str, Assignment]]) -> None:
        """Make each device of a profile want its change: stored together, then sent; nothing where it does already."""
        new = [
            (device, profile, change) for device, profile, change in wishes if self._differs(device, profile, change)
        ]
        first = self._next(len(new)) if new else 0
        self._send(
            self._document(TargetKind.DEVICE, device, sequence, device_models(*self._both(device, profile), change))
            for sequence, (device, profile, change) in enumerate(new, first)
        )

    def _differs(self, device: str, profile: str, change: Assignment) -> bool:
        now = self.active(device, profile, change.model)
        return (now.active, now.rollout) != (change.active, change.rollout)

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
        apart = [(d, holding) for d in devices if (holding := self._apart(d, profile, models, change, exceptions))]
        sequence = self._next(1 + len(apart))
        told = [
            self._document(TargetKind.DEVICE, device, number, holding)
            for number, (device, holding) in enumerate(apart, sequence + 1)
        ]
        self._send([*told, self._document(TargetKind.PROFILE, profile, sequence, models)])

    def _apart(
        self,
        device: str,
        profile: str,
        models: tuple[Assignment, ...],
        change: Assignment,
        exceptions: Mapping[str, str | None],
    ) -> tuple[Assignment, ...]:
        """Return what a device must be told by itself, above its profile's new ``models``; nothing if they suit it."""
        active = exceptions.get(device, change.active)
        budget = change.max_bytes if active == change.active else None
        target = Assignment(model=change.model, active=active, rollout=change.rollout, max_bytes=budget)
        holding = device_models(*self._both(device, profile), target)
        if actives(holding) == actives(models):
            return ()
        orders = {m.model: m.measure for m in models}
        return tuple(dataclasses.replace(m, measure=orders.get(m.model, m.measure)) for m in holding)

    def _next(self, count: int) -> int:
        return self._store.next_sequence(above=self._highest, count=count)

    def _both(self, device: str, profile: str) -> tuple[Desired | None, Desired | None]:
        return self._documents.get((TargetKind.DEVICE, device)), self._documents.get((TargetKind.PROFILE, profile))

    def _document(self, kind: TargetKind, target: str, sequence: int, models: tuple[Assignment, ...]) -> Desired:
        return Desired(
            fleet=self._fleet,
            target_kind=kind,
            target=target,
            sequence=sequence,
            issued_at=self._clock.now(),
            models=models,
        )

    def _send(self, documents: Iterable[Desired]) -> None:
        """Store documents, all of them or none, and then send them in their order."""
        documents = list(documents)
        if not documents:
            return
        before = self._store.marks().desired
        self._store.save_desired(*documents)
        after = self._store.marks().desired
        if (before, after) == (self._mark, self._mark + 1):
            self._mark = after  # nobody else wrote meanwhile
        self._know(documents)
        self._broker.publish_many((self._message(d) for d in documents), on_done=lambda _count: None)

    def _message(self, document: Desired) -> tuple[str, bytes]:
        topic = desired_topic(self._fleet, document.target_kind, document.target)
        return topic, pack(self._sign(DocumentType.DESIRED, codec.encode(document)))


def _compact(assignment: Assignment) -> Assignment:
    """Return an assignment whose orders to measure, the same on many devices, are one object."""
    return dataclasses.replace(assignment, measure=_orders(assignment.measure))


@lru_cache(maxsize=1024)
def _orders(orders: tuple[MeasureRequest, ...]) -> tuple[MeasureRequest, ...]:
    return orders
