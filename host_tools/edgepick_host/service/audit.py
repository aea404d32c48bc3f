"""The audit log: who did what to the fleet, and whether it was done."""

import getpass
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from edgepick_host.core.records import AuditEntry, Role
from edgepick_host.errors import HostError
from edgepick_host.ports import Clock, Store

DONE = "done"
MOST_CHARACTERS = 4000
"""Of what was asked and answered; a plan takes some 1,000."""


@contextmanager
def audited(
    store: Store, clock: Clock, *, actor: str, role: str, action: str, target: str, detail: str = ""
) -> Iterator[None]:
    """Keep what is done inside with its outcome; a refusal is kept with its reason, and raised on.

    Texts are cut at :data:`MOST_CHARACTERS`: an entry that is too long to be read would hide all the others.
    """

    def keep(outcome: str) -> None:
        texts = {"target": target, "outcome": outcome, "detail": detail}
        entry = AuditEntry(
            at=clock.now(), actor=actor, role=role, action=action, **{name: _cut(text) for name, text in texts.items()}
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


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… ({len(text)} characters)"
