"""A service that answers on a port of its own, over a store with a small fleet."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest

from edgepick_host.adapters.store_sql import SqlStore
from edgepick_host.ports import Store
from edgepick_host.web.api import Site, make_api
from edgepick_host.web.server import Address, serving
from host.web.small_fleet import fill

DEVICES = 7


class WallClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        return time.time()


@dataclass
class Service:
    """A running service, and how a test asks it."""

    url: str
    store: Store

    def ask(
        self, path: str, *, token: str | None = None, body: Any = None, method: str | None = None
    ) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, parsed(response.read())
        except urllib.error.HTTPError as error:
            return error.code, parsed(error.read())


def parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()


def site_of(store: Store) -> Site:
    return Site(
        fleet="farm", store=store, clock=WallClock(), budgets_of=lambda _profile: None, new_rollout_id=lambda: "r-new"
    )


@pytest.fixture
def service(tmp_path):
    """Provide the service with a small fleet."""
    store = SqlStore(f"sqlite:///{tmp_path / 'host.db'}")
    fill(store, DEVICES)
    with serving(make_api(site_of(store)), Address(host="127.0.0.1", port=0)) as listening:
        yield Service(url=listening.url.rstrip("/"), store=store)
    store.close()
