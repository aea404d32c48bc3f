"""The tables, and how a database of an older edgepick becomes one of this.

Documents are kept as their canonical JSON; columns beside them exist only to be searched and counted.
"""

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edgepick_host.core.records import is_online
from edgepick_host.errors import StateError
from edgepick_wire import codec
from edgepick_wire.messages import Birth, Presence, Reported

TABLES = sa.MetaData()
Bytes = sa.LargeBinary
schema = sa.Table("edgepick_schema", TABLES, sa.Column("version", sa.Integer, nullable=False))
counter = sa.Table(
    "counter", TABLES, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.BigInteger, nullable=False)
)
release = sa.Table(
    "release",
    TABLES,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("manifest", sa.Text, nullable=False, unique=True),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("document", Bytes, nullable=False),
    sa.Column("envelope", Bytes, nullable=False),
)
desired = sa.Table(
    "desired",
    TABLES,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("document", Bytes, nullable=False),
    sa.Column("written", sa.BigInteger, nullable=False, server_default="0", index=True),
)
device = sa.Table(
    "device",
    TABLES,
    sa.Column("device", sa.Text, primary_key=True),
    sa.Column("birth", Bytes),
    sa.Column("presence", Bytes),
    sa.Column("reported", Bytes),
    sa.Column("last_seen", sa.Float, nullable=False),
    sa.Column("profile", sa.Text, index=True),
    sa.Column("online", sa.Boolean, nullable=False, server_default=sa.false()),
)
device_model = sa.Table(
    "device_model",
    TABLES,
    sa.Column("device", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("active_label", sa.Text),
    sa.Column("refusal", sa.Text),
    sa.Column("pinned", sa.Boolean, nullable=False),
)
report = sa.Table(
    "report",
    TABLES,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("model", sa.Text, index=True),
    sa.Column("document", Bytes, nullable=False),
    sa.Column("heard_at", sa.Float, nullable=False, index=True),
    sa.UniqueConstraint("device", "id"),
)
decision = sa.Table(
    "decision",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("document", Bytes, nullable=False),
)
rollout = sa.Table(
    "rollout",
    TABLES,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("rollout", sa.Text, nullable=False, unique=True),
    sa.Column("document", Bytes, nullable=False),
)
member = sa.Table(
    "member",
    TABLES,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("lane", sa.Integer, primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("device", sa.Text, nullable=False, index=True),
    sa.Column("document", Bytes, nullable=False),
)
lease = sa.Table(
    "lease",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)
chunk = sa.Table(
    "chunk",
    TABLES,
    sa.Column("broker", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
)
landmark = sa.Table(
    "landmark",
    TABLES,
    sa.Column("broker", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
)
publication = sa.Table(
    "publication",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("broker", sa.Text, nullable=False),
    sa.Column("digests", Bytes, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)

audit = sa.Table(
    "audit",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("document", Bytes, nullable=False),
)
token = sa.Table(
    "token",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("document", Bytes, nullable=False),
)


def device_columns(birth: bytes | None, presence: bytes | None) -> dict[str, object]:
    """Return what is searched of a device, from its documents."""
    born = None if birth is None else codec.decode_document(Birth, birth)
    present = None if presence is None else codec.decode_document(Presence, presence)
    return {"profile": born and born.profile, "online": is_online(born, present)}


def model_rows(reported: Reported) -> list[dict[str, object]]:
    """Return what is counted of a device's models."""
    return [
        {
            "device": reported.device,
            "model": state.model,
            "phase": state.phase.value,
            "active_label": _searchable(state.active_label) if state.active else None,
            "refusal": state.refusal and state.refusal.code.value,
            "pinned": state.pinned,
        }
        for state in reported.models
    ]


def _searchable(text: str | None) -> str | None:
    """Return a device's text without the one character that PostgreSQL keeps in no text."""
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _searchable_devices(connection: Connection) -> None:
    """Version 2: devices can be searched and counted by columns; an audit log, tokens."""
    for column in (device.c.profile, device.c.online):
        default = " DEFAULT FALSE NOT NULL" if column is device.c.online else ""
        kind = column.type.compile(connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE device ADD COLUMN {column.name} {kind}{default}")
    for index in device.indexes:
        index.create(connection)
    for table in (device_model, audit, token):
        table.create(connection)
    for row in connection.execute(sa.select(device)).all():
        columns = device_columns(row.birth, row.presence)
        connection.execute(device.update().where(device.c.device == row.device).values(**columns))
        if row.reported is not None:
            rows = model_rows(codec.decode_document(Reported, row.reported))
            if rows:
                connection.execute(device_model.insert(), rows)


def _members_apart(connection: Connection) -> None:
    """Version 3: a rollout's members are rows of their own, and a desired state tells when it was written."""
    kind = desired.c.written.type.compile(connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE desired ADD COLUMN written {kind} DEFAULT 0 NOT NULL")
    for index in desired.indexes:
        index.create(connection)
    member.create(connection)


def _reports_by_age(connection: Connection) -> None:
    """Version 4: reports are found by their age, and may be gone: an older edgepick would count them wrongly."""
    next(i for i in report.indexes if "heard_at" in i.columns).create(connection)


def _landmarks(connection: Connection) -> None:
    """Version 5: what a broker was given is believed only while it still has its landmarks."""
    landmark.create(connection)


def _publications(connection: Connection) -> None:
    """Version 6: what publications under way need is not cleared."""
    publication.create(connection)


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _searchable_devices,
    _members_apart,
    _reports_by_age,
    _landmarks,
    _publications,
)
"""Step ``n`` brings a database of version ``n + 1`` to ``n + 2``; an empty one is made as the newest."""


def newest_version() -> int:
    """Return the version of a database that this edgepick has made or brought up to date."""
    return len(MIGRATIONS) + 1


def migrate(connection: Connection) -> None:
    """Make the tables, or bring them up to date, in the transaction that is open.

    Raises:
        StateError: A newer edgepick has written the database.
    """
    schema.create(connection, checkfirst=True)
    newest = newest_version()
    version = connection.scalar(sa.select(schema.c.version)) or 0
    if version > newest:
        raise StateError(
            f"the database has schema {version}; this edgepick knows {newest}",
            hint="Install the edgepick that wrote it, or a newer one.",
        )
    if version == newest:
        return
    if version == 0:
        TABLES.create_all(connection)
    for step in MIGRATIONS[version - 1 :] if version else ():
        step(connection)
    connection.execute(schema.delete())
    connection.execute(schema.insert().values(version=newest))
