"""What the API answers, to whom, and what it keeps of it."""

import json
import math
import re
import socket
from pathlib import Path

import pytest

from edgepick_host import web
from edgepick_host.core.records import Role, Token
from edgepick_host.core.rollout_state import RequestKind
from edgepick_host.errors import ConfigError
from edgepick_host.service.requests import load_requests
from edgepick_host.web.server import Address, parse_address, serving
from host.web.conftest import DEVICES
from host.web.small_fleet import INT8, OPERATOR, ROLLOUT, VIEWER

METRIC = re.compile(r"edgepick_\w+")
VIEWS = [
    "/api/v1/me",
    "/api/v1/fleet",
    "/api/v1/devices",
    "/api/v1/devices/pi-00001",
    "/api/v1/models/digits/fronts",
    "/api/v1/decisions",
    "/api/v1/rollouts",
    f"/api/v1/rollouts/{ROLLOUT}",
    f"/api/v1/rollouts/{ROLLOUT}/explanation",
    "/api/v1/audit",
]


@pytest.mark.parametrize("path", VIEWS)
def test_views_need_a_token(service, path):
    """Without a token, or with a wrong one, nothing of the fleet is told; with a viewer's, everything is."""
    codes = [service.ask(path, token=token)[0] for token in (None, "ep_wrong", "", VIEWER)]

    assert codes == [401, 401, 401, 200]


def test_the_fleet_is_counted_for_the_page(service):
    """Kinds of device, what runs, and the rollouts, on one page."""
    _, seen = service.ask("/api/v1/fleet", token=VIEWER)

    assert seen["profiles"] == [{"profile": "raspberry-pi-4", "devices": DEVICES, "online": DEVICES - 1}]
    assert sum(each["devices"] for each in seen["models"]) == DEVICES
    assert [(r["id"], r["stage"], r["confirmed"]) for r in seen["rollouts"]] == [(ROLLOUT, "wave", 1)]
    assert seen["reports"] == DEVICES


def test_devices_are_paged(service):
    """A page holds as many as asked for, and the next goes on after its last."""
    _, first = service.ask("/api/v1/devices?limit=3&online=true", token=VIEWER)
    _, second = service.ask(f"/api/v1/devices?limit=3&online=true&after={first['devices'][-1]['device']}", token=VIEWER)

    assert [d["device"] for d in (*first["devices"], *second["devices"])] == [f"pi-0000{n}" for n in (0, 1, 3, 4, 5, 6)]
    assert first["total"] == DEVICES - 1


@pytest.mark.parametrize("path", ["/api/v1/devices/nobody", "/api/v1/rollouts/none", "/api/v1/models/none/fronts"])
def test_what_is_not_there_is_404(service, path):
    """An unknown name is said, in words."""
    code, answer = service.ask(path, token=VIEWER)

    assert code == 404
    assert "no" in answer["detail"]


@pytest.mark.parametrize("limit", ["0", "501", "many"])
def test_pages_are_bounded(service, limit):
    """Nobody asks for the whole fleet at once."""
    assert service.ask(f"/api/v1/devices?limit={limit}", token=VIEWER)[0] == 422


def test_the_front_marks_what_nothing_beats(service):
    """A front holds each variant's figures, and how many devices run it."""
    _, fronts = service.ask("/api/v1/models/digits/fronts", token=VIEWER)

    points = {point["label"]: point for point in fronts[0]["points"]}
    assert points["1 int8"]["verdict"] == "wins"
    assert {label: p["on_front"] for label, p in points.items()} == {"1 int8": True, "1 float32": True}
    assert {label: p["active"] for label, p in points.items()} == {"1 int8": 3, "1 float32": 4}


def test_an_experiment_is_seen_while_it_runs(service):
    """Who has yet to measure, and what would be decided now, without deciding it."""
    before = service.store.decisions()

    code, seen = service.ask(f"/api/v1/rollouts/{ROLLOUT}/experiment", token=VIEWER)

    assert code == 200
    assert len(seen["waiting_for"]) > 0
    assert [made["verdict"] for made in seen["decisions"]] == ["inconclusive"]
    assert service.store.decisions() == before


