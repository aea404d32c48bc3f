"""Connections: SQLite that survives a power cut, and databases with a server; one writer at a time."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from edgepick_host.errors import ConfigError

BUSY_MILLISECONDS = 10_000
"""How long a transaction waits for another process's before it gives up."""

WRITE = "edgepick_write"
"""Execution option of a connection whose transactions write."""

WRITE_LOCK = 0x65646765
"""Key of the advisory lock that stands for SQLite's write lock where the database has a server."""


def engine_of(url: str) -> Engine:
    """Return the engine of a database.

    Raises:
        ConfigError: Not a database URL, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
        options: dict[str, Any] = {}
        if parsed.get_backend_name() == "sqlite" and not parsed.database:
            options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
            options["connect_args"] = {"check_same_thread": False}
        engine: Engine = sa.create_engine(parsed, **options)
    except (ArgumentError, ImportError) as error:
        raise ConfigError(
            f"database {without_password(url)!r}: {error}",
            hint="Give a file name, or a URL such as postgresql+psycopg://user@host/name with its driver installed.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _open_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def _open_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MILLISECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    """Let one transaction write at a time, so that positions are the order in which others see the rows."""
    if connection.get_execution_options().get(WRITE, False):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_MILLISECONDS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")


def without_password(url: str) -> str:
    """Return the URL as it may be shown."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rpartition("@")[2]
