"""Whoever may not change anything, at every route that changes something: nothing happens, and operators go on."""

import pytest

from host.web.small_fleet import OPERATOR, ROLLOUT, VIEWER

SEEN_BY_ALL = {"/api/v1/rollouts/preview"}
"""Asked with POST, and changes nothing."""


def changing(service) -> list[str]:
    """Return every route that changes something, from what the API says of itself."""
    _, document = service.ask("/api/v1/openapi.json")
    paths = [path for path, methods in document["paths"].items() if set(methods) & {"post", "put", "patch", "delete"}]
    return [path.replace("{name}", ROLLOUT).replace("{action}", "abort") for path in paths if path not in SEEN_BY_ALL]


@pytest.mark.parametrize(("token", "code"), [(None, 401), ("ep_stranger", 401), ("", 401), (VIEWER, 403)])
def test_nobody_but_an_operator_changes_anything(service, token, code):
    """No token, one that is not known, a viewer's: refused on every route, counted, and the next operator is heard."""
    before = (service.store.rollouts(), service.store.audit(newest=9))
    routes = changing(service)

    codes = {service.ask(path, token=token, body={"model": "digits"}, method="POST")[0] for path in routes}

    assert len(routes) >= 2
    assert codes == {code}
    assert (service.store.rollouts(), service.store.audit(newest=9)) == before
    assert f'status="{code}"' in service.ask("/metrics")[1]
    assert service.ask(f"/api/v1/rollouts/{ROLLOUT}/pause", token=OPERATOR, method="POST")[0] == 202
