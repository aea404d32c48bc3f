"""An energy that was only estimated is shown to people and decides nothing."""

from dataclasses import replace

import pytest

from edgepick_host.core import select as core
from edgepick_host.core.decision import ExclusionCode, Judgement
from edgepick_host.core.figures import EnergyKind, energy_uj
from edgepick_host.core.gates import GateName, Policy
from edgepick_host.core.objective import parse_objective
from edgepick_host.core.strata import Stratum
from edgepick_profiles.schema import Budgets
from edgepick_wire.metrics import EnergySummary
from fleet.synthetic import measured, measurement, release

THRIFTY, GREEDY = release("thrifty"), release("greedy")
PI = Stratum(profile="pi", runs_on=("litert/xnnpack",), stand_in=False, devices=("d1", "d2"))
NO_BUDGETS = Budgets()
ENERGY = parse_objective("minimise energy")


def reports(candidate, microjoules, *, estimated, p50_ms=10.0):
    spent = EnergySummary(gross_uj=microjoules, source="cpu-time", scope="board", reason="no sensor", estimated=True)
    figures = measurement(p50_ms=p50_ms, energy_uj=microjoules)
    found = replace(figures, energy=spent) if estimated else figures
    return [measured(device, candidate, found) for device in PI.devices]


def select(found, *, objective=ENERGY, budgets=NO_BUDGETS):
    return core.select(
        stratum=PI,
        candidates=(THRIFTY, GREEDY),
        reports=found,
        budgets=budgets,
        objective=objective,
        incumbent=None,
        policy=Policy(),
    )


def test_an_estimate_is_no_energy_for_the_host():
    """What the gates and the objective read is missing where it was estimated, and there where it was measured."""
    estimate = replace(measurement(), energy=EnergySummary(gross_uj=5.0, reason="no sensor", estimated=True))

    assert energy_uj(estimate, EnergyKind.GROSS) is None
    assert energy_uj(measurement(energy_uj=5.0), EnergyKind.GROSS) == 5.0


def test_estimates_alone_promote_nothing():
    """With the objective energy, measured figures choose; the same figures as estimates leave the verdict open."""
    by_meter, by_estimate = (
        select([*reports(THRIFTY, 100.0, estimated=e), *reports(GREEDY, 900.0, estimated=e)]) for e in (False, True)
    )

    assert (by_meter.verdict, by_meter.winner) == (Judgement.PROMOTE, THRIFTY.manifest)
    assert (by_estimate.verdict, by_estimate.winner) == (Judgement.INCONCLUSIVE, None)
    assert {c.excluded for c in by_estimate.candidates} == {ExclusionCode.MISSING}


@pytest.mark.parametrize("microjoules", [1.0, 1e9])
def test_an_estimate_neither_keeps_nor_breaks_an_energy_budget(microjoules):
    """A budget is not checked against an estimate, however small or large, and the decision says so."""
    found = [*reports(THRIFTY, microjoules, estimated=True), *reports(GREEDY, microjoules, estimated=True, p50_ms=20)]

    decision = select(found, objective=parse_objective("minimise latency"), budgets=Budgets(energy_mj=1.0))

    assert decision.winner == THRIFTY.manifest
    assert all(gate.name is not GateName.ENERGY for c in decision.candidates for gate in c.gates)
    assert "nothing is decided by an estimate" in " ".join(decision.reasons)
