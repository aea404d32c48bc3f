"""Who may do what through the API: tokens and roles. Pure.

A token is a long random secret, so a plain digest of it is enough to recognise it (NIST SP 800-63B, 5.1.2.2:
look-up secrets of at least 112 bits need no salt).
"""

import hmac
from collections.abc import Iterable

from edgepick_host.core.records import Role, Token
from edgepick_wire.ids import digest_of

PREFIX = "ep_"
"""Begins every token, so that one that lies around is recognised."""

SECRET_BYTES = 32


def token_digest(secret: str) -> str:
    """Return what is kept of a token."""
    return digest_of(secret.encode())


def holder(secret: str, tokens: Iterable[Token]) -> Token | None:
    """Return whose secret it is; takes as long for a wrong one as for a right one."""
    digest = token_digest(secret)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def may_operate(role: Role) -> bool:
    """Return whether this role may change anything."""
    return role is Role.OPERATOR
