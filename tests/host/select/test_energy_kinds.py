"""Energy net of idle power is compared with net energy, and gross with gross: a withheld figure turns no decision."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.core.decision import ExclusionCode, Judgement
from edgepick_host.core.gates import GateName, GateVerdict, Policy
from edgepick_host.core.objective import Metric, parse_objective
from edgepick_host.core.proof import compare
from edgepick_host.core.select import select
from edgepick_host.core.strata import Stratum
from edgepick_profiles.schema import Budgets
from edgepick_wire.metrics import EnergySummary
from fleet.synthetic import measured, measurement, release

LIGHT, HEAVY, THIRD = release("light"), release("heavy"), release("third")
ENERGY = parse_objective("minimise energy")
NO_BUDGETS = Budgets()

microjoules = st.floats(1e3, 1e6)
spent = st.tuples(microjoules, st.floats(0.01, 0.99)).map(lambda told: (told[0], told[0] * told[1]))
"""Gross, and a net one below it."""


def figures(gross, net):
    energy = EnergySummary(gross_uj=gross, net_uj=net, idle_uw=3e6, reason="no net figure" if net is None else None)
    return replace(measurement(), energy=energy)


def devices(count):
    return tuple(f"d{number}" for number in range(count))


def everywhere(count, told):
    """Return what ``count`` devices report, given what each says of a variant: gross and net."""
    return [measured(d, variant, figures(*energy)) for variant, energy in told.items() for d in devices(count)]


def decide(reports, count, *, objective=ENERGY, candidates=(LIGHT, HEAVY), **options):
    return select(
        stratum=Stratum(profile="pi", runs_on=("litert/xnnpack",), stand_in=False, devices=devices(count)),
        candidates=candidates,
        reports=reports,
        objective=objective,
        policy=Policy(),
        **{"budgets": NO_BUDGETS, "incumbent": None, **options},
    )


def energies(decision):
    return {c.label: [f.value for f in c.figures if f.metric is Metric.ENERGY] for c in decision.candidates}


WITHHELD = {LIGHT: (30e3, None), HEAVY: (42e3, 12e3)}
"""The lighter one adds too little to the idle power for a net figure."""


def test_a_variant_that_takes_more_is_not_promoted_over_one_whose_net_figure_is_withheld():
    """Eight devices measured 30 mJ gross of what runs and 42 of the other, net 12: what runs stays, as the best."""
    decision = decide(everywhere(8, WITHHELD), 8, incumbent=LIGHT)

    (effect,) = [e for e in decision.effects if e.metric is Metric.ENERGY]
    assert (decision.verdict, decision.keeps_best) == (Judgement.INCONCLUSIVE, True)
    assert effect.ratio == pytest.approx(42 / 30)
    assert energies(decision) == {"1 light": [30e3], "1 heavy": [42e3]}


def test_where_nothing_runs_the_lighter_one_wins_and_the_record_says_which_energy_decided():
    """One withheld net figure makes all of the race gross, with a reason; where all are there, they are net."""
    partly = decide(everywhere(2, WITHHELD), 2)
    wholly = decide(everywhere(2, {**WITHHELD, LIGHT: (30e3, 5e3)}), 2)

    assert (partly.winner, wholly.winner) == (LIGHT.manifest, LIGHT.manifest)
    assert energies(wholly) == {"1 light": [5e3], "1 heavy": [12e3]}
    assert [any("are gross of idle power" in r for r in d.reasons) for d in (partly, wholly)] == [True, False]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_withholding_one_net_figure_is_like_withholding_all(data, count):
    """Whatever the energies and whichever net ones are missing, figures and winner are those of gross energy alone."""
    who = [(variant, d) for variant in (LIGHT, HEAVY, THIRD) for d in devices(count)]
    told = {each: data.draw(spent) for each in who}
    hidden = data.draw(st.sets(st.sampled_from(who), min_size=1))

    partly, wholly = (
        decide(
            [measured(d, v, figures(gross, None if (v, d) in gone else net)) for (v, d), (gross, net) in told.items()],
            count,
            candidates=(LIGHT, HEAVY, THIRD),
        )
        for gone in (hidden, set(who))
    )

    assert partly.winner == wholly.winner
    assert energies(partly) == energies(wholly)
    assert [(c.label, c.excluded) for c in partly.candidates] == [(c.label, c.excluded) for c in wholly.candidates]


@settings(max_examples=60, deadline=None)
@given(spent, spent, st.booleans(), st.booleans())
def test_a_device_compares_its_two_energies_in_one_kind(new, old, hide_new, hide_old):
    """Net by net where both are told, otherwise gross by gross, and the comparison knows which."""
    sides = [
        (variant, {"d0": figures(gross, None if hidden else net)})
        for variant, (gross, net), hidden in ((HEAVY, new, hide_new), (LIGHT, old, hide_old))
    ]

    found = compare(Metric.ENERGY, *sides, {}, ["d0"])

    kind = 0 if hide_new or hide_old else 1
    assert found.effects["d0"] == pytest.approx(math.log(new[kind] / old[kind]))
    assert found.gross == ({"d0"} if kind == 0 else set())


def test_devices_that_compare_gross_beside_others_that_compare_net_are_counted():
    """One withheld net figure of what runs among eight devices: the record says that this one compares gross."""
    reports = everywhere(8, {LIGHT: (30e3, 5e3), HEAVY: (42e3, 12e3)})
    reports[3] = measured("d3", LIGHT, figures(30e3, None))

    decision = decide(reports, 8, incumbent=LIGHT)

    assert any(r.startswith("1 device(s) compare energy gross of idle power") for r in decision.reasons)


LIMITS = {
    GateName.ENERGY: {"budgets": Budgets(energy_mj=15), "objective": parse_objective("minimise latency")},
    GateName.CONSTRAINT: {"objective": parse_objective("minimise latency subject to energy <= 15 mJ")},
}


@pytest.mark.parametrize("name", list(LIMITS))
@pytest.mark.parametrize(
    ("gross", "net", "verdict"),
    [
        (30e3, None, GateVerdict.MISSING),
        (14e3, None, GateVerdict.PASS),
        (30e3, 16e3, GateVerdict.FAIL),
        (30e3, 12e3, GateVerdict.PASS),
    ],
)
def test_a_gross_energy_can_keep_a_limit_and_not_break_it(name, gross, net, verdict):
    """On one of eight devices: the net figure decides, and without one a gross figure above the limit shows nothing."""
    reports = everywhere(8, {LIGHT: (20e3, 10e3)})
    reports[3] = measured("d3", LIGHT, figures(gross, net))

    decision = decide(reports, 8, candidates=(LIGHT,), **LIMITS[name])

    (gate,) = [g for g in decision.candidates[0].gates if g.name is name]
    assert (gate.verdict, gate.devices) == (verdict, () if verdict is GateVerdict.PASS else ("d3",))
    assert ("no net figure could be told" in gate.detail) is (verdict is GateVerdict.MISSING)


@pytest.mark.parametrize("name", list(LIMITS))
@pytest.mark.parametrize(("net", "verdict"), [(None, Judgement.INCONCLUSIVE), (16e3, Judgement.ROLLBACK)])
def test_nothing_goes_back_because_a_net_figure_is_withheld(name, net, verdict):
    """What runs goes back to what ran before if its net energy breaks a limit, not if there is none."""
    reports = everywhere(8, {LIGHT: (30e3, net), HEAVY: (42e3, 12e3)})

    decision = decide(reports, 8, candidates=(LIGHT,), incumbent=LIGHT, previous=HEAVY, **LIMITS[name])

    assert decision.verdict is verdict
    assert decision.candidates[0].excluded is (ExclusionCode.GATE if net else ExclusionCode.MISSING)


@pytest.mark.parametrize(("gross", "net"), [(-3.0, 5.0), (5.0, -3.0), (1e300, 5.0)])
def test_both_energies_have_to_be_possible(gross, net):
    """A measurement with an impossible gross or net energy is not used, whichever of the two would decide."""
    decision = decide(everywhere(1, {LIGHT: (gross, net)}), 1, candidates=(LIGHT,))

    assert decision.winner is None
    assert "an energy of" in " ".join(decision.reasons)
