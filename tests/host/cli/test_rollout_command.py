"""``edgepick rollout``: what its options mean, what a dry run shows, and how a rollout explains itself."""

import json

import pytest

from edgepick_host import app
from edgepick_wire.messages import Presence
from fleet.synthetic import birth, measured, measurement, release

OLD, NEW = (
    release("old", version="1", profiles=("raspberry-pi-4",)),
    release("new", profiles=("raspberry-pi-4",), version="2"),
)
DEVICES = tuple(f"pi-{n}" for n in range(10))


@pytest.fixture
def fleet(site):
    """Provide a site whose database knows ten devices, half of them in the lab, that have measured both variants."""
    with app.store_of(site.settings()) as store:
        for each in (OLD, NEW):
            store.save_release(each, b"envelope")
        for number, name in enumerate(DEVICES):
            labels = {"site": "lab" if number < 5 else "plant"}
            store.heard_birth(birth(name, "raspberry-pi-4", labels=labels), 1.0)
            store.heard_presence(name, Presence(session=1, online=True), 1.0)
            for each, ms in ((OLD, 10.0), (NEW, 5.0)):
                store.add_report(measured(name, each, measurement(ms)), 1.0)
    return site


def waves_of(shown) -> dict[int, set[str]]:
    return {wave["wave"]: set(wave["devices"]) for wave in shown["waves"]}


def test_a_dry_run_shows_who_would_be_in_which_wave(fleet, edgepick):
    """Queries are carried out on the labels of the devices, and nothing is kept of it."""
    done = edgepick("rollout", "start", "digits", "--dry-run", "--waves", "site=lab, 8, 100%", "--json")

    waves = waves_of(json.loads(done.out))
    canary = waves[0]
    assert done.code == 0
    assert waves[1] == {"pi-0", "pi-1", "pi-2", "pi-3", "pi-4"} - canary
    assert [len(waves[n]) for n in (0, 2, 3)] == [1, 8 - 1 - len(waves[1]), 2]
    assert edgepick("rollout", "status", "--all", "--json").out.strip() == "[]"


def test_a_dry_run_is_a_page_for_people_too(fleet, edgepick):
    """Only the devices that match, the window in its own words, and the table of the waves."""
    done = edgepick(
        "rollout", "start", "digits", "--dry-run", "--only", "site=lab", "--window", "sun 02:00-02:01 Europe/Berlin",
        "--waves", "exponential:3", "--check", "p95 <= +10%",
    )  # fmt: skip

    assert "opens Sun" in done.out
    assert "Europe/Berlin" in done.out
    assert "p95 <= +10%" in done.out
    assert "canary" in done.out
    assert "pi-7" not in done.out


def test_a_dry_run_says_what_a_comparison_between_devices_could_show(fleet, edgepick):
    """Before anybody waits: how many pairs there are, and that they are too few for what is asked."""
    arms = ("--variant", "new", "--between", "50%", "--between-time", "1h", "--max-excess", "5%")

    done = edgepick("rollout", "start", "digits", "--dry-run", *arms)
    wrong = edgepick("rollout", "start", "digits", "--dry-run", *arms, "--waves", "site=lab,100%")

    assert "pairs of devices: at best an excess of" in done.out
    assert "too few for the 5.0% that are asked, which takes" in done.out
    assert (wrong.code, "arms are drawn by lot" in wrong.err) == (2, True)


def test_nothing_is_asked_of_a_rollout_after_its_abort(fleet, edgepick):
    """Without a service the abort waits for one; pause and resume are refused meanwhile, with the reason."""
    started = json.loads(edgepick("rollout", "start", "digits", "--no-wait", "--json").out)["id"]

    done = [edgepick("rollout", action, started) for action in ("pause", "abort", "pause", "resume", "abort")]

    assert [each.code for each in done] == [0, 0, 1, 1, 0]
    assert "was asked to abort and cannot be asked to resume" in done[3].err


@pytest.mark.parametrize("flags", [("--canary", str(2**63)), ("--variant", "\udcff"), ("--deadline", "9" * 400 + "s")])
def test_a_plan_that_no_document_can_hold_is_refused(fleet, edgepick, flags):
    """Stored, it could never be read again; so nothing is, and the next command finds everything as it was."""
    done = edgepick("rollout", "start", "digits", "--no-wait", *flags)

    assert done.code == 2
    assert edgepick("rollout", "status", "--all", "--json").out.strip() == "[]"


@pytest.mark.parametrize("option", ["--tolerated", "--alpha"])
@pytest.mark.parametrize("value", ["0.0000001", "0.00001%"])
def test_a_share_that_is_as_good_as_none_is_refused(fleet, edgepick, option, value):
    """Less than a millionth would be taken for nothing; the least is named, and nothing is started."""
    done = edgepick("rollout", "start", "digits", "--no-wait", option, value)

    assert (done.code, "0.0001 %" in done.err) == (2, True)
    assert edgepick("rollout", "status", "--all", "--json").out.strip() == "[]"


def test_a_rollout_explains_what_it_waits_for(fleet, edgepick):
    """Without a service it waits for measurements; a second one of the model is told what is in its way."""
    started = json.loads(edgepick("rollout", "start", "digits", "--no-wait", "--json").out)

    told = edgepick("rollout", "explain")
    preview = edgepick("rollout", "start", "digits", "--dry-run")
    second = edgepick("rollout", "start", "digits", "--no-wait")
    instead = edgepick("rollout", "start", "digits", "--no-wait", "--replace", "--json")

    assert f"{started['id']}: digits 2: devices measure; nothing has been decided" in told.out
    assert "at the latest" in told.out
    assert f"rollout {started['id']} is measuring" in preview.out
    assert (second.code, "--replace" in second.err) == (1, True)
    assert json.loads(instead.out)["after"] == started["id"]
    assert "the end of rollout" in edgepick("rollout", "explain").out


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--waves", "10,50"), "the last one 100%"),
        (("--waves", "exponential:1"), "a factor from 1.1"),
        (("--only", "site"), "site=lab"),
        (("--window", "mon-fri"), "01:00-05:00"),
        (("--window", "mon 01:00-02:00 Mars/Base"), "Mars/Base"),
        (("--check", "accuracy >= 0.9"), "devices measure latency"),
        (("--check", "p95 <= +5% and p95 <= 2 ms"), "limited twice"),
        (("--phase-deadline", "fetch"), "not a duration"),
        (("--phase-deadline", "lunch=1h"), "phases are accept"),
        (("--min-confirmed", "0%"), "min_confirmed"),
        (("--objective", "minimise cost"), "cost"),
        (("--objective", "minimise size subject to p95 <= 2 ms and p95 <= 3 ms"), "p95 is limited twice"),
        (("--objective", "minimise size subject to latency >= 2 ms"), "latency takes <="),
        (("--objective", "minimise size subject to throughput >= 30"), "nobody measures 'throughput'"),
        (("--only", "site=lab and site=plant"), "contradicts itself"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(fleet, edgepick, flags, what):
    """The message names what was found and shows what is expected; nothing starts."""
    done = edgepick("rollout", "start", "digits", "--no-wait", *flags)

    assert done.code == 2
    assert what in " ".join(done.err.split())
    assert edgepick("rollout", "status", "--all", "--json").out.strip() == "[]"
