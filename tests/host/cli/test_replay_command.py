"""``edgepick why --full`` and ``edgepick replay`` over a real database: what they show, and what they notice."""

import sqlite3

import pytest

from edgepick_host import app
from edgepick_host.core.decision import parse_record, record
from edgepick_host.core.gates import Policy
from edgepick_host.core.objective import parse_objective
from edgepick_host.core.select import select
from edgepick_host.core.strata import Stratum
from edgepick_profiles.schema import Budgets
from fleet.synthetic import measured, measurement, release

OLD, NEW = release("old"), release("new", size=90_000)
DEVICES = tuple(f"d{n}" for n in range(8))


@pytest.fixture
def decided(site):
    """Provide a site whose database holds eight devices' reports and the decision that they led to."""
    reports = [measured(d, r, measurement(10.0 if r is OLD else 8.0)) for d in DEVICES for r in (OLD, NEW)]
    decision = select(
        stratum=Stratum(profile="pi", runs_on=("litert/xnnpack",), stand_in=True, devices=DEVICES),
        candidates=(OLD, NEW),
        reports=reports,
        budgets=Budgets(latency_p95_ms=20),
        objective=parse_objective("minimise latency subject to p95 <= 20 ms"),
        incumbent=OLD,
        policy=Policy(),
    )
    with app.store_of(site.settings()) as store:
        for each in (OLD, NEW):
            store.save_release(each, b"envelope")
        for report in reports:
            store.add_report(report, 1.0)
        store.append_decision("digits", record(decision, rollout="r-1", decided_at=1.0, previous=None))
    return site


def change(site, statement):
    """Do to the database what nobody should."""
    with sqlite3.connect(site.folder / "edgepick.db") as connection:
        assert connection.execute(statement).rowcount == 1


def test_why_shows_the_proof(decided, edgepick):
    """The sentence names the evidence, and the full record has it beside its threshold."""
    short, full = edgepick("why", "digits"), edgepick("why", "digits", "--full")

    assert "8 of 8 devices gain: evidence 64.9 of 20" in short.out
    assert "fleet, unpaired" in full.out
    assert "0.800 to 0.800" in full.out
    assert "any false gain 5.00%" in full.out


def test_a_decision_is_replayed_from_the_database(decided, edgepick):
    """An untouched database gives every decision again, whatever arrives later."""
    with app.store_of(decided.settings()) as store:
        store.add_report(measured("d0", NEW, measurement(99.0), number=2), 2.0)

    done = edgepick("replay", "digits", "--json")

    assert done.code == 0
    assert [r["outcome"] for r in done.json()] == ["same"]


def test_a_report_that_was_changed_is_noticed(decided, edgepick):
    """A latency altered in the database makes the replay end with code 4."""
    change(
        decided, "UPDATE report SET document = CAST(replace(document, '8000000', '7000000') AS BLOB) WHERE position = 2"
    )

    done = edgepick("replay")

    assert done.code == 4
    assert "1 of 1 decisions come out differently" in done.err


def test_a_report_that_is_gone_is_noticed(decided, edgepick):
    """Evidence that was deleted makes a decision underivable: code 1, and the report is named."""
    change(decided, "DELETE FROM report WHERE device = 'd3' AND id = 'new-1'")

    done = edgepick("replay")

    assert done.code == 1
    assert "d3/new-1" in done.out


def test_a_record_that_was_changed_is_noticed(decided, edgepick):
    """A record altered in the database breaks the chain or its replay: code 4."""
    change(decided, "UPDATE decision SET document = CAST(replace(document, 'promote', 'rollback') AS BLOB)")

    assert edgepick("replay").code == 4


def later_decision(site):
    """Replace what the database says by a second decision that rests on newer reports of the same devices."""
    reports = [measured(d, r, measurement(9.0), number=5) for d in DEVICES for r in (OLD, NEW)]
    with app.store_of(site.settings()) as store:
        _, first = store.decisions()[-1]
        before = parse_record(first).decision
        decision = select(
            stratum=before.stratum,
            candidates=(OLD, NEW),
            reports=reports,
            budgets=Budgets(latency_p95_ms=20),
            objective=parse_objective(before.objective),
            incumbent=OLD,
            policy=Policy(),
        )
        for report in reports:
            store.add_report(report, 2.0)
        store.append_decision("digits", record(decision, rollout="r-2", decided_at=2.0, previous=first))
    return site


def test_what_was_pruned_is_told_and_is_no_failure(decided, edgepick):
    """Decisions of the past lose reports to age: replay and why say so, the chain holds, and the exit code is 0."""
    later_decision(decided)

    would = edgepick("store", "prune", "--older-than", "90d", "--dry-run")
    done = edgepick("store", "prune", "--older-than", "90d", "--json")
    replayed, listed = edgepick("replay", "--json"), edgepick("replay")
    past, present = edgepick("why", "digits", "--rollout", "r-1"), edgepick("why", "digits")

    assert "would delete 16 reports" in would.out
    assert (done.json()["removed"], done.json()["kept"]) == (16, 16)
    assert (replayed.code, [r["outcome"] for r in replayed.json()]) == (0, ["pruned", "same"])
    assert "the chain of records is intact" in listed.out
    assert "16 of the 16 reports behind it are not kept any more; 16 old reports" in past.out
    assert "not kept any more" not in present.out
    with app.store_of(decided.settings()) as store:
        assert [e.action for e in store.audit(newest=9)] == ["store.prune"]


def test_a_record_that_was_changed_is_noticed_after_pruning_too(decided, edgepick):
    """The chain of records is checked whatever was deleted: code 4."""
    later_decision(decided)
    edgepick("store", "prune", "--older-than", "90d")
    with sqlite3.connect(decided.folder / "edgepick.db") as connection:
        change = "UPDATE decision SET document = CAST(replace(document, 'd3', 'd4') AS BLOB) WHERE number = 1"
        connection.execute(change)

    assert edgepick("replay").code == 4


@pytest.mark.parametrize("time", ["1h", "0", "soon"])
def test_a_time_that_is_too_short_or_none_is_refused(decided, edgepick, time):
    """Less than a day, or what is no time, is wrong use, and nothing is deleted."""
    done = edgepick("store", "prune", "--older-than", time)

    assert done.code == 2
    assert edgepick("replay").code == 0
