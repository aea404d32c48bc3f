"""The store port over SQLAlchemy Core: one SQLite file by default, any other database by URL.

Rules:
- Every method is one transaction; one that writes takes the write lock at its beginning, so two
  processes can share the file.
- Documents are kept as their canonical JSON; columns beside them exist only to be searched.
- SQLite is told to flush every commit: a sequence or an acknowledged report must survive a power cut.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from edgepick_host.core.records import Device, Release, is_online, newer_presence
from edgepick_host.errors import ConfigError, StateError
from edgepick_wire import codec
from edgepick_wire.messages import Birth, Desired, Presence, Report, Reported, TargetKind

BUSY_MILLISECONDS = 10_000
"""How long a transaction waits for another process's before it gives up."""

TABLES = sa.MetaData()
Bytes = sa.LargeBinary
_schema = sa.Table("edgepick_schema", TABLES, sa.Column("version", sa.Integer, nullable=False))
_counter = sa.Table(
    "counter", TABLES, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.BigInteger, nullable=False)
)
_release = sa.Table(
    "release",
    TABLES,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("manifest", sa.Text, nullable=False, unique=True),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("document", Bytes, nullable=False),
    sa.Column("envelope", Bytes, nullable=False),
)
_desired = sa.Table(
    "desired",
    TABLES,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("document", Bytes, nullable=False),
)
_device = sa.Table(
    "device",
    TABLES,
    sa.Column("device", sa.Text, primary_key=True),
    sa.Column("birth", Bytes),
    sa.Column("presence", Bytes),
    sa.Column("reported", Bytes),
    sa.Column("last_seen", sa.Float, nullable=False),
)
_report = sa.Table(
    "report",
    TABLES,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("model", sa.Text, index=True),
    sa.Column("document", Bytes, nullable=False),
    sa.Column("heard_at", sa.Float, nullable=False),
    sa.UniqueConstraint("device", "id"),
)
_decision = sa.Table(
    "decision",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("document", Bytes, nullable=False),
)
_rollout = sa.Table(
    "rollout",
    TABLES,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("rollout", sa.Text, nullable=False, unique=True),
    sa.Column("document", Bytes, nullable=False),
)
_lease = sa.Table(
    "lease",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)