def test_a_rollout_explains_itself(service):
    """Each wave says where it stands; the one that goes on says what it waits for."""
    _, found = service.ask(f"/api/v1/rollouts/{ROLLOUT}/explanation", token=VIEWER)

    assert [wave["turn"] for wave in found["waves"]] == ["behind", "now", "ahead", "ahead"]
    assert f"{DEVICES - 1} offline device(s)" in found["waves"][1]["waits_for"][0]


def test_an_operator_pauses_a_rollout(service):
    """The request is kept for the coordinator, and the audit log says who asked."""
    code, state = service.ask(f"/api/v1/rollouts/{ROLLOUT}/pause", token=OPERATOR, method="POST")

    (entry,) = service.store.audit(newest=1)
    assert (code, state["id"]) == (202, ROLLOUT)
    assert (entry.actor, entry.role, entry.action, entry.target, entry.outcome) == (
        "ann",
        "operator",
        "rollout.pause",
        ROLLOUT,
        "done",
    )
    assert any(name == f"{ROLLOUT}.request" for name, _ in service.store.rollouts())


def test_after_an_abort_there_is_nothing_to_pause_or_resume(service):
    """Both are refused with 409 though nobody has taken the abort in yet; what was asked is still the abort."""
    actions = ("abort", "pause", "resume", "abort")

    codes = [
        service.ask(f"/api/v1/rollouts/{ROLLOUT}/{action}", token=OPERATOR, method="POST")[0] for action in actions
    ]

    assert codes == [202, 409, 409, 202]
    assert load_requests(service.store)[ROLLOUT].kind is RequestKind.ABORT
    assert [entry.outcome == "done" for entry in service.store.audit(newest=4)] == [True, False, False, True]


@pytest.mark.parametrize(
    ("path", "body"),
    [(f"/api/v1/rollouts/{ROLLOUT}/abort", None), ("/api/v1/rollouts", {"model": "digits"})],
)
def test_a_viewer_changes_nothing(service, path, body):
    """An action needs the operator's role; nothing is stored, nothing is logged as done."""
    before = service.store.rollouts()

    code, answer = service.ask(path, token=VIEWER, body=body, method="POST")

    assert code == 403
    assert "operator" in answer["detail"]
    assert service.store.rollouts() == before
    assert service.store.audit(newest=5) == []


def test_an_unknown_action_is_refused(service):
    """Only what a rollout understands is taken."""
    assert service.ask(f"/api/v1/rollouts/{ROLLOUT}/explode", token=OPERATOR, method="POST")[0] == 422


def test_a_refused_start_is_in_the_audit_log(service):
    """A second rollout of a model is refused with the first one's name, and that is kept."""
    code, answer = service.ask("/api/v1/rollouts", token=OPERATOR, body={"model": "digits"}, method="POST")

    (entry,) = service.store.audit(newest=1)
    assert (code, entry.action) == (409, "rollout.start")
    assert ROLLOUT in answer["detail"]
    assert ROLLOUT in entry.outcome


