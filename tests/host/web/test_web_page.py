"""The page in a real browser: what it shows, what it may do, who can use it, and what it asks of the network."""

import os
import shutil
from pathlib import Path

import pytest

from edgepick_host.service.requests import save_rollout
from host.web.busy_rollout import BUSY, busy, opening, pinned, shadow_of
from host.web.small_fleet import OPERATOR, ROLLOUT, VIEWER

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PICTURES = os.environ.get("EDGEPICK_PICTURES")
"""A folder that screenshots are written to."""

VIEWS = {
    "fleet": ("#/", "Fleet farm"),
    "devices": ("#/devices", "Devices"),
    "device": ("#/devices/pi-00001", "pi-00001"),
    "rollouts": ("#/rollouts", "Rollouts"),
    "rollout": (f"#/rollouts/{ROLLOUT}", f"Rollout {ROLLOUT}"),
    "rollout's devices": (f"#/rollouts/{ROLLOUT}/devices", f"Devices of rollout {ROLLOUT}"),
    "decisions": ("#/decisions", "Decisions"),
    "model": ("#/models/digits", "Model digits"),
    "audit": ("#/audit", "Audit"),
}
SERIOUS = {"serious", "critical"}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser():
    """Provide a headless Chromium."""
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def visit(browser, service):
    """Return a function that opens a page, signed in."""
    contexts = []

    def opened(token: str = VIEWER, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.goto(service.url)
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Fleet farm").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()


def axe_serious(page):
    """Return what axe-core finds that keeps somebody from using the page."""
    found = axe.Axe().run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS]


def show(page, service, view: str):
    address, heading = VIEWS[view]
    page.goto(f"{service.url}/{address}")
    page.get_by_role("heading", name=heading, exact=True).wait_for()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible(visit, service, view, scheme):
    """axe-core finds no serious problem in any view, in light and in dark."""
    page = visit(color_scheme=scheme)
    show(page, service, view)

    found = axe_serious(page)

    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{view}-{scheme}.png", full_page=True)
    assert found == []


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_a_phone(visit, service, view):
    """Nothing but tables, which scroll by themselves, is wider than a phone."""
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True)
    show(page, service, view)

    wide = page.evaluate("document.documentElement.scrollWidth")

    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{view}-phone.png")
    assert wide <= 360


def test_nothing_leaves_the_machine(browser, service):
    """Every request of every view goes to the service itself, and none fails."""
    page = browser.new_context().new_page()
    asked, failed, said = [], [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.goto(service.url)
    page.get_by_label("Token").fill(VIEWER)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Fleet farm").wait_for()
    for view in VIEWS:
        show(page, service, view)

    elsewhere = [url for url in asked if not url.startswith(service.url)]

    assert (elsewhere, failed, said) == ([], [], [])
    assert len(asked) > len(VIEWS)


def test_a_decision_shows_its_evidence(visit, service):
    """The e-value against what it has to reach, and what the data leave open."""
    page = visit()
    show(page, service, "decisions")
    page.get_by_role("table").get_by_role("link").first.click()

    page.get_by_text("e-value 315 of 20.0 for a gain").wait_for()

    assert page.get_by_text("the change lies between -45.0 % and -35.0 %").count() == 1
    assert page.get_by_role("listitem").filter(has_text="int8 is 40 % faster").count() == 1


def test_what_devices_say_is_text(visit, service):
    """A device that reports markup gets it shown, not run."""
    page = visit()
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))

    show(page, service, "device")

    assert page.get_by_text("<script>alert(1)</script>").count() == 1
    assert page.get_by_text("no-space: <b>full</b> Delete something.").count() == 1
    assert dialogs == []


def test_an_operator_pauses_from_the_page(visit, service):
    """The button of a rollout does what the command does, and the page says so."""
    page = visit(OPERATOR)
    show(page, service, "rollout")

    page.get_by_role("button", name="Pause").click()
    page.get_by_text(f"Asked rollout {ROLLOUT} to pause.").wait_for()

    assert [entry.action for entry in service.store.audit(newest=5)] == ["rollout.pause"]


def test_abort_asks_first(visit, service):
    """An abort that is not confirmed does nothing; a confirmed one is asked for."""
    page = visit(OPERATOR)
    show(page, service, "rollout")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Abort").click()
    refused = service.store.audit(newest=5)

    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Abort").click()
    page.get_by_text(f"Asked rollout {ROLLOUT} to abort.").wait_for()

    assert refused == []
    assert [entry.action for entry in service.store.audit(newest=5)] == ["rollout.abort"]