_chunk = sa.Table(
    "chunk",
    TABLES,
    sa.Column("broker", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
)

MIGRATIONS: tuple[Callable[[Connection], None], ...] = (TABLES.create_all,)
"""Step ``n`` brings a database of version ``n`` to ``n + 1``; the first makes an empty one."""


class SqlStore:
    """Keeps :class:`edgepick_host.ports.Store` and :class:`edgepick_host.ports.ChunkLedger`.

    Args:
        url: SQLAlchemy URL; ``sqlite://`` alone is a database in memory.

    Raises:
        ConfigError: Not a database URL, or its driver is not installed.
        StateError: The database cannot be opened, or a newer edgepick has written it.
    """

    def __init__(self, url: str) -> None:
        self._place = _without_password(url)
        self._engine = _engine(url)
        self._writing = self._engine.execution_options(edgepick_write=True)
        with self._write() as connection:
            _migrate(connection)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def next_sequence(self, *, above: int = 0) -> int:
        """Return a number higher than any before and than ``above``, durably."""
        with self._write() as connection:
            last = connection.scalar(sa.select(_counter.c.value).where(_counter.c.name == "sequence")) or 0
            value = max(last, above) + 1
            _put(connection, _counter, {"name": "sequence"}, {"value": value})
        return value

    def save_release(self, release: Release, envelope: bytes) -> None:
        """Keep a release and its signed manifest; publishing the same again changes nothing."""
        row = {"model": release.model, "document": codec.encode_document(release), "envelope": envelope}
        with self._write() as connection:
            if not _exists(connection, _release.c.manifest == release.manifest):
                connection.execute(_release.insert().values(manifest=release.manifest, **row))

    def releases(self, model: str | None = None) -> Sequence[Release]:
        """Return releases, oldest first."""
        query = _only(sa.select(_release.c.document).order_by(_release.c.position), _release.c.model, model)
        return [codec.decode_document(Release, document) for document in self._column(query)]

    def manifest(self, digest: str) -> bytes | None:
        """Return a signed manifest."""
        return self._one(sa.select(_release.c.envelope).where(_release.c.manifest == digest))

    def renew_manifest(self, digest: str, envelope: bytes) -> None:
        """Replace the signed manifest of a kept release: the same payload, signed again."""
        with self._write() as connection:
            connection.execute(_release.update().where(_release.c.manifest == digest).values(envelope=envelope))

    def save_desired(self, desired: Desired) -> None:
        """Keep what a target should do, unless it has been told something of a higher sequence."""
        key = {"kind": desired.target_kind.value, "target": desired.target}
        newer = sa.and_(*_equal(_desired, key), _desired.c.sequence > desired.sequence)
        with self._write() as connection:
            if not _exists(connection, newer):
                row = {"sequence": desired.sequence, "document": codec.encode_document(desired)}
                _put(connection, _desired, key, row)

    def desired(self, kind: TargetKind, target: str) -> Desired | None:
        """Return what a target should do."""
        key = _equal(_desired, {"kind": kind.value, "target": target})
        document = self._one(sa.select(_desired.c.document).where(*key))
        return None if document is None else codec.decode_document(Desired, document)

    def all_desired(self) -> Sequence[Desired]:
        """Return what every target should do, by kind and target."""
        query = sa.select(_desired.c.document).order_by(_desired.c.kind, _desired.c.target)
        return [codec.decode_document(Desired, document) for document in self._column(query)]

    def heard_birth(self, birth: Birth, at: float) -> None:
        """Keep who a device is."""
        self._heard(birth.device, at, birth=codec.encode_document(birth))

    def heard_presence(self, device: str, presence: Presence, at: float) -> None:
        """Keep whether a device is online; a last will of an older session changes nothing."""
        with self._write() as connection:
            found = connection.scalar(sa.select(_device.c.presence).where(_device.c.device == device))
            holds = newer_presence(_decoded(Presence, found), presence)
            _put(connection, _device, {"device": device}, _heard_row(at, presence=codec.encode_document(holds)))

    def heard_reported(self, reported: Reported, at: float) -> None:
        """Keep what a device runs."""
        self._heard(reported.device, at, reported=codec.encode_document(reported))

    def devices(self) -> Sequence[Device]:
        """Return every device that was ever heard, by id."""
        with self._read() as connection:
            rows = connection.execute(sa.select(_device).order_by(_device.c.device)).all()
        return [_device_of(row) for row in rows]

    def add_report(self, report: Report, at: float) -> bool:
        """Keep a report; ``False`` if its device already sent one with this id."""
        key = {"device": report.device, "id": report.id}
        with self._write() as connection:
            if _exists(connection, *_equal(_report, key)):
                return False
            row = {"model": _model_of(report), "document": codec.encode_document(report), "heard_at": at}
            connection.execute(_report.insert().values(**key, **row))
        return True

    def reports(self, *, model: str | None = None, device: str | None = None) -> Sequence[Report]:
        """Return reports in the order of their arrival."""
        query = sa.select(_report.c.document).order_by(_report.c.position)
        query = _only(_only(query, _report.c.model, model), _report.c.device, device)
        return [codec.decode_document(Report, document) for document in self._column(query)]

    def append_decision(self, model: str, document: bytes) -> int:
        """Keep a decision record for ever; returns its number, from 1."""
        with self._write() as connection:
            insert = _decision.insert().values(model=model, document=document).returning(_decision.c.number)
            return int(connection.execute(insert).scalar_one())

    def decisions(self, model: str | None = None) -> Sequence[tuple[int, bytes]]:
        """Return decision records with their numbers, oldest first."""
        query = sa.select(_decision.c.number, _decision.c.document).order_by(_decision.c.number)
        return self._pairs(_only(query, _decision.c.model, model))

    def save_rollout(self, rollout: str, document: bytes) -> None:
        """Keep a rollout's state, replacing the last."""
        with self._write() as connection:
            _put(connection, _rollout, {"rollout": rollout}, {"document": document})

    def rollouts(self) -> Sequence[tuple[str, bytes]]:
        """Return every rollout's state, oldest first."""
        return self._pairs(sa.select(_rollout.c.rollout, _rollout.c.document).order_by(_rollout.c.position))

    def lease(self, name: str, holder: str, *, now: float, seconds: float) -> str:
        """Return who holds the lease ``name``: taken or extended by ``holder`` if it was free or its own."""
        with self._write() as connection:
            found = connection.execute(sa.select(_lease).where(_lease.c.name == name)).first()
            if found is not None and found.holder != holder and found.expires_at > now:
                return str(found.holder)
            _put(connection, _lease, {"name": name}, {"holder": holder, "expires_at": now + seconds})
        return holder

    def known_chunks(self, broker: str) -> frozenset[str]:
        """Return the digests of every chunk that ``broker`` was given and not told to forget."""
        return frozenset(self._column(sa.select(_chunk.c.digest).where(_chunk.c.broker == broker)))

    def add_chunks(self, broker: str, digests: Iterable[str]) -> None:
        """Remember that ``broker`` has acknowledged these; known ones change nothing."""
        with self._write() as connection:
            known = set(connection.scalars(sa.select(_chunk.c.digest).where(_chunk.c.broker == broker)))
            new = [{"broker": broker, "digest": digest} for digest in dict.fromkeys(digests) if digest not in known]
            if new:
                connection.execute(_chunk.insert(), new)

    def forget_chunks(self, broker: str, digests: Iterable[str] | None = None) -> None:
        """Forget these, or all of the broker's."""
        with self._write() as connection:
            if digests is None:
                connection.execute(_chunk.delete().where(_chunk.c.broker == broker))
            for digest in digests or ():
                connection.execute(_chunk.delete().where(_chunk.c.broker == broker, _chunk.c.digest == digest))

    def _heard(self, device: str, at: float, **parts: bytes) -> None:
        with self._write() as connection:
            _put(connection, _device, {"device": device}, _heard_row(at, **parts))

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._translated(), self._writing.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection]:
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


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        options: dict[str, Any] = {}
        if parsed.get_backend_name() == "sqlite" and not parsed.database:
            options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
            options["connect_args"] = {"check_same_thread": False}
        engine = sa.create_engine(parsed, **options)
    except (ArgumentError, ImportError) as error:
        raise ConfigError(
            f"database {_without_password(url)!r}: {error}",
            hint="Give a file name, or a URL such as postgresql+psycopg://user@host/name with its driver installed.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _open_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MILLISECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("edgepick_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: Connection) -> None:
    _schema.create(connection, checkfirst=True)
    version = connection.scalar(sa.select(_schema.c.version)) or 0
    if version > len(MIGRATIONS):
        raise StateError(
            f"the database has schema {version}; this edgepick knows {len(MIGRATIONS)}",
            hint="Install the edgepick that wrote it, or a newer one.",
        )
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute(_schema.delete())
    connection.execute(_schema.insert().values(version=len(MIGRATIONS)))