@pytest.mark.parametrize(
    "wanted",
    [
        {"waves": "50%,20%"},
        {"objective": "minimise cost"},
        {"canary": 0},
        {"canary": "many"},
        {"only": "site=lab and site=plant"},
        {"window": "at night"},
        {"checks": "cost <= +10%"},
        {"phase_deadlines": {"lunch": 10}},
        {"between": 1.5},
        {"alpha": 1.5},
        {"tolerated": 1e-7},
        {"max_bytes": -1},
        {"between": 0.5, "waves": "site=lab,100%"},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(service, wanted):
    """A wrong field is 422, before anything is stored."""
    code, _ = service.ask("/api/v1/rollouts", token=OPERATOR, body={"model": "digits"} | wanted, method="POST")

    assert code == 422
    assert len(service.store.rollouts()) == 1


@pytest.mark.parametrize("path", ["/api/v1/rollouts/preview", "/api/v1/rollouts"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("deadline", math.inf),
        ("soak", math.nan),
        ("max_slower", math.inf),
        ("between_time", math.inf),
        ("max_excess", 5e-324),
        ("phase_deadlines", {"fetch": math.nan}),
        ("phase_deadlines", {"\ud800": 1}),
        ("canary", math.nan),
        ("canary", "\ud800"),
        ("model", "\ud800"),
        ("variant", "\ud800"),
        ("profiles", ["\ud800"]),
        ("objective", "minimise \ud800"),
        ("max_bytes", 2**63),
        ("canary", 10**30),
        ("min_devices", 10**400),
        ("only", "site=" + "x" * 9000),
        ("checks", f"p95 <= +{'9' * 330}%"),
    ],
)
def test_what_no_document_can_hold_is_refused_by_the_name_of_its_field(service, path, field, value):
    """A number that is not finite or far too large, and a text that is no Unicode, are wrong fields like any other."""
    body = {"model": "digits", "between": 0.5, "variant": "int8"} | {field: value}

    code, answer = service.ask(path, token=OPERATOR, body=body, method="POST")

    assert code == 422
    assert field.removesuffix("s") in json.dumps(answer["detail"])
    assert len(service.store.rollouts()) == 1


@pytest.mark.parametrize(
    ("path", "body"), [("", {"model": "digits", "only": "x" * 9000}), (f"/{'r' * 9000}/abort", None)]
)
def test_a_refused_order_hides_no_other_from_the_audit_log(service, path, body):
    """However long it was, its entry can be read, with its length in place of the rest."""
    service.ask(f"/api/v1/rollouts{path}", token=OPERATOR, body=body, method="POST")

    code, entries = service.ask("/api/v1/audit", token=VIEWER)

    assert code == 200
    assert [entry["actor"] for entry in entries] == ["ann"]
    assert " characters)" in entries[0]["target"] + entries[0]["detail"]


@pytest.mark.parametrize("body", [math.nan, "\ud800", [math.inf]])
def test_a_body_that_is_no_order_is_refused(service, body):
    """Whatever stands in its place is not sent back, since no answer could hold it."""
    code, answer = service.ask("/api/v1/rollouts/preview", token=VIEWER, body=body, method="POST")

    assert (code, answer["detail"][0]["loc"]) == (422, ["body"])


def test_a_comparison_between_devices_can_be_asked_for(service):
    """Its share becomes the first wave, and what it can show is said before anybody waits."""
    wanted = {"model": "digits", "variant": "int8", "between": 0.5, "between_time": 60, "max_excess": 0.1}
    wanted |= {"alpha": 0.01, "max_bytes": 5000}

    code, found = service.ask("/api/v1/rollouts/preview", token=VIEWER, body=wanted, method="POST")

    assert code == 200
    assert found["plan"]["between"] == {"share": 0.5, "seconds": 60.0, "max_excess": 0.1}
    assert (found["plan"]["policy"]["alpha"], found["plan"]["max_bytes"]) == (0.01, 5000)
    assert "pairs of devices: at best an excess of" in " ".join(found["outlooks"])


@pytest.mark.parametrize("alpha", [1e-7, 1e-300, 0.9999999])
def test_an_error_rate_of_nothing_is_refused_and_not_searched_for(service, alpha):
    """No number of devices would show anything at such a rate, so a viewer's preview gets an answer at once."""
    wanted = {"model": "digits", "alpha": alpha}

    code, answer = service.ask("/api/v1/rollouts/preview", token=VIEWER, body=wanted, method="POST")

    assert code == 422
    assert "alpha lies between 0.0001 %" in answer["detail"]


def test_a_view_of_a_rollout_counts_its_devices_and_does_not_name_them(service):
    """What is sent for a page does not grow with the fleet; devices come by the page, by status and wave."""
    address = f"/api/v1/rollouts/{ROLLOUT}"

    _, seen = service.ask(f"{address}/view", token=VIEWER)
    _, page = service.ask(f"{address}/devices?status=offered&limit=2&after=pi-00002", token=VIEWER)
    wrong = service.ask(f"{address}/devices?status=lost", token=VIEWER)[0]

    assert [(wave["devices"], wave["statuses"]) for wave in seen["lanes"][0]["waves"][:2]] == [
        (1, {"confirmed": 1}),
        (DEVICES - 1, {"offered": DEVICES - 1}),
    ]
    assert "pi-00005" not in json.dumps({**seen, "explanation": None})
    assert seen["explanation"]["watches"][0]["stops_at"] == 20
    assert (page["total"], [m["device"] for m in page["members"]]) == (DEVICES - 1, ["pi-00003", "pi-00004"])
    assert wrong == 422


def test_a_preview_changes_nothing(service):
    """What would happen can be asked by a viewer."""
    before = service.store.rollouts()

    code, found = service.ask("/api/v1/rollouts/preview", token=VIEWER, body={"model": "digits"}, method="POST")

    assert (code, found["model"]) == (200, "digits")
    assert service.store.rollouts() == before


def test_a_revoked_token_stops_working(service, monkeypatch):
    """A token that was taken away is refused once tokens are read again."""
    monkeypatch.setattr("edgepick_host.web.access.REMEMBERED_SECONDS", 0.0)
    service.store.save_token(Token(name="eve", role=Role.VIEWER, digest="0" * 64, created_at=1.0))
    before = service.ask("/api/v1/me", token=VIEWER)[0]

    service.store.remove_token("bob")

    assert (before, service.ask("/api/v1/me", token=VIEWER)[0]) == (200, 401)


def test_prometheus_finds_the_fleet(service):
    """Counts by kind, presence, variant and rollout, and the requests of this service."""
    service.ask("/api/v1/fleet", token=VIEWER)

    _, text = service.ask("/metrics")

    assert f'edgepick_devices{{online="true",profile="raspberry-pi-4"}} {DEVICES - 1}.0' in text
    assert f'edgepick_rollout_devices{{model="digits",rollout="{ROLLOUT}",stage="wave",state="confirmed"}} 1.0' in text
    assert f"edgepick_reports_total {DEVICES}.0" in text
    assert 'edgepick_http_requests_total{method="GET",route="/api/v1/fleet",status="200"} 1.0' in text


def test_the_dashboard_asks_for_what_there_is(service):
    """Each metric that the Grafana dashboard draws is among those that the service tells."""
    dashboard = json.loads((Path(web.__file__).parent / "grafana/fleet.json").read_text())
    service.ask("/api/v1/me", token=VIEWER)
    _, text = service.ask("/metrics")

    drawn = {name for panel in dashboard["panels"] for t in panel["targets"] for name in METRIC.findall(t["expr"])}

    told = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert len(drawn) > 5
    assert sorted(drawn - told) == []


def test_health_says_whether_the_database_answers(service):
    """Alive whatever happens; ready only while the database answers."""
    ready = service.ask("/readyz")[0]
    service.store.report_count = broken

    assert (ready, service.ask("/readyz")[0], service.ask("/healthz")[0]) == (200, 503, 200)


def broken() -> int:
    from edgepick_host.errors import UnreachableError

    raise UnreachableError("no database")


def test_the_api_describes_itself(service):
    """OpenAPI names each route, and what starts a rollout."""
    _, document = service.ask("/api/v1/openapi.json")

    assert {"/api/v1/fleet", "/api/v1/rollouts/{name}/{action}"} <= set(document["paths"])
    assert "NewRollout" in document["components"]["schemas"]
    assert INT8 not in str(document)


@pytest.mark.parametrize("text", ["8080", "host", ":80", "host:port", "host:70000"])
def test_an_address_that_is_none(text):
    """What is not HOST:PORT is refused in words."""
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


def test_a_port_that_is_taken(service):
    """A second service on the port says so, and does not start."""
    port = int(service.url.rpartition(":")[2])

    def listen() -> None:
        with serving(object(), Address(host="127.0.0.1", port=port)):
            pass

    # SO_REUSEADDR lets a port be bound again while nobody listens; somebody does.
    with socket.create_connection(("127.0.0.1", port)), pytest.raises(ConfigError, match="address already in use"):
        listen()
