"""The store port over SQLAlchemy Core: one SQLite file by default, any other database by URL.

Rules:
- Every method is one transaction, or a part of the batch that its thread has open; one that writes takes the write
  lock at its beginning, so that several processes can share the database.
- SQLite is told to flush every commit: a sequence or an acknowledged report must survive a power cut.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from edgepick_host.adapters.store_sql import ages, devices, tables, writes
from edgepick_host.adapters.store_sql.engine import WRITE, engine_of, without_password
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
)
from edgepick_host.errors import StateError
from edgepick_wire import codec
from edgepick_wire.messages import Birth, Desired, Presence, Report, Reported, TargetKind


class SqlStore:
    """Keeps :class:`edgepick_host.ports.HostStore`.

    Args:
        url: SQLAlchemy URL; ``sqlite://`` alone is a database in memory.

    Raises:
        ConfigError: Not a database URL, or its driver is not installed.
        StateError: The database cannot be opened, or a newer edgepick has written it.
    """

    def __init__(self, url: str) -> None:
        self._place = without_password(url)
        self._engine = engine_of(url)
        self._writing = self._engine.execution_options(**{WRITE: True})
        self._open = threading.local()
        with self._write() as connection:
            tables.migrate(connection)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Make one transaction of everything that this thread does inside: all of it is kept, or none."""
        outer = getattr(self._open, "connection", None)
        with self._write() as connection:
            self._open.connection = connection
            try:
                yield
            finally:
                self._open.connection = outer

    def next_sequence(self, *, above: int = 0, count: int = 1) -> int:
        """Return the first of ``count`` numbers higher than any before and than ``above``, durably."""
        with self._write() as connection:
            return writes.counted(connection, "sequence", above=above, by=count) - count + 1

    def marks(self) -> Marks:
        """Return how far desired states, rollouts and releases have been written, by anyone."""
        names = [f.name for f in dataclasses.fields(Marks)]
        query = sa.select(tables.counter.c.name, tables.counter.c.value).where(tables.counter.c.name.in_(names))
        with self._read() as connection:
            return Marks(**{row.name: row.value for row in connection.execute(query)})

    def save_release(self, release: Release, envelope: bytes) -> None:
        """Keep a release and its signed manifest; publishing the same again changes nothing."""
        row = {"model": release.model, "document": codec.encode_document(release), "envelope": envelope}
        with self._write() as connection:
            if not _exists(connection, tables.release.c.manifest == release.manifest):
                connection.execute(tables.release.insert().values(manifest=release.manifest, **row))
                writes.counted(connection, "releases")

    def releases(self, model: str | None = None) -> Sequence[Release]:
        """Return releases, oldest first."""
        query = _only(
            sa.select(tables.release.c.document).order_by(tables.release.c.position), tables.release.c.model, model
        )
        return [codec.decode_document(Release, document) for document in self._column(query)]

    def manifest(self, digest: str) -> bytes | None:
        """Return a signed manifest."""
        return self._one(sa.select(tables.release.c.envelope).where(tables.release.c.manifest == digest))

    def renew_manifest(self, digest: str, envelope: bytes) -> None:
        """Replace the signed manifest of a kept release: the same payload, signed again."""
        with self._write() as connection:
            connection.execute(
                tables.release.update().where(tables.release.c.manifest == digest).values(envelope=envelope)
            )

    def save_desired(self, *desired: Desired) -> None:
        """Keep what targets should do, each unless it has been told something of a higher sequence."""
        with self._write() as connection:
            if desired:
                writes.save_desired(connection, desired, writes.counted(connection, "desired"))

    def desired(self, kind: TargetKind, target: str) -> Desired | None:
        """Return what a target should do."""
        key = writes.equal(tables.desired, {"kind": kind.value, "target": target})
        document = self._one(sa.select(tables.desired.c.document).where(*key))
        return None if document is None else codec.decode_document(Desired, document)

    def all_desired(self, *, since: int = 0) -> Sequence[Desired]:
        """Return what every target should do, by kind and target, or only what was written after ``since``."""
        query = sa.select(tables.desired.c.document).order_by(tables.desired.c.kind, tables.desired.c.target)
        if since:
            query = query.where(tables.desired.c.written > since)
        return [codec.decode_document(Desired, document) for document in self._column(query)]

    def hear(self, hearings: Sequence[Hearing]) -> Mapping[str, bool]:
        """Keep what devices said; returns who is online now of those whose birth or presence was heard."""
        with self._write() as connection:
            return devices.hear(connection, hearings)

    def heard_birth(self, birth: Birth, at: float) -> None:
        """Keep who a device is."""
        self.hear([Hearing(device=birth.device, at=at, birth=birth)])

    def heard_presence(self, device: str, presence: Presence, at: float) -> None:
        """Keep whether a device is online; a last will of an older session changes nothing."""
        self.hear([Hearing(device=device, at=at, presence=presence)])

    def heard_reported(self, reported: Reported, at: float) -> None:
        """Keep what a device runs."""
        self.hear([Hearing(device=reported.device, at=at, reported=reported)])

    def devices(self) -> Sequence[Device]:
        """Return every device that was ever heard, by id."""
        with self._read() as connection:
            rows = connection.execute(sa.select(tables.device).order_by(tables.device.c.device)).all()
        return [devices.device_of(row) for row in rows]

    def device(self, name: str) -> Device | None:
        """Return one device."""
        with self._read() as connection:
            row = connection.execute(sa.select(tables.device).where(tables.device.c.device == name)).first()
        return None if row is None else devices.device_of(row)

    def device_page(self, query: DeviceQuery) -> DevicePage:
        """Return the devices that match, by id, from the one after ``query.after``, and how many match in all."""
        matching = sa.select(tables.device).where(*devices.conditions(query))
        page = matching.where(tables.device.c.device > query.after).order_by(tables.device.c.device).limit(query.limit)
        with self._read() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(matching.subquery())) or 0
            rows = connection.execute(page).all()
        return DevicePage(devices=tuple(map(devices.device_of, rows)), total=total)

    def profile_counts(self) -> Sequence[ProfileCount]:
        """Return how many devices of each kind there are, and how many are online."""
        online = sa.func.sum(sa.case((tables.device.c.online, 1), else_=0)).label("online")
        query = sa.select(tables.device.c.profile, sa.func.count().label("devices"), online)
        with self._read() as connection:
            rows = connection.execute(query.group_by(tables.device.c.profile)).all()
        counts = [ProfileCount(profile=row.profile, devices=row.devices, online=int(row.online)) for row in rows]
        return sorted(counts, key=lambda each: each.profile or "")

    def model_counts(self) -> Sequence[ModelCount]:
        """Return how many devices of each kind say the same about a model."""
        said = tables.device_model.c
        groups = (tables.device.c.profile, said.model, said.phase, said.active_label, said.refusal)
        query = sa.select(*groups, sa.func.count().label("devices")).join_from(
            tables.device_model, tables.device, tables.device.c.device == said.device
        )
        with self._read() as connection:
            rows = connection.execute(query.group_by(*groups)).mappings().all()
        counts = [ModelCount(**row) for row in rows]
        return sorted(counts, key=lambda each: (each.model, each.profile or "", -each.devices, each.active_label or ""))

    def add_report(self, report: Report, at: float) -> bool:
        """Keep a report; ``False`` if its device already sent one with this id."""
        return bool(self.add_reports([report], at))

    def add_reports(self, reports: Sequence[Report], at: float) -> Sequence[Report]:
        """Keep reports; returns those that are new, in their order."""
        with self._write() as connection:
            new = writes.unknown(connection, reports)
            if new:
                connection.execute(tables.report.insert(), [writes.report_row(report, at) for report in new])
        return new

    def reports(
        self, *, model: str | None = None, device: str | None = None, newest: int | None = None
    ) -> Sequence[Report]:
        """Return reports in the order of their arrival: all, or the ``newest`` of them."""
        query = sa.select(tables.report.c.document).order_by(tables.report.c.position.desc()).limit(newest)
        query = _only(_only(query, tables.report.c.model, model), tables.report.c.device, device)
        return [codec.decode_document(Report, document) for document in reversed(self._column(query))]

    def each_report(self, *, model: str | None = None, after: int = 0) -> Iterator[Report]:
        """Yield reports in the order of their arrival, without the first ``after``; never all of them in memory."""
        query: sa.Select[Any] = sa.select(tables.report.c.position, tables.report.c.document).order_by(
            tables.report.c.position
        )
        query = _only(query, tables.report.c.model, model).limit(devices.AT_ONCE)
        behind = after - ages.deleted(model)
        found = self._pairs(query.offset(sa.case((behind > 0, behind), else_=0)) if after else query)
        while found:
            for _, document in found:
                yield codec.decode_document(Report, document)
            found = self._pairs(query.where(tables.report.c.position > found[-1][0]))

    def old_reports(self, *, before: float, after: OldReport | None = None, limit: int) -> Sequence[OldReport]:
        """Return reports that were taken in before a time, oldest first, from the one that follows ``after``."""
        with self._read() as connection:
            return ages.old(connection, before=before, after=after, limit=limit)

    def remove_reports(self, old: Sequence[OldReport], *, before: float) -> Sequence[OldReport]:
        """Delete reports for their age, but for the newest of all; returns those that were there."""
        with self._write() as connection:
            return ages.remove(connection, old, before=before)

    def pruned(self, model: str) -> Pruned | None:
        """Return how many reports about a model were deleted for their age; ``None`` if none was."""
        with self._read() as connection:
            return ages.pruned(connection, model)

    def missing_reports(self, names: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Return those of these reports (device, id) that are not kept."""
        with self._read() as connection:
            return writes.missing(connection, names)

    def append_decision(self, model: str, document: bytes) -> int:
        """Keep a decision record for ever; returns its number, from 1."""
        with self._write() as connection:
            insert = tables.decision.insert().values(model=model, document=document).returning(tables.decision.c.number)
            return int(connection.execute(insert).scalar_one())

    def decisions(self, model: str | None = None) -> Sequence[tuple[int, bytes]]:
        """Return decision records with their numbers, oldest first."""
        query = sa.select(tables.decision.c.number, tables.decision.c.document).order_by(tables.decision.c.number)
        return self._pairs(_only(query, tables.decision.c.model, model))

    def save_rollout(self, rollout: str, document: bytes, members: Sequence[MemberRow] = ()) -> None:
        """Keep a rollout's state, replacing the last, and those of its members that changed, all or nothing."""
        with self._write() as connection:
            writes.put(connection, tables.rollout, {"rollout": rollout}, {"document": document})
            if members:
                writes.save_members(connection, rollout, members)
            writes.counted(connection, "rollouts")

    def rollouts(self) -> Sequence[tuple[str, bytes]]:
        """Return every rollout's state, oldest first."""
        return self._pairs(
            sa.select(tables.rollout.c.rollout, tables.rollout.c.document).order_by(tables.rollout.c.position)
        )

    def members(self, rollout: str) -> Sequence[MemberRow]:
        """Return a rollout's members, by lane and place."""
        member = tables.member.c
        query = sa.select(member.lane, member.place, member.device, member.document).where(member.rollout == rollout)
        with self._read() as connection:
            rows = connection.execute(query.order_by(member.lane, member.place)).all()
        return [MemberRow(lane=row.lane, place=row.place, device=row.device, document=row.document) for row in rows]

    def memberships(self, device: str) -> Sequence[tuple[str, bytes]]:
        """Return the rollouts that a device is or was in, with its document in each."""
        member = tables.member.c
        return self._pairs(sa.select(member.rollout, member.document).where(member.device == device))

    def lease(self, name: str, holder: str, *, now: float, seconds: float) -> str:
        """Return who holds the lease ``name``: taken or extended by ``holder`` if it was free or its own."""
        with self._write() as connection:
            found = connection.execute(sa.select(tables.lease).where(tables.lease.c.name == name)).first()
            if found is not None and found.holder != holder and found.expires_at > now:
                return str(found.holder)
            writes.put(connection, tables.lease, {"name": name}, {"holder": holder, "expires_at": now + seconds})
        return holder

    def save_token(self, token: Token) -> bool:
        """Keep a token; ``False`` if there is one of this name already."""
        with self._write() as connection:
            if _exists(connection, tables.token.c.name == token.name):
                return False
            row = {"name": token.name, "document": codec.encode_document(token)}
            connection.execute(tables.token.insert().values(**row))
        return True

    def tokens(self) -> Sequence[Token]:
        """Return every token, by name."""
        query = sa.select(tables.token.c.document).order_by(tables.token.c.name)
        return [codec.decode_document(Token, document) for document in self._column(query)]

    def remove_token(self, name: str) -> bool:
        """Forget a token; ``False`` if there is none of this name."""
        with self._write() as connection:
            return connection.execute(tables.token.delete().where(tables.token.c.name == name)).rowcount > 0

    def report_count(self, *, model: str | None = None) -> int:
        """Return how many reports were taken in since the beginning, deleted ones too: all, or those about a model."""
        query: sa.Select[Any] = sa.select(sa.func.max(tables.report.c.position))
        if model is not None:
            query = sa.select(sa.func.count() + ages.deleted(model)).where(tables.report.c.model == model)
        with self._read() as connection:
            return connection.scalar(query) or 0

    def add_audit(self, entry: AuditEntry) -> None:
        """Keep what somebody did, for ever."""
        row = {"at": entry.at, "actor": entry.actor, "document": codec.encode_document(entry)}
        with self._write() as connection:
            connection.execute(tables.audit.insert().values(**row))

    def audit(self, *, newest: int) -> Sequence[AuditEntry]:
        """Return the newest entries of the audit log, oldest first."""
        query = sa.select(tables.audit.c.document).order_by(tables.audit.c.number.desc()).limit(newest)
        return [codec.decode_document(AuditEntry, document) for document in reversed(self._column(query))]

    def known_chunks(self, broker: str) -> frozenset[str]:
        """Return the digests of every chunk that ``broker`` was given and not told to forget."""
        return frozenset(self._column(sa.select(tables.chunk.c.digest).where(tables.chunk.c.broker == broker)))

    def add_chunks(self, broker: str, digests: Iterable[str]) -> None:
        """Remember that ``broker`` has acknowledged these; known ones change nothing."""
        with self._write() as connection:
            writes.add_chunks(connection, broker, digests)

    def forget_chunks(self, broker: str, digests: Iterable[str] | None = None) -> None:
        """Forget these, or all of the broker's, and then its landmarks too."""
        with self._write() as connection:
            writes.forget_chunks(connection, broker, digests)

    def landmarks(self, broker: str) -> frozenset[str]:
        """Return topics that ``broker`` retains unless it has lost something of what it was given."""
        return frozenset(self._column(sa.select(tables.landmark.c.topic).where(tables.landmark.c.broker == broker)))

    def set_landmarks(self, broker: str, topics: Collection[str] = (), *, instead_of: Collection[str] = ()) -> None:
        """Make topics landmarks of ``broker``, and others no longer; what is in both becomes one."""
        with self._write() as connection:
            writes.set_landmarks(connection, broker, topics, instead_of)

    def begin_publication(self, name: str, broker: str, digests: Collection[str], *, until: float) -> None:
        """Remember that a publication to ``broker`` needs these manifests and chunks (SHA-256 in hexadecimal)."""
        row = {"broker": broker, "digests": bytes.fromhex("".join(digests)), "expires_at": until}
        with self._write() as connection:
            connection.execute(tables.publication.insert().values(name=name, **row))

    def extend_publication(self, name: str, *, until: float) -> bool:
        """Have a publication last longer; ``False`` if it has ended, or was found to have run out."""
        its = tables.publication.c.name == name
        with self._write() as connection:
            return connection.execute(tables.publication.update().where(its).values(expires_at=until)).rowcount > 0

    def end_publication(self, name: str) -> None:
        """Forget a publication."""
        with self._write() as connection:
            connection.execute(tables.publication.delete().where(tables.publication.c.name == name))

    def being_published(self, broker: str, *, now: float) -> frozenset[str]:
        """Return everything that publications to ``broker`` need; those that have run out are forgotten."""
        with self._write() as connection:
            return writes.being_published(connection, broker, now)

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        batch = getattr(self._open, "connection", None)
        if batch is not None:
            yield batch
            return
        with self._translated(), self._writing.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection]:
        batch = getattr(self._open, "connection", None)
        if batch is not None:
            yield batch
            return
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StateError(
                f"database {self._place}: {getattr(error, 'orig', None) or error}",
                hint="Check that the folder can be written to, that the disk is not full, and that the file is "
                "edgepick's database.",
            ) from error

    def _column(self, query: sa.Select[Any]) -> list[Any]:
        with self._read() as connection:
            return list(connection.scalars(query))

    def _one(self, query: sa.Select[Any]) -> bytes | None:
        found = self._column(query)
        return found[0] if found else None

    def _pairs(self, query: sa.Select[Any]) -> list[tuple[Any, bytes]]:
        with self._read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]


def _exists(connection: Connection, *conditions: sa.ColumnElement[bool]) -> bool:
    return connection.scalar(sa.select(sa.literal(1)).where(*conditions).limit(1)) is not None


def _only(query: sa.Select[Any], column: sa.Column[Any], value: str | None) -> sa.Select[Any]:
    return query if value is None else query.where(column == value)
