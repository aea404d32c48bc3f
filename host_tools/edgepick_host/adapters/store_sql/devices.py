"""Devices in the database: what they said is kept many at a time, and found again by what is searched of them.

Every function works in the transaction that is open on its connection.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edgepick_host.adapters.store_sql import tables
from edgepick_host.core.records import Device, DeviceQuery, Hearing, is_online, newer_presence
from edgepick_wire import codec
from edgepick_wire.messages import Birth, Presence, Reported

AT_ONCE = 400
"""Most names in one query: far below the number of parameters that any database takes."""


def pages(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the items, so many as one query may name."""
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def hear(connection: Connection, hearings: Iterable[Hearing]) -> dict[str, bool]:
    """Keep what devices said, the last of each part, and what is searched of it; returns who is online now."""
    online: dict[str, bool] = {}
    heard: dict[str, list[Hearing]] = {}
    for hearing in hearings:
        heard.setdefault(hearing.device, []).append(hearing)
    for names in pages(sorted(heard)):
        known = _known(connection, names)
        rows = [_row(known.get(name), heard[name]) for name in names]
        _write(
            connection, [row for row in rows if row["device"] not in known], [r for r in rows if r["device"] in known]
        )
        online |= {row["device"]: row["online"] for row in rows if "online" in row}
    said = {h.device: h.reported for each in heard.values() for h in each if h.reported is not None}
    _count(connection, said)
    return online


@dataclass(frozen=True, slots=True)
class _Known:
    birth: bytes | None
    presence: bytes | None
    online: bool


def _known(connection: Connection, names: Sequence[str]) -> dict[str, _Known]:
    device = tables.device.c
    query = sa.select(device.device, device.birth, device.presence, device.online).where(device.device.in_(names))
    return {row.device: _Known(row.birth, row.presence, row.online) for row in connection.execute(query)}


def _row(known: _Known | None, hearings: Sequence[Hearing]) -> dict[str, Any]:
    """Return the columns of a device that change; none of them lacks where another device's row has it."""
    born = next((h.birth for h in reversed(hearings) if h.birth is not None), None)
    reported = next((h.reported for h in reversed(hearings) if h.reported is not None), None)
    row: dict[str, Any] = {"device": hearings[-1].device, "last_seen": hearings[-1].at}
    if reported is not None:
        row["reported"] = codec.encode_document(reported)
    if born is None and not any(h.presence for h in hearings):
        return row
    birth = born or decoded(Birth, known.birth if known else None)
    presence = decoded(Presence, known.presence if known else None)
    for said in (h.presence for h in hearings if h.presence is not None):
        presence = newer_presence(presence, said)
    documents = {"birth": birth, "presence": presence}
    row |= {name: None if part is None else codec.encode_document(part) for name, part in documents.items()}
    return row | {"profile": birth and birth.profile, "online": is_online(birth, presence)}


def _write(connection: Connection, new: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]) -> None:
    """Insert rows, and update others; those with the same columns in one go."""
    for rows in _alike({"online": False} | row for row in new):
        connection.execute(tables.device.insert(), rows)
    for rows in _alike(known):
        columns = [name for name in rows[0] if name != "device"]
        update = tables.device.update().where(tables.device.c.device == sa.bindparam("named"))
        values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in columns}
        bound = [{"named": row["device"], **{f"new_{name}": row[name] for name in columns}} for row in rows]
        connection.execute(update.values(values), bound)


def _alike(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    found: dict[frozenset[str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(frozenset(row), []).append(row)
    yield from found.values()


def _count(connection: Connection, said: dict[str, Reported]) -> None:
    """Keep what is counted of the models that devices speak of."""
    for names in pages(sorted(said)):
        connection.execute(tables.device_model.delete().where(tables.device_model.c.device.in_(names)))
        rows = [row for name in names for row in tables.model_rows(said[name])]
        if rows:
            connection.execute(tables.device_model.insert(), rows)


def conditions(query: DeviceQuery) -> Iterator[sa.ColumnElement[bool]]:
    """Yield what a device has to be to match."""
    device = tables.device.c
    if query.search:
        yield sa.or_(
            device.device.icontains(query.search, autoescape=True),
            device.profile.icontains(query.search, autoescape=True),
        )
    if query.profile is not None:
        yield device.profile == query.profile
    if query.online is not None:
        yield device.online == query.online
    said = tables.device_model.c
    for column, value in ((said.model, query.model), (said.active_label, query.variant)):
        if value is not None:
            yield device.device.in_(sa.select(said.device).where(column == value))


def device_of(row: Any) -> Device:
    """Return a device from its row."""
    birth = decoded(Birth, row.birth)
    return Device(
        device=row.device,
        birth=birth,
        reported=decoded(Reported, row.reported),
        online=is_online(birth, decoded(Presence, row.presence)),
        last_seen=row.last_seen,
    )


def decoded(kind: type[Any], document: bytes | None) -> Any:
    """Return what a document holds, if there is one."""
    return None if document is None else codec.decode_document(kind, document)
