"""Rows written and found many at a time, by statements that every database knows. The write lock is held meanwhile."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edgepick_host.adapters.store_sql import tables
from edgepick_host.adapters.store_sql.devices import pages
from edgepick_host.core.records import MemberRow
from edgepick_wire import codec
from edgepick_wire.messages import Desired, Report


def put(connection: Connection, table: sa.Table, key: dict[str, Any], row: dict[str, Any]) -> None:
    """Update the row ``key``, or insert it: portable, and safe because the write lock is held."""
    changed = connection.execute(table.update().where(*equal(table, key)).values(**row))
    if changed.rowcount == 0:
        connection.execute(table.insert().values(**key, **row))


def equal(table: sa.Table, key: dict[str, Any]) -> list[sa.ColumnElement[bool]]:
    """Return the conditions under which a row has this key."""
    return [table.c[name] == value for name, value in key.items()]


def counted(connection: Connection, name: str, *, above: int = 0, by: int = 1) -> int:
    """Return a counter's new value: higher by ``by`` than it was, and than ``above``."""
    last = connection.scalar(sa.select(tables.counter.c.value).where(tables.counter.c.name == name)) or 0
    value = int(max(last, above) + by)
    put(connection, tables.counter, {"name": name}, {"value": value})
    return value


def save_desired(connection: Connection, documents: Sequence[Desired], written: int) -> None:
    """Keep what targets should do, those that were not told something of a higher sequence."""
    desired = tables.desired.c
    newest = {(d.target_kind.value, d.target): d for d in sorted(documents, key=lambda d: d.sequence)}
    for keys in pages(list(newest)):
        query = sa.select(desired.kind, desired.target, desired.sequence).where(
            sa.tuple_(desired.kind, desired.target).in_(keys)
        )
        known = {(row.kind, row.target): row.sequence for row in connection.execute(query)}
        rows = [
            {
                "kind": kind,
                "target": target,
                "sequence": newest[kind, target].sequence,
                "document": codec.encode_document(newest[kind, target]),
                "written": written,
            }
            for kind, target in keys
            if known.get((kind, target), 0) <= newest[kind, target].sequence
        ]
        _replace(connection, tables.desired, ("kind", "target"), rows)


def save_members(connection: Connection, rollout: str, members: Sequence[MemberRow]) -> None:
    """Keep members of a rollout, each in the place of the one that was there."""
    rows = [
        {"rollout": rollout, "lane": m.lane, "place": m.place, "device": m.device, "document": m.document}
        for m in members
    ]
    _replace(connection, tables.member, ("rollout", "lane", "place"), rows)


def _replace(connection: Connection, table: sa.Table, key: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Put rows in the place of those of the same key, two statements for all of them."""
    if rows:
        same = [table.c[name] == sa.bindparam(f"old_{name}") for name in key]
        connection.execute(table.delete().where(*same), [{f"old_{name}": row[name] for name in key} for row in rows])
        connection.execute(table.insert(), rows)


def unknown(connection: Connection, reports: Sequence[Report]) -> list[Report]:
    """Return the reports that are not kept yet, each once."""
    once: dict[tuple[str, str], Report] = {}
    for report in reports:
        once.setdefault((report.device, report.id), report)
    new = missing(connection, once)
    return [report for name, report in once.items() if name in new]


def missing(connection: Connection, names: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Return those of these reports (device, id) that are not kept."""
    found: set[tuple[str, str]] = set()
    for page in pages(list(names)):
        query = sa.select(tables.report.c.device, tables.report.c.id)
        rows = connection.execute(query.where(sa.tuple_(tables.report.c.device, tables.report.c.id).in_(page)))
        found.update((row.device, row.id) for row in rows)
    return frozenset(names) - found


def add_chunks(connection: Connection, broker: str, digests: Iterable[str]) -> None:
    """Keep the chunks that a broker has acknowledged; known ones change nothing."""
    known = set(connection.scalars(sa.select(tables.chunk.c.digest).where(tables.chunk.c.broker == broker)))
    new = [{"broker": broker, "digest": digest} for digest in dict.fromkeys(digests) if digest not in known]
    if new:
        connection.execute(tables.chunk.insert(), new)


def forget_chunks(connection: Connection, broker: str, digests: Iterable[str] | None) -> None:
    """Forget chunks of a broker, or all, and with all its landmarks."""
    if digests is None:
        for table in (tables.chunk, tables.landmark):
            connection.execute(table.delete().where(table.c.broker == broker))
    for digest in digests or ():
        connection.execute(tables.chunk.delete().where(*equal(tables.chunk, {"broker": broker, "digest": digest})))


def set_landmarks(connection: Connection, broker: str, topics: Collection[str], instead_of: Collection[str]) -> None:
    """Make topics landmarks of a broker, and others no longer."""
    for topic in {*topics, *instead_of}:
        key = {"broker": broker, "topic": topic}
        connection.execute(tables.landmark.delete().where(*equal(tables.landmark, key)))
        if topic in topics:
            connection.execute(tables.landmark.insert().values(**key))


def being_published(connection: Connection, broker: str, now: float) -> frozenset[str]:
    """Return what publications to a broker need; those that have run out are gone."""
    publication = tables.publication.c
    its = publication.broker == broker
    connection.execute(tables.publication.delete().where(its, publication.expires_at <= now))
    found = list(connection.scalars(sa.select(publication.digests).where(its)))
    return frozenset(digests[at : at + 32].hex() for digests in found for at in range(0, len(digests), 32))


def report_row(report: Report, at: float) -> dict[str, Any]:
    """Return the columns of a report, except its position."""
    part = report.measurement or report.install or report.incident or report.shadow
    return {
        "device": report.device,
        "id": report.id,
        "model": part.model if part else None,
        "document": codec.encode_document(report),
        "heard_at": at,
    }
