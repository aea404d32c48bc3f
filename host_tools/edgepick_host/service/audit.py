"""The audit log: who did what to the fleet, and whether it was done."""

import getpass
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from edgepick_host.core.records import AuditEntry, Role
from edgepick_host.errors import HostError
from edgepick_host.ports import Clock, Store

DONE = "done"


@contextmanager
def audited(
    store: Store, clock: Clock, *, actor: str, role: str, action: str, target: str, detail: str = ""
) -> Iterator[None]:
    """Keep what is done inside with its outcome; a refusal is kept with its reason, and raised on."""

    def keep(outcome: str) -> None:
        entry = AuditEntry(
            at=clock.now(), actor=actor, role=role, action=action, target=target, outcome=outcome, detail=detail
        )
        store.add_audit(entry)

    try:
        yield
    except HostError as error:
        keep(str(error))
        raise
    keep(DONE)


def audited_here(
    store: Store, clock: Clock, action: str, target: str, detail: str = ""
) -> AbstractContextManager[None]:
    """Keep what a command of this machine's account does; whoever can write the database is an operator."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        account = "unknown"
    role = Role.OPERATOR.value
    return audited(store, clock, actor=f"cli:{account}", role=role, action=action, target=target, detail=detail)
