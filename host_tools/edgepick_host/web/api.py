"""The routes. A body is: who asks, one call, the answer; what can be said of a fleet is in ``service``."""

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from edgepick_host.core.decision import DecisionRecord
from edgepick_host.core.explanation import Explanation
from edgepick_host.core.records import AuditEntry, DeviceQuery, Token
from edgepick_host.core.rollout_state import RequestKind, RolloutState
from edgepick_host.core.waves import MemberStatus
from edgepick_host.errors import ConfigError, HostError, StateError
from edgepick_host.ports import Clock, Store
from edgepick_host.service import campaigns, fleet_view, rollout_view
from edgepick_host.service.audit import audited
from edgepick_host.service.reactions import BudgetsOf
from edgepick_host.service.requests import find_rollout, load_heads
from edgepick_host.service.rollout_view import MemberPage, RolloutView
from edgepick_host.web.access import Gate, requires
from edgepick_host.web.metrics import Requests, new_registry
from edgepick_host.web.new_rollout import NewRollout
from edgepick_wire import codec
from edgepick_wire.version import __version__

STATIC = Path(__file__).with_name("static")
MOST_DEVICES = 500
MOST_ENTRIES = 1000
GLANCE_SECONDS = 1.0
"""The fleet's counts are made at most so often, however many pages look."""

EXPERIMENT_SECONDS = 5.0
"""Every report of a model is read for it."""

