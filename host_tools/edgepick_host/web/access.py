"""Bearer tokens in front of the routes."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from edgepick_host.core.access import holder, may_operate
from edgepick_host.core.records import Role, Token
from edgepick_host.ports import Store

REMEMBERED_SECONDS = 2.0
"""A token that was taken away stops working after at most so long."""

BEARER = HTTPBearer(auto_error=False, description="A token made by `edgepick tokens add NAME`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


class Gate:
    """Who may pass: tokens of the store, read again every few seconds."""

    def __init__(self, store: Store, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._lock = Lock()
        self._read_at = -REMEMBERED_SECONDS
        self._tokens: tuple[Token, ...] = ()

    def viewer(self, credentials: Credentials) -> Token:
        """Return who asks.

        Raises:
            HTTPException: 401 without a token that is known.
        """
        found = None if credentials is None else holder(credentials.credentials, self._known())
        if found is None:
            detail = "no token, or one that is not known; make one with: edgepick tokens add NAME"
            raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
        return found

    def operator(self, credentials: Credentials) -> Token:
        """Return who asks, if it may change something.

        Raises:
            HTTPException: 401 without a token that is known; 403 for a viewer's.
        """
        found = self.viewer(credentials)
        if not may_operate(found.role):
            raise HTTPException(403, f"{found.name} is a {found.role}; this needs the role {Role.OPERATOR}")
        return found

    def _known(self) -> tuple[Token, ...]:
        with self._lock:
            if self._monotonic() - self._read_at >= REMEMBERED_SECONDS:
                self._tokens = tuple(self._store.tokens())
                self._read_at = self._monotonic()
            return self._tokens


def requires(check: Callable[[Credentials], Token]) -> Any:
    """Return what a route's parameter is marked with to be asked only by who passes ``check``."""
    return Depends(check)
