"""The store port over SQLAlchemy Core; see :class:`edgepick_host.adapters.store_sql.store.SqlStore`."""

from edgepick_host.adapters.store_sql.store import SqlStore

__all__ = ["SqlStore"]