HEADERS = {
    # The page brings everything with it, and nothing that it shows can run.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Next = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the routes work on.

    Attributes:
        new_rollout_id: Returns a name that no rollout has.
    """

    fleet: str
    store: Store
    clock: Clock
    budgets_of: BudgetsOf
    new_rollout_id: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Who asks."""

    name: str
    role: str
    fleet: str
    version: str


class _Recent:
    """Values that are made again after some time, by their names."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._made: dict[str, tuple[float, Any]] = {}

    def __call__(self, name: str, make: Callable[[], T]) -> T:
        """Return a value of this name, at most so many seconds old."""
        made_at, value = self._made.get(name, (-self._seconds, None))
        if value is None or time.monotonic() - made_at >= self._seconds:
            value = make()
            self._made = {name: (time.monotonic(), value)}
        return cast("T", value)


def make_api(site: Site) -> FastAPI:
    """Return the application: page, API, metrics and health."""
    app = FastAPI(
        title="edgepick", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json"
    )
    recent = _Recent(GLANCE_SECONDS)

    def glance() -> fleet_view.Glance:
        return recent("fleet", lambda: fleet_view.glance(site.store, site.fleet, now=site.clock.now()))

    registry = new_registry(glance)
    _add_manners(app, Requests(registry))
    gate = Gate(site.store)
    _add_health(app, site, registry)
    _add_fleet(app, site, gate, glance)
    _add_results(app, site, gate)
    _add_rollouts(app, site, gate)
    _add_actions(app, site, gate)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    return app


def _add_manners(app: FastAPI, requests: Requests) -> None:
    """Give every answer its headers, count it, and turn refusals into messages."""

    @app.middleware("http")
    async def with_headers(request: Request, call_next: Next) -> Response:
        began = time.perf_counter()
        response = await call_next(request)
        response.headers.update(HEADERS)
        route = getattr(request.scope.get("route"), "path", "other")
        requests.note(
            method=request.method, route=route, status=response.status_code, seconds=time.perf_counter() - began
        )
        return response

    @app.exception_handler(HostError)
    async def refused(_request: Request, error: HostError) -> JSONResponse:
        status = {StateError: 409, ConfigError: 422}.get(type(error), 503)
        return JSONResponse({"detail": str(error), "hint": error.hint}, status_code=status)

    @app.exception_handler(RequestValidationError)
    async def unreadable(_request: Request, error: RequestValidationError) -> JSONResponse:
        # Without what was sent: it may be a number or a text that no answer can hold.
        wrong = [{name: each[name] for name in ("type", "loc", "msg")} for each in error.errors()]
        return JSONResponse({"detail": wrong}, status_code=422)


def _add_health(app: FastAPI, site: Site, registry: Any) -> None:
    @app.get("/healthz", tags=["health"])
    def alive() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"])
    def ready() -> dict[str, str]:
        """Say that the database answers; 503 if it does not."""
        site.store.report_count()
        return {"status": "ready"}

    @app.get("/metrics", tags=["health"], response_class=Response)
    def metrics() -> Response:
        """Return the figures that Prometheus scrapes."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_fleet(app: FastAPI, site: Site, gate: Gate, glance: Callable[[], fleet_view.Glance]) -> None:
    viewer = [requires(gate.viewer)]
    Who = Annotated[Token, requires(gate.viewer)]  # noqa: N806 - a type

    @app.get("/api/v1/me", tags=["fleet"])
    def me(who: Who) -> Me:
        """Return whose token this is."""
        return Me(name=who.name, role=who.role.value, fleet=site.fleet, version=__version__)

    @app.get("/api/v1/fleet", tags=["fleet"], dependencies=viewer, response_model=fleet_view.Glance)
    def fleet() -> Response:
        """Return the fleet on one page."""
        return _json(glance())

    @app.get("/api/v1/devices", tags=["devices"], dependencies=viewer)
    def devices(
        *,
        search: Annotated[str, Query(max_length=100)] = "",
        profile: str | None = None,
        online: bool | None = None,
        model: str | None = None,
        variant: str | None = None,
        after: str = "",
        limit: Annotated[int, Query(ge=1, le=MOST_DEVICES)] = 100,
    ) -> Response:
        """Return devices that match, by name; ``after`` is the last name of the page before."""
        query = DeviceQuery(
            search=search, profile=profile, online=online, model=model, variant=variant, after=after, limit=limit
        )
        return _json(fleet_view.devices(site.store, query))

    @app.get("/api/v1/devices/{name}", tags=["devices"], dependencies=viewer)
    def device(name: str) -> Response:
        """Return a device, what it told last, and which rollouts touched it."""
        return _json(_found(lambda: fleet_view.device_story(site.store, name)))

    @app.get("/api/v1/audit", tags=["fleet"], dependencies=viewer)
    def audit(limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100) -> list[AuditEntry]:
        """Return who did what, newest first."""
        return list(reversed(site.store.audit(newest=limit)))


def _add_results(app: FastAPI, site: Site, gate: Gate) -> None:
    viewer = [requires(gate.viewer)]

    @app.get("/api/v1/models/{model}/fronts", tags=["models"], dependencies=viewer)
    def fronts(model: str) -> Response:
        """Return the variants of a model as each kind of device measured them."""
        return _json(_found(lambda: fleet_view.fronts(site.store, model)))

    @app.get("/api/v1/decisions", tags=["models"], dependencies=viewer)
    def decisions(model: str | None = None, limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 50) -> Response:
        """Return decision records, newest first."""
        return _json(fleet_view.decisions(site.store, model)[:limit])

    @app.get("/api/v1/decisions/{number}", tags=["models"], dependencies=viewer)
    def decision(number: str) -> Response:
        """Return a decision record by its id."""
        return _json(_found(lambda: _decision(site.store, number)))


def _add_rollouts(app: FastAPI, site: Site, gate: Gate) -> None:
    viewer = [requires(gate.viewer)]

    @app.get("/api/v1/rollouts", tags=["rollouts"], dependencies=viewer)
    def rollouts() -> Response:
        """Return every rollout in one line, newest first."""
        return _json(tuple(fleet_view.rollout_line(state) for state in reversed(load_heads(site.store))))

    @app.get("/api/v1/rollouts/{name}", tags=["rollouts"], dependencies=viewer, response_model=RolloutState)
    def rollout(name: str) -> Response:
        """Return everything about a rollout."""
        return _json(_rollout(site.store, name))

    seen = _Recent(GLANCE_SECONDS)

    @app.get("/api/v1/rollouts/{name}/view", tags=["rollouts"], dependencies=viewer, response_model=RolloutView)
    def view(name: str) -> Response:
        """Return a rollout with counts instead of devices: waves, watches, what it waits for."""
        now = site.clock.now()
        return _json(seen(name, lambda: rollout_view.view(site.store, _rollout(site.store, name), now=now)))

    @app.get("/api/v1/rollouts/{name}/devices", tags=["rollouts"], dependencies=viewer, response_model=MemberPage)
    def members(
        name: str,
        *,
        status: MemberStatus | None = None,
        wave: int | None = None,
        after: str = "",
        limit: Annotated[int, Query(ge=1, le=MOST_DEVICES)] = 100,
    ) -> Response:
        """Return devices of a rollout, by name; ``after`` is the last name of the page before."""
        state = _rollout(site.store, name)
        return _json(rollout_view.members(state, status=status, wave=wave, after=after, limit=limit))

    @app.get("/api/v1/rollouts/{name}/explanation", tags=["rollouts"], dependencies=viewer, response_model=Explanation)
    def explanation(name: str) -> Response:
        """Return what each wave waits for, and what would stop it."""
        state = _rollout(site.store, name)
        return _json(campaigns.explained(site.store, state, now=site.clock.now()))

    standing = _Recent(EXPERIMENT_SECONDS)

    @app.get("/api/v1/rollouts/{name}/experiment", tags=["rollouts"], dependencies=viewer)
    def experiment(name: str) -> Response:
        """Return how its experiment stands: who has yet to measure, and what would be decided now."""
        state = _rollout(site.store, name)
        return _json(standing(state.id, lambda: campaigns.standing(site.store, state, site.budgets_of)))


def _add_actions(app: FastAPI, site: Site, gate: Gate) -> None:
    Operator = Annotated[Token, requires(gate.operator)]  # noqa: N806 - a type

    def kept(who: Token, action: str, target: str, detail: str = "") -> AbstractContextManager[None]:
        return audited(
            site.store, site.clock, actor=who.name, role=who.role.value, action=action, target=target, detail=detail
        )

    @app.post("/api/v1/rollouts", tags=["rollouts"], status_code=201, response_model=RolloutState)
    def start(wanted: NewRollout, who: Operator) -> Response:
        """Start a rollout; it proceeds while a coordinator runs."""
        with kept(who, "rollout.start", wanted.model, codec.encode_document(wanted).decode()):
            plan = campaigns.checked_plan(site.store, wanted.model, wanted.plan())
            name = site.new_rollout_id()
            now, instead = site.clock.now(), wanted.replace
            state = campaigns.start(site.store, wanted.model, plan, rollout=name, now=now, replace_running=instead)
        return _json(state, 201)

    @app.post("/api/v1/rollouts/preview", tags=["rollouts"], dependencies=[requires(gate.viewer)])
    def preview(wanted: NewRollout) -> Response:
        """Return what such a rollout would do by what is known now; changes nothing."""
        plan = campaigns.checked_plan(site.store, wanted.model, wanted.plan())
        name, now = site.new_rollout_id(), site.clock.now()
        found = campaigns.preview(site.store, wanted.model, plan, rollout=name, now=now, budgets_of=site.budgets_of)
        return _json(found)

    @app.post("/api/v1/rollouts/{name}/{action}", tags=["rollouts"], status_code=202, response_model=RolloutState)
    def ask(name: str, action: RequestKind, who: Operator) -> Response:
        """Pause, resume or abort a rollout; the coordinator does it."""
        with kept(who, f"rollout.{action}", name):
            state = campaigns.ask(site.store, name, action, request=secrets.token_hex(8))
        return _json(state, 202)


def _rollout(store: Store, name: str) -> RolloutState:
    return _found(lambda: find_rollout(store, name))


def _decision(store: Store, number: str) -> DecisionRecord:
    for record in fleet_view.decisions(store):
        if record.id == number:
            return record
    raise StateError(f"no decision {number!r}", hint="`edgepick why MODEL` lists them.")


def _found(look: Callable[[], T]) -> T:
    """Return what was looked for; 404 if there is none."""
    try:
        return look()
    except StateError as error:
        raise HTTPException(404, str(error)) from error


def _json(value: object, status: int = 200) -> Response:
    return Response(codec.encode_document(value), status, media_type="application/json")
