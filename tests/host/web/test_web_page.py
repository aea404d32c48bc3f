"""The page in a real browser: what it shows, what it may do, who can use it, and what it asks of the network."""

import os
import shutil
from pathlib import Path

import pytest

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

    found = axe.Axe().run(page).response["violations"]

    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{view}-{scheme}.png", full_page=True)
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS] == []


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
