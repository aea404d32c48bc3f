"""Reports by their age: those that are old are found, deleted and counted, so that every count goes on unchanged.

How far somebody has read a model's reports is a number of reports. It stays right because those that are deleted are
added to it, and because nobody deletes what somebody has yet to read (:mod:`edgepick_host.service.retention`).
"""

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edgepick_host.adapters.store_sql import tables, writes
from edgepick_host.adapters.store_sql.devices import pages
from edgepick_host.core.records import OldReport, Pruned
from edgepick_wire import codec
from edgepick_wire.messages import Report


def count_name(model: str | None = None) -> str:
    """Return the counter of deleted reports: all, or those about a model."""
    return "pruned" if model is None else f"pruned/{model}"


def _time_name(model: str) -> str:
    return f"pruned-before/{model}"


def deleted(model: str | None = None) -> sa.ColumnElement[int]:
    """Return how many reports were deleted, as a part of another query: both then see the same moment."""
    counter = tables.counter.c
    return sa.func.coalesce(sa.select(counter.value).where(counter.name == count_name(model)).scalar_subquery(), 0)


def old(connection: Connection, *, before: float, after: OldReport | None, limit: int) -> list[OldReport]:
    """Return reports that were taken in before a time, oldest first."""
    report = tables.report.c
    query = sa.select(report.position, report.heard_at, report.document).where(report.heard_at < before)
    if after is not None:
        place = sa.tuple_(report.heard_at, report.position)
        query = query.where(place > sa.tuple_(sa.literal(after.heard_at, sa.Float), after.position))
    rows = connection.execute(query.order_by(report.heard_at, report.position).limit(limit))
    return [
        OldReport(
            position=row.position,
            heard_at=row.heard_at,
            size_bytes=len(row.document),
            report=codec.decode_document(Report, row.document),
        )
        for row in rows
    ]


def remove(connection: Connection, chosen: Sequence[OldReport], *, before: float) -> list[OldReport]:
    """Delete reports, except the newest of all: where it stands, the log goes on."""
    report = tables.report.c
    newest = connection.scalar(sa.select(sa.func.max(report.position)))
    gone: dict[int, str | None] = {}
    for page in pages([each.position for each in chosen if each.position != newest]):
        deletion = tables.report.delete().where(report.position.in_(page))
        gone |= {
            row.position: row.model for row in connection.execute(deletion.returning(report.position, report.model))
        }
    if gone:
        writes.counted(connection, count_name(), by=len(gone))
    for model, number in Counter(gone.values()).items():
        if model is not None:
            writes.counted(connection, count_name(model), by=number)
            writes.put(connection, tables.counter, {"name": _time_name(model)}, {"value": int(before)})
    return [each for each in chosen if each.position in gone]


def pruned(connection: Connection, model: str) -> Pruned | None:
    """Return how many reports about a model were deleted, and what was old enough the last time."""
    names = (count_name(model), _time_name(model))
    query = sa.select(tables.counter.c.name, tables.counter.c.value).where(tables.counter.c.name.in_(names))
    found = {row.name: row.value for row in connection.execute(query)}
    return Pruned(reports=found[names[0]], before=float(found[names[1]])) if found else None
