"""A better variant of the same version, through the whole host: it has to be proven, by many devices or by quads."""

from collections import Counter

import pytest

from edgepick_host.core.decision import parse_record
from edgepick_host.core.proof import Scope
from edgepick_host.core.replay import Outcome, replay
from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import Plan
from edgepick_host.service.campaigns import preview
from edgepick_profiles.schema import Budgets
from fleet.simulator import Script, World
from fleet.synthetic import release

NOW = release("float32", version="1", size=200_000)
BETTER = release("int8", version="1", size=50_000)
PLAN = Plan(version="1", wave_seconds=30, measure_seconds=60)


def rolled_out(count, *, ratio=0.8, **options):
    fleet = World(seed=3)
    scripts = {NOW.manifest: Script(p50_ms=10), BETTER.manifest: Script(p50_ms=10 * ratio)}
    fleet.add(count, running=NOW, **options, **scripts)
    fleet.publish(NOW, BETTER)
    fleet.host_up()
    fleet.start(PLAN)
    return fleet, fleet.run()


def last(fleet):
    return parse_record(fleet.store.decisions("digits")[-1][1]).decision


def test_two_devices_that_measure_in_quads_are_enough():
    """Two devices prove the gain for themselves, get the better variant, and the record replays bit for bit."""
    fleet, end = rolled_out(2, pairs=True)

    assert end.stage is Stage.DONE
    assert Counter(fleet.running().values()) == {BETTER.manifest: 2}
    assert last(fleet).proofs[0].scope is Scope.DEVICES
    documents = [document for _, document in fleet.store.decisions()]
    found = replay(documents, fleet.store.releases(), fleet.store.reports())
    assert {r.outcome for r in found} == {Outcome.SAME}


def test_two_devices_that_do_not_are_too_few():
    """Without quads two devices keep what they run, and the reason says what is missing."""
    fleet, end = rolled_out(2)

    assert end.stage is Stage.INCONCLUSIVE
    assert Counter(fleet.running().values()) == {NOW.manifest: 2}
    assert "too few" in " ".join(last(fleet).reasons)


@pytest.mark.parametrize("pairs", [True, False])
def test_twenty_devices_prove_it_for_devices_like_them(pairs):
    """In a stratum of twenty each device is one unit, with quads or without."""
    fleet, end = rolled_out(20, pairs=pairs)

    assert end.stage is Stage.DONE
    assert (last(fleet).proofs[0].scope, last(fleet).proofs[0].units) == (Scope.FLEET, 20)
    assert last(fleet).proofs[0].paired is pairs


def test_orders_to_compare_do_not_pile_up():
    """A second rollout's orders to compare replace the first one's."""
    fleet, _ = rolled_out(2, ratio=1.0, pairs=True)
    fleet.start(PLAN, "r-2")
    fleet.run(rollout="r-2")

    orders = [o for d in fleet.store.all_desired() for m in d.models for o in m.measure if o.pair]

    assert sorted(o.pair.key for o in orders) == ["aa", "r-2"]


def test_an_a_a_run_tells_what_can_be_found():
    """After a rollout that proved nothing, its record and the next preview say what the fleet could prove."""
    fleet, _ = rolled_out(2, ratio=1.0, pairs=True)

    seen = preview(fleet.store, "digits", PLAN, rollout="r-2", now=0.0, budgets_of=lambda _profile: Budgets())

    assert "A/A on 2 device(s): noise 0.00%" in seen.outlooks[0]
    assert seen.outlooks[0].split(": ", 1)[1] in last(fleet).reasons


def test_before_any_a_a_run_the_preview_says_that_nothing_is_known():
    """Without an A/A run no detectable gain is made up."""
    fleet = World(seed=3)
    fleet.add(3, running=NOW)
    fleet.publish(NOW, BETTER)
    fleet.host_up()
    for _ in range(3):
        fleet.turn()

    seen = preview(fleet.store, "digits", PLAN, rollout="r-1", now=0.0, budgets_of=lambda _profile: Budgets())

    assert any("no A/A run has told the noise yet" in line for line in seen.outlooks)
