"""How long the host keeps reports."""

from collections.abc import Callable

from edgepick_host.app.composition import clock, store_of, store_to_read
from edgepick_host.core.settings import HostSettings
from edgepick_host.ports import Store
from edgepick_host.service.audit import audited_here
from edgepick_host.service.retention import PruneResult, Retention, prune


def prune_reports(settings: HostSettings, *, older_than_seconds: float, dry_run: bool) -> PruneResult:
    """Return what was deleted of reports that are older and that nothing needs; of a dry run, what would be.

    Raises:
        StateError: The database cannot be written.
    """
    before = clock().now() - older_than_seconds
    if dry_run:
        with store_to_read(settings) as store:
            return prune(store, before=before, dry_run=True)
    detail = f"older than {older_than_seconds:g} seconds"
    with store_of(settings) as store, audited_here(store, clock(), "store.prune", "reports", detail):
        return prune(store, before=before, dry_run=False)


def retention_of(settings: HostSettings, store: Store, say: Callable[[str], None]) -> Retention | None:
    """Return what deletes old reports beside a running service; ``None`` where everything is kept."""
    if settings.keep_reports_seconds is None:
        return None
    return Retention(store, clock(), keep_seconds=settings.keep_reports_seconds, say=say)
