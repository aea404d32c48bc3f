"""The store port in memory, without a database; keeps tests/contracts/test_store.py."""

import contextlib
import copy
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from edgepick_host.core.records import (
    AuditEntry,
    Device,
    DevicePage,
    DeviceQuery,
    Hearing,
    Marks,
    MemberRow,
    ModelCount,
    OldReport,
    ProfileCount,
    Pruned,
    Release,
    Token,
    is_online,
    newer_presence,
)
from edgepick_wire import codec
from edgepick_wire.messages import Birth, Desired, Presence, Report, Reported, TargetKind


@dataclass
class Heard:
    birth: Birth | None = None
    presence: Presence | None = None
    reported: Reported | None = None
    last_seen: float = 0.0


@dataclass
class MemoryStore:
    """Everything in dictionaries and lists; open to a test's eyes."""

    sequence: int = 0
    released: dict[str, tuple[Release, bytes]] = field(default_factory=dict)
    wanted: dict[tuple[TargetKind, str], Desired] = field(default_factory=dict)
    heard: dict[str, Heard] = field(default_factory=dict)
    received: dict[tuple[str, str], Report] = field(default_factory=dict)
    taken: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    gone: list[str | None] = field(default_factory=list)
    gone_before: float = 0.0
    decided: list[tuple[str, bytes]] = field(default_factory=list)
    rolled: dict[str, bytes] = field(default_factory=dict)
    seated: dict[str, dict[tuple[int, int], MemberRow]] = field(default_factory=dict)
    marked: Marks = field(default_factory=Marks)
    written: dict[tuple[TargetKind, str], int] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)
    chunks: dict[str, set[str]] = field(default_factory=dict)
    marked_topics: dict[str, set[str]] = field(default_factory=dict)
    publications: dict[str, tuple[str, frozenset[str], float]] = field(default_factory=dict)
    audited: list[AuditEntry] = field(default_factory=list)
    given: dict[str, Token] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def close(self) -> None:
        """Nothing is open."""

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        names = [f.name for f in fields(self) if f.name != "lock"]
        before = {name: copy.deepcopy(getattr(self, name)) for name in names}
        try:
            yield
        except BaseException:
            for name, value in before.items():
                setattr(self, name, value)
            raise

    def next_sequence(self, *, above: int = 0, count: int = 1) -> int:
        with self.lock:
            self.sequence = max(self.sequence, above) + count
            return self.sequence - count + 1

    def marks(self) -> Marks:
        return self.marked

    def save_release(self, release: Release, envelope: bytes) -> None:
        if self.released.setdefault(release.manifest, (release, envelope))[0] is release:
            self.marked = replace(self.marked, releases=self.marked.releases + 1)

    def releases(self, model: str | None = None) -> Sequence[Release]:
        return [release for release, _ in self.released.values() if model in (None, release.model)]

    def renew_manifest(self, digest: str, envelope: bytes) -> None:
        if digest in self.released:
            self.released[digest] = (self.released[digest][0], envelope)

    def manifest(self, digest: str) -> bytes | None:
        return self.released[digest][1] if digest in self.released else None

    def save_desired(self, *desired: Desired) -> None:
        if desired:
            self.marked = replace(self.marked, desired=self.marked.desired + 1)
        for each in desired:
            key = (each.target_kind, each.target)
            if key not in self.wanted or self.wanted[key].sequence <= each.sequence:
                self.wanted[key] = each
                self.written[key] = self.marked.desired

    def desired(self, kind: TargetKind, target: str) -> Desired | None:
        return self.wanted.get((kind, target))

    def all_desired(self, *, since: int = 0) -> Sequence[Desired]:
        return [self.wanted[key] for key in sorted(self.wanted) if self.written[key] > since]

    def hear(self, hearings: Sequence[Hearing]) -> Mapping[str, bool]:
        for h in hearings:
            if h.birth is not None:
                self.heard_birth(h.birth, h.at)
            if h.presence is not None:
                self.heard_presence(h.device, h.presence, h.at)
            if h.reported is not None:
                self.heard_reported(h.reported, h.at)
        told = {h.device: self.heard[h.device] for h in hearings if h.birth is not None or h.presence is not None}
        return {name: is_online(heard.birth, heard.presence) for name, heard in told.items()}

    def heard_birth(self, birth: Birth, at: float) -> None:
        self._heard(birth.device, at).birth = birth

    def heard_presence(self, device: str, presence: Presence, at: float) -> None:
        heard = self._heard(device, at)
        heard.presence = newer_presence(heard.presence, presence)

    def heard_reported(self, reported: Reported, at: float) -> None:
        self._heard(reported.device, at).reported = reported

    def devices(self) -> Sequence[Device]:
        return [
            Device(
                device=device,
                birth=heard.birth,
                reported=heard.reported,
                online=is_online(heard.birth, heard.presence),
                last_seen=heard.last_seen,
            )
            for device, heard in sorted(self.heard.items())
        ]

    def device(self, name: str) -> Device | None:
        return next((device for device in self.devices() if device.device == name), None)

    def device_page(self, query: DeviceQuery) -> DevicePage:
        matching = [device for device in self.devices() if _matches(device, query)]
        later = [device for device in matching if device.device > query.after]
        return DevicePage(devices=tuple(later[: query.limit]), total=len(matching))

    def profile_counts(self) -> Sequence[ProfileCount]:
        kinds = Counter(_profile(device) for device in self.devices())
        online = Counter(_profile(device) for device in self.devices() if device.online)
        return [
            ProfileCount(profile=kind, devices=kinds[kind], online=online[kind])
            for kind in sorted(kinds, key=lambda kind: kind or "")
        ]

    def model_counts(self) -> Sequence[ModelCount]:
        said = Counter(
            (
                _profile(d),
                m.model,
                m.phase.value,
                m.active_label if m.active else None,
                m.refusal and m.refusal.code.value,
            )
            for d in self.devices()
            for m in (d.reported.models if d.reported else ())
        )
        counts = [
            ModelCount(profile=p, model=m, phase=phase, active_label=label, refusal=refusal, devices=n)
            for (p, m, phase, label, refusal), n in said.items()
        ]
        return sorted(counts, key=lambda c: (c.model, c.profile or "", -c.devices, c.active_label or ""))

    def add_report(self, report: Report, at: float) -> bool:
        key = (report.device, report.id)
        new = key not in self.received
        self.received.setdefault(key, report)
        self.taken.setdefault(key, (at, len(self.gone) + len(self.received)))
        return new

    def add_reports(self, reports: Sequence[Report], at: float) -> Sequence[Report]:
        return [report for report in reports if self.add_report(report, at)]

    def each_report(self, *, model: str | None = None, after: int = 0) -> Iterator[Report]:
        yield from self.reports(model=model)[max(after - self._gone(model), 0) :]

    def reports(
        self, *, model: str | None = None, device: str | None = None, newest: int | None = None
    ) -> Sequence[Report]:
        found = [
            r for r in self.received.values() if device in (None, r.device) and (model is None or _model_of(r) == model)
        ]
        return found if newest is None else found[max(0, len(found) - newest) :]

    def append_decision(self, model: str, document: bytes) -> int:
        self.decided.append((model, document))
        return len(self.decided)

    def decisions(self, model: str | None = None) -> Sequence[tuple[int, bytes]]:
        return [(n, d) for n, (m, d) in enumerate(self.decided, 1) if model in (None, m)]

    def save_rollout(self, rollout: str, document: bytes, members: Sequence[MemberRow] = ()) -> None:
        self.rolled[rollout] = document
        self.seated.setdefault(rollout, {}).update({(m.lane, m.place): m for m in members})
        self.marked = replace(self.marked, rollouts=self.marked.rollouts + 1)

    def members(self, rollout: str) -> Sequence[MemberRow]:
        return [row for _, row in sorted(self.seated.get(rollout, {}).items())]

    def rollouts(self) -> Sequence[tuple[str, bytes]]:
        return list(self.rolled.items())

    def memberships(self, device: str) -> Sequence[tuple[str, bytes]]:
        rows = ((rollout, row) for rollout, seats in self.seated.items() for row in seats.values())
        return [(rollout, row.document) for rollout, row in rows if row.device == device]

    def lease(self, name: str, holder: str, *, now: float, seconds: float) -> str:
        owner, expires = self.leases.get(name, (holder, now))
        if owner != holder and expires > now:
            return owner
        self.leases[name] = (holder, now + seconds)
        return holder

    def save_token(self, token: Token) -> bool:
        return self.given.setdefault(token.name, token) is token

    def tokens(self) -> Sequence[Token]:
        return [self.given[name] for name in sorted(self.given)]

    def remove_token(self, name: str) -> bool:
        return self.given.pop(name, None) is not None

    def report_count(self, *, model: str | None = None) -> int:
        return len(self.reports(model=model)) + self._gone(model)

    def _gone(self, model: str | None) -> int:
        return sum(model in (None, each) for each in self.gone)

    def old_reports(self, *, before: float, after: OldReport | None = None, limit: int) -> Sequence[OldReport]:
        found = [
            OldReport(position=place, heard_at=at, size_bytes=len(codec.encode_document(report)), report=report)
            for (at, place), report in sorted(
                ((self.taken[key], report) for key, report in self.received.items()), key=lambda pair: pair[0]
            )
            if at < before
        ]
        return [r for r in found if after is None or (r.heard_at, r.position) > (after.heard_at, after.position)][
            :limit
        ]

    def remove_reports(self, old: Sequence[OldReport], *, before: float) -> Sequence[OldReport]:
        newest = max((place for _, place in self.taken.values()), default=0)
        removed = []
        for each in old:
            key = (each.report.device, each.report.id)
            if key in self.received and each.position != newest:
                del self.received[key], self.taken[key]
                self.gone.append(_model_of(each.report))
                removed.append(each)
        self.gone_before = before
        return removed

    def pruned(self, model: str) -> Pruned | None:
        return Pruned(reports=self._gone(model), before=self.gone_before) if self._gone(model) else None

    def missing_reports(self, names: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        return frozenset(names) - self.received.keys()

    def add_audit(self, entry: AuditEntry) -> None:
        self.audited.append(entry)

    def audit(self, *, newest: int) -> Sequence[AuditEntry]:
        return self.audited[max(0, len(self.audited) - newest) :]

    def known_chunks(self, broker: str) -> frozenset[str]:
        return frozenset(self.chunks.get(broker, ()))

    def add_chunks(self, broker: str, digests: Iterable[str]) -> None:
        self.chunks.setdefault(broker, set()).update(digests)

    def forget_chunks(self, broker: str, digests: Iterable[str] | None = None) -> None:
        if digests is None:
            self.chunks.pop(broker, None)
            self.marked_topics.pop(broker, None)
        else:
            self.chunks.get(broker, set()).difference_update(digests)

    def landmarks(self, broker: str) -> frozenset[str]:
        return frozenset(self.marked_topics.get(broker, ()))

    def set_landmarks(self, broker: str, topics: Collection[str] = (), *, instead_of: Collection[str] = ()) -> None:
        self.marked_topics[broker] = (self.marked_topics.get(broker, set()) - set(instead_of)) | set(topics)

    def begin_publication(self, name: str, broker: str, digests: Collection[str], *, until: float) -> None:
        self.publications[name] = (broker, frozenset(digests), until)

    def extend_publication(self, name: str, *, until: float) -> bool:
        if name in self.publications:
            self.publications[name] = (*self.publications[name][:2], until)
        return name in self.publications

    def end_publication(self, name: str) -> None:
        self.publications.pop(name, None)

    def being_published(self, broker: str, *, now: float) -> frozenset[str]:
        for name in [n for n, (b, _, until) in self.publications.items() if b == broker and until <= now]:
            del self.publications[name]
        return frozenset(d for b, digests, _ in self.publications.values() if b == broker for d in digests)

    def _heard(self, device: str, at: float) -> Heard:
        heard = self.heard.setdefault(device, Heard())
        heard.last_seen = at
        return heard


def _model_of(report: Report) -> str | None:
    part = report.measurement or report.install or report.incident or report.shadow
    return part.model if part else None


def _profile(device: Device) -> str | None:
    return device.birth.profile if device.birth else None


def _matches(device: Device, query: DeviceQuery) -> bool:
    models = device.reported.models if device.reported else ()
    return (
        (query.search.lower() in device.device.lower() or query.search.lower() in (_profile(device) or "").lower())
        and query.profile in (None, _profile(device))
        and query.online in (None, device.online)
        and (query.model is None or any(m.model == query.model for m in models))
        and (query.variant is None or any(m.active and m.active_label == query.variant for m in models))
    )
