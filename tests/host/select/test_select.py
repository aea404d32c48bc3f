"""What the selection promises: nothing on missing data, hard limits first, then the objective, then the gain."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core import select as core
from edgepick_host.core.decision import ExclusionCode, Judgement, first_break, parse_record, record, sentence
from edgepick_host.core.gates import GateName, GateVerdict, Policy
from edgepick_host.core.objective import DEFAULT_OBJECTIVE, parse_objective
from edgepick_host.core.strata import Stratum
from edgepick_profiles.schema import Budgets
from edgepick_wire.messages import RefusalCode
from edgepick_wire.metrics import Verdict
from fleet.synthetic import MIB, fell_back, measured, measurement, refusal, release

A = release("a", size=100_000)
B = release("b", size=50_000, rank=1)
OLD = release("old", version="0")
PI = Stratum(profile="pi", runs_on=("litert/xnnpack",), stand_in=True, devices=("d1", "d2"))
ANY = DEFAULT_OBJECTIVE
BUDGETS = Budgets(latency_p95_ms=20.0, peak_rss_bytes=100 * MIB, model_bytes=200_000)


def select(reports, *, candidates=(A, B), stratum=PI, budgets=BUDGETS, objective=DEFAULT_OBJECTIVE, **options):
    policy = options.pop("policy", Policy())
    return core.select(
        stratum=stratum,
        candidates=candidates,
        reports=reports,
        budgets=budgets,
        objective=objective,
        incumbent=options.pop("incumbent", None),
        policy=policy,
        **options,
    )


def both(release_, result=None, **figures):
    return [measured(d, release_, result or measurement(**figures)) for d in PI.devices]


def gate(decision, name, manifest=A.manifest):
    found = next(c for c in decision.candidates if c.manifest == manifest)
    return next(g for g in found.gates if g.name is name)


def test_the_fastest_variant_that_keeps_every_limit_wins():
    """With everything measured and nothing running, the default objective promotes the fastest."""
    decision = select([*both(A, p50_ms=10), *both(B, p50_ms=5)])

    assert decision.verdict is Judgement.PROMOTE
    assert decision.winner == B.manifest
    assert "stand in" in " ".join(decision.reasons)


@pytest.mark.parametrize("name", list(GateName))
def test_every_gate_fails_or_misses_on_bad_or_absent_data(name):
    """Each gate has figures that it refuses; a candidate that any gate refuses is never promoted."""
    bad = {
        GateName.RUNS: both(A, refusal(RefusalCode.NO_RUNTIME)),
        GateName.MEASURED: [],
        GateName.GOLDEN: both(A, golden=False),
        GateName.ACCURACY: both(A),
        GateName.LATENCY_P95: both(A, p95_ms=21.0),
        GateName.PEAK_RSS: both(A, rss=101 * MIB),
        GateName.ARENA: both(A, arena=2000),
        GateName.MODEL_SIZE: both(A),
        GateName.ENERGY: both(A, energy_uj=5000.0),
        GateName.CONSTRAINT: both(A, p95_ms=11.0),
    }[name]
    budgets = {
        GateName.ARENA: Budgets(arena_bytes=1000),
        GateName.MODEL_SIZE: Budgets(model_bytes=99_999),
        GateName.ENERGY: Budgets(energy_mj=4.0),
    }.get(name, BUDGETS)
    candidate = release("a", drop=0.02) if name is GateName.ACCURACY else A
    objective = parse_objective("minimise latency subject to p95 <= 10 ms") if name is GateName.CONSTRAINT else ANY

    decision = select(bad, candidates=(candidate,), budgets=budgets, objective=objective)

    assert gate(decision, name).verdict is not GateVerdict.PASS
    assert decision.verdict is Judgement.INCONCLUSIVE
    assert decision.winner is None


@pytest.mark.parametrize(
    ("figures", "budgets", "name"),
    [
        ({"p95_ms": None}, BUDGETS, GateName.LATENCY_P95),
        ({"rss": None}, BUDGETS, GateName.PEAK_RSS),
        ({}, Budgets(arena_bytes=1000), GateName.ARENA),
        ({"golden": None}, BUDGETS, GateName.GOLDEN),
    ],
)
def test_a_figure_that_is_not_known_is_missing_and_never_a_pass(figures, budgets, name):
    """An unmeasured figure with a limit makes the verdict inconclusive and names the devices."""
    decision = select(both(A, **figures), candidates=(A,), budgets=budgets)

    assert gate(decision, name).verdict is GateVerdict.MISSING
    assert gate(decision, name).devices == PI.devices
    assert decision.verdict is Judgement.INCONCLUSIVE
    assert "d1" in " ".join(decision.reasons)


def test_one_bad_device_is_enough_to_fail():
    """A gate judges the worst device of the stratum, not the average."""
    decision = select([measured("d1", A, measurement(p95_ms=1.0)), measured("d2", A, measurement(p95_ms=21.0))])

    assert gate(decision, GateName.LATENCY_P95).verdict is GateVerdict.FAIL
    assert gate(decision, GateName.LATENCY_P95).devices == ("d2",)


def test_too_few_devices_are_missing_data():
    """With fewer measured devices than required, the silent one is named and nothing is promoted."""
    decision = select([measured("d1", A, measurement())], candidates=(A,), policy=Policy(min_devices=2))

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert "no measurement from d2" in " ".join(decision.reasons)


def test_an_invalid_measurement_does_not_count():
    """A throttled run is no measurement; a later valid one of the same device replaces it."""
    invalid = [measured(d, A, measurement(verdict=Verdict.INVALID)) for d in PI.devices]
    later = [measured(d, A, measurement(), number=2) for d in PI.devices]

    alone, replaced = select(invalid, candidates=(A,)), select([*later, *invalid], candidates=(A,))

    assert alone.verdict is Judgement.INCONCLUSIVE
    assert "throttled" in " ".join(alone.reasons)
    assert replaced.verdict is Judgement.PROMOTE


def test_without_labels_the_share_of_changed_answers_bounds_the_accuracy_drop():
    """An unlabelled variant passes only if its answers on the device changed less than the tolerance."""
    unlabelled = release("a", accuracy=None, drop=None)

    same = select(both(unlabelled, agreement=1.0), candidates=(unlabelled,))
    other = select(both(unlabelled, agreement=0.9), candidates=(unlabelled,))

    assert same.verdict is Judgement.PROMOTE
    assert gate(other, GateName.ACCURACY).verdict is GateVerdict.FAIL


def test_energy_is_only_a_gate_where_it_was_measured():
    """A budgeted energy that no device can measure is noted in the record and blocks nothing."""
    decision = select(both(A), candidates=(A,), budgets=Budgets(energy_mj=1.0))

    assert decision.verdict is Judgement.PROMOTE
    assert "energy budget was not checked" in " ".join(decision.reasons)


def test_an_objective_that_nobody_measured_is_inconclusive():
    """Minimising energy without a sensor promotes nobody and says so."""
    decision = select(both(A), objective=parse_objective("minimise energy"), candidates=(A,))

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert "nobody measured its energy" in " ".join(decision.reasons)


def test_a_dominated_variant_loses_to_its_rival():
    """A variant that is worse in everything is excluded as dominated, before the objective is asked."""
    decision = select([*both(A, p50_ms=10), *both(B, p50_ms=5)])

    loser = next(c for c in decision.candidates if c.manifest == A.manifest)
    assert loser.excluded is ExclusionCode.DOMINATED
    assert "1 b" in loser.reason


def test_within_the_tie_memory_decides():
    """Two variants within 3 % of latency: the one that needs less memory wins, although it is slower."""
    decision = select([*both(A, p50_ms=10.2, rss=30 * MIB), *both(B, p50_ms=10.0, rss=60 * MIB)])

    assert decision.winner == A.manifest


def test_variants_that_no_device_measured_together_are_not_compared():
    """One variant on one device and the other on another device: nothing can be said."""
    decision = select([measured("d1", A, measurement(5.0)), measured("d2", B, measurement(10.0))])

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert "every variant in the race" in " ".join(decision.reasons)


def test_a_variant_of_the_same_version_needs_the_gain():
    """Below the minimum gain over the incumbent seven devices keep what they run; above it they change."""
    seven = Stratum(profile="pi", runs_on=("litert/xnnpack",), stand_in=True, devices=tuple(f"d{n}" for n in range(7)))
    reports = [measured(d, r, measurement(p)) for d in seven.devices for r, p in ((A, 10.0), (B, 9.0))]

    small = select(reports, stratum=seven, incumbent=A, policy=Policy(min_gain=0.2))
    enough = select(reports, stratum=seven, incumbent=A, policy=Policy(min_gain=0.05))

    assert small.verdict is Judgement.INCONCLUSIVE
    assert next(c for c in small.candidates if c.manifest == B.manifest).excluded is ExclusionCode.NO_GAIN
    assert enough.verdict is Judgement.PROMOTE
    assert next(e for e in enough.effects if e.metric == "latency").ratio == pytest.approx(0.9)


def test_a_gain_is_paired_by_device():
    """A fast board that measured only one variant does not tilt the comparison on the slow board."""
    reports = [
        measured("d1", OLD, measurement(10.0)),
        measured("d1", A, measurement(11.0)),
        measured("d2", A, measurement(1.0)),
    ]

    decision = select(reports, candidates=(A,), incumbent=OLD, policy=Policy(max_regression=0.05))

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert next(e for e in decision.effects if e.metric == "latency").devices == 1


def test_a_new_version_is_promoted_unless_it_costs_too_much():
    """A newer version that is a little slower replaces the older; one that is much slower does not."""
    slightly = select([*both(OLD, p50_ms=10), *both(A, p50_ms=11)], candidates=(A,), incumbent=OLD)
    much = select([*both(OLD, p50_ms=10), *both(A, p50_ms=15)], candidates=(A,), incumbent=OLD)

    assert slightly.verdict is Judgement.PROMOTE
    assert much.verdict is Judgement.INCONCLUSIVE


def test_an_incumbent_that_nobody_measured_is_not_replaced_by_guess():
    """Without figures of what runs there is no gain to speak of, and the verdict says what is missing."""
    decision = select(both(A), candidates=(A,), incumbent=OLD)

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert "cannot be compared with 0 old" in decision.reasons[0]


def test_the_best_that_runs_already_is_kept():
    """When the incumbent is the best, the verdict is to keep it, and the record says that it is best."""
    decision = select([*both(A, p50_ms=5), *both(B, p50_ms=10)], incumbent=A)

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert decision.keeps_best


def test_an_incumbent_that_breaks_a_limit_goes_back_to_what_ran_before():
    """With no candidate left, a failing incumbent is rolled back to a previous release that keeps the limits."""
    reports = [*both(A, golden=False), *both(OLD)]

    decision = select(reports, candidates=(A,), incumbent=A, previous=OLD)

    assert decision.verdict is Judgement.ROLLBACK
    assert decision.winner == OLD.manifest


def test_an_incumbent_that_breaks_a_limit_is_replaced_without_asking_for_a_gain():
    """A candidate that keeps every limit replaces an incumbent that does not, even if it is slower."""
    reports = [*both(A, p50_ms=5, golden=False), *both(B, p50_ms=15)]

    decision = select(reports, incumbent=A, policy=Policy(min_gain=0.5))

    assert decision.verdict is Judgement.PROMOTE
    assert decision.winner == B.manifest


@given(
    latencies=st.lists(st.floats(0.1, 30.0), min_size=4, max_size=4),
    order=st.randoms(use_true_random=False),
    copies=st.integers(1, 3),
)
def test_order_and_repetition_of_reports_change_nothing(latencies, order, copies):
    """Permuting and duplicating reports, and reports of strangers, leave the decision identical to the digest."""
    a1, a2, b1, b2 = latencies
    reports = [
        measured("d1", A, measurement(a1)),
        measured("d2", A, measurement(a2)),
        measured("d1", B, measurement(b1)),
        measured("d2", B, measurement(b2), number=2),
        measured("d2", B, measurement(29.0), number=1),
        measured("d1", OLD, measurement(15.0)),
    ]
    shuffled = [*reports * copies, measured("stranger", A, measurement(0.01)), fell_back("d1", A.manifest)]
    order.shuffle(shuffled)

    assert select(shuffled, incumbent=OLD) == select(reports, incumbent=OLD)


@given(st.sets(st.sampled_from(["d1-a", "d2-a", "d1-b", "d2-b"])), st.sampled_from([1, 2]))
def test_whatever_is_missing_the_winner_was_measured_on_enough_devices(present, enough):
    """For every subset of the evidence, a promoted variant has a measurement from the devices required."""
    releases = {"a": A, "b": B}
    reports = [measured(p[:2], releases[p[-1]], measurement()) for p in sorted(present)]

    decision = select(reports, policy=Policy(min_devices=enough))

    if decision.winner is not None:
        name = next(n for n, r in releases.items() if r.manifest == decision.winner)
        assert sum(p.endswith(name) for p in present) >= enough
    if not present:
        assert decision.verdict is Judgement.INCONCLUSIVE


def test_the_digest_follows_the_inputs():
    """A changed budget or figure changes the digest of the inputs, so a record cannot claim other inputs."""
    first = select(both(A), candidates=(A,))

    assert first.inputs != select(both(A, p50_ms=9.9), candidates=(A,)).inputs
    assert first.inputs != select(both(A), candidates=(A,), budgets=Budgets()).inputs


def test_a_record_survives_the_store_and_names_the_one_before():
    """A record decodes to what was encoded, and any change of an earlier record breaks the chain."""
    decision = select(both(A), candidates=(A,))
    first = record(decision, rollout="r", decided_at=1.0, previous=None)
    second = record(decision, rollout="r", decided_at=2.0, previous=first)

    assert parse_record(second).decision == decision
    assert first_break([first, second]) is None
    assert first_break([first.replace(b'"r"', b'"s"'), second]) == 1
    assert "promote, run 1 a" in sentence(decision)


def test_random_fleets_never_promote_what_breaks_a_limit():
    """Over a thousand random fleets, the winner keeps the latency budget on every device that measured it."""
    rng = random.Random(7)
    for _ in range(1000):
        reports = [
            measured(d, r, measurement(p95, p95_ms=p95))
            for r in (A, B)
            for d in PI.devices
            if rng.random() < 0.8 and (p95 := rng.uniform(1, 40))
        ]
        decision = select(reports)
        if decision.winner:
            mine = [r.measurement.measurement for r in reports if r.measurement.manifest == decision.winner]
            assert all(m.latency.p95_ns <= 20e6 for m in mine)