def _put(connection: Connection, table: sa.Table, key: dict[str, Any], row: dict[str, Any]) -> None:
    """Update the row ``key``, or insert it: portable, and safe because the write lock is held."""
    changed = connection.execute(table.update().where(*_equal(table, key)).values(**row))
    if changed.rowcount == 0:
        connection.execute(table.insert().values(**key, **row))


def _equal(table: sa.Table, key: dict[str, Any]) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]


def _exists(connection: Connection, *conditions: sa.ColumnElement[bool]) -> bool:
    return connection.scalar(sa.select(sa.literal(1)).where(*conditions).limit(1)) is not None


def _only(query: sa.Select[Any], column: sa.Column[Any], value: str | None) -> sa.Select[Any]:
    return query if value is None else query.where(column == value)


def _heard_row(at: float, **parts: bytes) -> dict[str, Any]:
    return {"last_seen": at, **parts}


def _decoded(kind: type[Any], document: bytes | None) -> Any:
    return None if document is None else codec.decode_document(kind, document)


def _device_of(row: Any) -> Device:
    birth = _decoded(Birth, row.birth)
    return Device(
        device=row.device,
        birth=birth,
        reported=_decoded(Reported, row.reported),
        online=is_online(birth, _decoded(Presence, row.presence)),
        last_seen=row.last_seen,
    )


def _model_of(report: Report) -> str | None:
    part = report.measurement or report.install or report.incident
    return None if part is None else part.model


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rpartition("@")[2]