def test_a_viewer_is_told_what_is_missing(visit, service):
    """A viewer's click changes nothing and says which role it needs."""
    page = visit(VIEWER)
    show(page, service, "rollout")

    page.get_by_role("button", name="Pause").click()
    page.get_by_text("This needs the role operator.").wait_for()

    assert service.store.audit(newest=5) == []


def test_the_keyboard_is_enough(visit, service):
    """From the first key: skip link, navigation, search field and result, without a mouse."""
    page = visit()
    page.goto(f"{service.url}/#/devices")
    page.get_by_role("heading", name="Devices").wait_for()

    page.get_by_label("Name or kind").focus()
    page.keyboard.type("00003")
    page.keyboard.press("Enter")
    page.get_by_text("1 match").wait_for()
    page.get_by_role("link", name="pi-00003").focus()
    page.keyboard.press("Enter")

    page.get_by_role("heading", name="pi-00003").wait_for()


def test_a_wrong_token_asks_again(browser, service):
    """A token that is not known leads back to the sign-in, and shows nothing of the fleet."""
    page = browser.new_context().new_page()
    page.goto(service.url)

    page.get_by_label("Token").fill("ep_wrong")
    page.keyboard.press("Enter")
    page.get_by_text("The token is not known.").wait_for()

    assert page.evaluate("sessionStorage.getItem('token')") is None
    assert page.get_by_role("heading", name="Sign in").is_visible()
    assert "farm" not in page.inner_text("body")


def test_a_rollout_shows_what_it_waits_for_and_how_near_each_watch_is(visit, service):
    """Phases, windows, arms, watches against their thresholds, late joiners, and a held stratum with its reason."""
    save_rollout(service.store, busy())
    page = visit()
    page.goto(f"{service.url}/#/rollouts/{BUSY}")
    page.get_by_role("heading", name=f"Rollout {BUSY}").wait_for()

    said = page.locator("main").inner_text()

    for text in (
        "50 % beside as many that wait, for 3600 s; at most 5 % more may fail",
        "in a phase: fetch 1800 s",
        "mon-fri 01:00-05:00",
        "site=lab",
        "1 device(s): it was still fetching (pi-00061); at most 1800 s in this phase",
        "1 of 62 devices failed, 0.50% are tolerated; 4 would be too many",
        "e-value 1.49 of 20.0, at which everything returns; 61 pairs of devices, in 1 of them one failed first",
        "Held: no canary device answered before the deadline",
        "3 device(s) joined the last wave after the decision.",
        "too long in phase fetch",
    ):
        assert text in said, text
    assert axe_serious(page) == []


def test_a_rollout_that_waits_for_its_window_says_when_it_opens(visit, service):
    """The moment is beside the window, and first among what it waits for."""
    save_rollout(service.store, opening(busy()))
    page = visit()
    page.goto(f"{service.url}/#/rollouts/{BUSY}")

    page.get_by_text("mon-fri 01:00-05:00; opens 1970-01-01 01:23:20 UTC").wait_for()

    assert page.get_by_text("pi 4: 60 pairs of devices").count() == 1
    assert page.get_by_role("listitem").filter(has_text="the maintenance window").count() == 1


def test_the_devices_of_a_rollout_come_by_the_page(visit, service):
    """From a wave's row to its devices, a hundred at a time, with the phase of each."""
    save_rollout(service.store, busy())
    page = visit()
    page.goto(f"{service.url}/#/rollouts/{BUSY}/devices")
    page.get_by_text("124 devices").wait_for()
    first = page.get_by_role("row").count() - 1
    page.get_by_role("link", name="Next page").click()
    page.get_by_role("link", name="pi-00123").wait_for()
    second = page.get_by_role("row").count() - 1

    page.goto(f"{service.url}/#/rollouts/{BUSY}/devices?status=offered")
    page.get_by_text("1 devices (status offered)").wait_for()

    assert (first, second) == (100, 24)
    assert page.get_by_role("row").filter(has_text="pi-00061").inner_text().split("\t")[3:5] == ["offered", "fetch"]


def test_a_device_shows_its_pin_and_its_shadows(visit, service):
    """Who keeps it where it is, and what a candidate did on copies of its requests."""
    service.store.heard_reported(pinned("pi-00003"), 4.0)
    service.store.add_report(shadow_of("pi-00003"), 5.0)
    page = visit()
    page.goto(f"{service.url}/#/devices/pi-00003")
    page.get_by_role("heading", name="Shadows").wait_for()

    said = page.locator("main").inner_text()

    assert "digits: a technician keeps it on 1 float32" in said
    assert "digits: 100 answers compared, 99.00 % agree, latency x 1.50, 0 bad, 0 dropped" in said
    assert axe_serious(page) == []
