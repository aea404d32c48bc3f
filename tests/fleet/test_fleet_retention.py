"""Old reports are deleted under a fleet at work: nothing that counts changes, and old decisions say what they lost."""

from collections import Counter

import pytest

from edgepick_host.core.decision import parse_record
from edgepick_host.core.replay import Outcome, replay
from edgepick_host.core.retention import in_use, needed, reports_of
from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import Plan
from edgepick_host.service.requests import load_heads
from edgepick_host.service.retention import SWEEP_SECONDS, Retention, prune
from fleet.simulator import Script, World
from fleet.synthetic import release

FIRST = release("float32", version="1", size=200_000)
SECOND = release("int8", version="1", size=50_000)
THIRD = release("int8", version="2", size=50_000)
FOURTH = release("int8", version="3", size=50_000)
FIFTH = release("int8", version="4", size=50_000)
DAY = 86_400.0


def plan(version):
    return Plan(version=version, wave_seconds=30, measure_seconds=60)


def world():
    """Return a fleet of twenty that went from the first variant to the second."""
    fleet = World(seed=3)
    speeds = {FIRST: 10, SECOND: 8, THIRD: 7, FOURTH: 6, FIFTH: 5}
    fleet.add(20, running=FIRST, **{r.manifest: Script(p50_ms=ms) for r, ms in speeds.items()})
    fleet.publish(FIRST, SECOND)
    fleet.host_up()
    fleet.start(plan("1"))
    assert fleet.run().stage is Stage.DONE
    return fleet


def next_version(fleet, version=THIRD, during=lambda: None):
    """Roll the next version out to all of it."""
    name = f"r-{version.version}"
    fleet.publish(version)
    fleet.host_up()
    fleet.start(plan(version.version), rollout=name)
    during()
    end = fleet.run(rollout=name)
    assert Counter(fleet.running().values()) == {version.manifest: 20}
    return end


def outcomes(fleet):
    documents = [document for _, document in fleet.store.decisions()]
    pruned = fleet.store.pruned("digits")
    return [
        r.outcome
        for r in replay(
            documents, fleet.store.releases(), fleet.store.reports(), {"digits": pruned} if pruned else None
        )
    ]


def all_of_it(fleet, **options):
    return prune(fleet.store, before=fleet.clock.now() + DAY, **{"dry_run": False, **options})


def test_what_a_decision_that_holds_rests_on_is_never_deleted():
    """With everything old, the decision that chose what runs still replays; the rest of its rollout's reports go."""
    fleet = world()
    stored = len(fleet.store.reports())

    told, done = all_of_it(fleet, dry_run=True), all_of_it(fleet)

    assert told == done
    assert (done.removed, done.kept) == (stored - len(fleet.store.reports()), len(fleet.store.reports()))
    assert done.removed > 0
    assert outcomes(fleet) == [Outcome.SAME]


def test_a_dry_run_deletes_nothing():
    """What would be deleted is told, and everything is still there."""
    fleet = world()
    before = fleet.store.reports()

    told = all_of_it(fleet, dry_run=True)

    assert told.models == {"digits": told.removed}
    assert fleet.store.reports() == before
    assert fleet.store.pruned("digits") is None


def test_a_rollout_that_runs_keeps_everything_about_its_model():
    """Deleting in the middle of a rollout takes nothing of its model, and the rollout ends as it would have."""
    fleet = world()
    removed: list[int] = []

    end = next_version(fleet, during=lambda: removed.append(all_of_it(fleet).removed))

    assert (end.stage, removed) == (Stage.DONE, [0])
    assert Outcome.PRUNED not in outcomes(fleet)


def test_a_rollout_after_a_deletion_hears_every_report_once():
    """Where old reports are gone, the next rollout goes on in the log where it should, and completes."""
    fleet = world()
    all_of_it(fleet)

    end = next_version(fleet)

    assert end.stage is Stage.DONE
    assert end.reports_seen == fleet.store.report_count(model="digits")


def test_a_decision_whose_reports_were_deleted_says_so():
    """Some versions later the first decisions are called pruned, not changed and not unknown; the last ones replay."""
    fleet = world()
    for version in (THIRD, FOURTH, FIFTH):
        next_version(fleet, version)

    done = all_of_it(fleet)

    assert done.removed > 0
    assert outcomes(fleet) == [Outcome.PRUNED, Outcome.PRUNED, Outcome.SAME, Outcome.SAME]


def test_needed_is_what_runs_and_what_the_decision_about_it_named():
    """The variants in the devices' slots and the reports that chose them are needed; the loser's others are not."""
    fleet = world()
    devices, desired = fleet.store.devices(), fleet.store.all_desired()
    records = [parse_record(document) for _, document in fleet.store.decisions()]

    found = needed(rollouts=load_heads(fleet.store), records=records, devices=devices, desired=desired)

    assert found.models == frozenset()
    assert SECOND.manifest in found.manifests <= in_use(devices, desired)
    assert found.named == set(reports_of(records[-1]))


@pytest.mark.parametrize("keep_days", [1, 30])
def test_a_service_deletes_by_itself(keep_days):
    """A page at each step until the old is gone, with one line; then not again before its time."""
    fleet = world()
    lines: list[str] = []
    retention = Retention(fleet.store, fleet.clock, keep_seconds=keep_days * DAY, say=lines.append)

    retention.step()
    fleet.clock.time += keep_days * DAY
    retention.step()
    early = list(lines)
    fleet.clock.time += SWEEP_SECONDS
    for _ in range(3):
        retention.step()

    assert len(early) <= 1
    assert len(lines) == 1
    assert f"older than {keep_days} days" in lines[0]
    assert outcomes(fleet) == [Outcome.SAME]
