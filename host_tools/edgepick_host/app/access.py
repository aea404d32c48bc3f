"""Access to the service: tokens, and what the routes work on."""

import secrets
from collections.abc import Sequence

from edgepick_host.app.composition import clock, store_of, store_to_read
from edgepick_host.core.access import PREFIX, SECRET_BYTES, token_digest
from edgepick_host.core.records import Role, Token
from edgepick_host.core.settings import HostSettings
from edgepick_host.errors import StateError
from edgepick_host.service.audit import audited_here


def add_token(settings: HostSettings, name: str, role: Role) -> str:
    """Return a new token; only its digest is kept.

    Raises:
        StateError: The name has one already.
    """
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = Token(name=name, role=role, digest=token_digest(secret), created_at=clock().now())
    with store_of(settings) as store, audited_here(store, clock(), "token.add", name, role.value):
        if not store.save_token(token):
            raise StateError(f"{name} has a token already", hint=f"Take it away first: edgepick tokens revoke {name}")
    return secret


def tokens(settings: HostSettings) -> Sequence[Token]:
    """Return every token, by name."""
    with store_to_read(settings) as store:
        return store.tokens()


def revoke_token(settings: HostSettings, name: str) -> None:
    """Take a token away.

    Raises:
        StateError: The name has none.
    """
    with store_of(settings) as store, audited_here(store, clock(), "token.revoke", name):
        if not store.remove_token(name):
            raise StateError(f"{name} has no token", hint="`edgepick tokens list` names who has one.")
