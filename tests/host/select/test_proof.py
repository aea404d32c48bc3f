"""What is claimed of a challenger: about devices like these, about these devices, or nothing, and never too often."""

import dataclasses
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.core.decision import ExclusionCode, Judgement
from edgepick_host.core.experiment.trial import Verdict
from edgepick_host.core.gates import GateName, GateVerdict, Policy
from edgepick_host.core.objective import DEFAULT_OBJECTIVE, parse_objective
from edgepick_host.core.proof import Scope
from edgepick_host.core.select import select
from edgepick_host.core.strata import Stratum
from edgepick_profiles.schema import Budgets
from edgepick_wire.metrics import Verdict as Quality
from edgepick_wire.pairing import Order, PairedRun, Quad, quad_order
from fleet.synthetic import measured, measurement, release

OLD, NEW, OTHER = release("old"), release("new", size=90_000), release("other", size=80_000)
KEY = "r-1"


def stratum(n):
    return Stratum(profile="pi", runs_on=("litert/xnnpack",), devices=tuple(f"d{i:02}" for i in range(n)))


def quads(device, ratio, n, *, key=KEY, against=OLD, noise=0.0, invalid=0):
    rng = random.Random(f"{device} {key}")

    def quad(index):
        order = quad_order(key, device, index)
        new = 1e6 * ratio * (1 + rng.uniform(-noise, noise))
        blocks = (1e6, new, new, 1e6) if order is Order.ABBA else (new, 1e6, 1e6, new)
        return Quad(index=index, order=order, latency_ns=blocks, invalid="throttled" if index < invalid else None)

    return PairedRun(
        against=against.manifest, key=key, block_runs=20, dropped_runs=3, quads=tuple(quad(i) for i in range(n))
    )


def pair(device, release_, ratio, n=12, *, number=1, quality=Quality.VALID, **options):
    figures = dataclasses.replace(measurement(10.0 * ratio, verdict=quality), paired=quads(device, ratio, n, **options))
    return measured(device, release_, figures, number=number)


def decide(reports, size, *, candidates=(OLD, NEW), incumbent=OLD, objective=DEFAULT_OBJECTIVE, policy=None, **options):
    return select(
        stratum=stratum(size),
        candidates=candidates,
        reports=reports,
        budgets=Budgets(),
        objective=objective,
        incumbent=incumbent,
        policy=policy or Policy(),
        **options,
    )


def old(n):
    return [measured(d, OLD, measurement(10.0)) for d in stratum(n).devices]


def new(size, ratio=0.9, **options):
    return [pair(d, NEW, ratio, **options) for d in stratum(size).devices]


def proof(decision):
    return next(p for p in decision.proofs if p.candidate == NEW.manifest)


def test_one_device_proves_a_gain_for_itself_in_seven_quads():
    """Six unanimous quads on one device are too few and seven are enough; the claim names these devices only."""
    six, seven = decide([*old(1), *new(1, n=6)], 1), decide([*old(1), *new(1, n=7)], 1)

    assert six.verdict is Judgement.INCONCLUSIVE
    assert "6 of 6 quads" in " ".join(six.reasons)
    assert seven.verdict is Judgement.PROMOTE
    assert proof(seven).scope is Scope.DEVICES
    assert "on these devices; others were not asked" in seven.reasons[0]


def test_every_device_of_a_small_stratum_has_to_prove_it():
    """Three devices of which one shows no gain keep what they run, whatever the other two show."""
    mixed = [*new(2), pair("d02", NEW, 1.0)]

    decision = decide([*old(3), *mixed], 3)

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert proof(decision).wins == 0


def test_a_small_stratum_without_quads_is_told_what_it_lacks():
    """Three devices with one figure each cannot prove anything, and the reason says what would."""
    alone = [measured(d, NEW, measurement(9.0)) for d in stratum(3).devices]

    decision = decide([*old(3), *alone], 3)

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert "too few for a claim about devices like these" in decision.reasons[0]
    assert "at least 7 quads" in decision.reasons[0]


def test_in_a_large_stratum_a_device_is_one_unit_however_much_it_sends():
    """Twenty devices with 40 quads each are twenty units; one that sends 400 is still one."""
    few = decide([*old(20), *new(20, n=12)], 20)
    many = decide([*old(20), *new(19, n=12), pair("d19", NEW, 0.9, n=400)], 20)

    assert proof(few).scope is Scope.FLEET
    assert (proof(few).units, proof(many).units) == (20, 20)
    assert few.verdict is many.verdict is Judgement.PROMOTE


def test_a_size_needs_no_proof():
    """One device is enough to promote the smaller file: it is as small wherever it runs, and slower is no matter."""
    decision = decide([*old(1), *new(1, ratio=1.2)], 1, objective=parse_objective("minimise size"))

    assert decision.verdict is Judgement.PROMOTE
    assert proof(decision).scope is Scope.FACT


def test_a_slower_variant_is_rejected_by_the_harm_monitor():
    """Ten devices that all lose more than a new version may cost reject it, with the number of losses."""
    version = release("next", version="2")
    reports = [pair(d, version, 1.5) for d in stratum(10).devices]

    decision = decide([*old(10), *reports], 10, candidates=(version,))

    assert decision.proofs[0].verdict is Verdict.REJECT
    assert decision.proofs[0].losses == 10
    assert decision.verdict is Judgement.INCONCLUSIVE


def test_a_new_version_on_few_devices_is_promoted_by_observation_and_says_so():
    """A new version is wanted for itself: on two devices it goes out, and the reason says that nothing is proven."""
    version = release("next", version="2")
    reports = [measured(d, version, measurement(10.5)) for d in stratum(2).devices]

    decision = decide([*old(2), *reports], 2, candidates=(version,))

    assert decision.verdict is Judgement.PROMOTE
    assert "observed but not proven" in decision.reasons[0]


def test_if_the_best_is_not_proven_the_next_that_is_wins():
    """The fastest gains only on average; the second gains on every device: the second is promoted."""
    noisy = [pair(d, NEW, 0.2 if i % 2 else 1.1) for i, d in enumerate(stratum(11).devices)]
    steady = [pair(d, OTHER, 0.8, against=OLD) for d in stratum(11).devices]
    noisy[0] = pair("d00", NEW, 0.2)

    decision = decide([*old(11), *noisy, *steady], 11, candidates=(OLD, NEW, OTHER))

    assert decision.winner == OTHER.manifest
    loser = next(c for c in decision.candidates if c.manifest == NEW.manifest)
    assert loser.excluded is ExclusionCode.NO_GAIN


def test_more_comparisons_need_more_evidence():
    """Twelve devices of thirteen promote alone, not as one of sixteen comparisons, and do if Holm leaves them more."""
    reports = [*old(13), *new(12), pair("d12", NEW, 1.0)]

    assert decide(reports, 13).verdict is Judgement.PROMOTE
    assert decide(reports, 13, family=16).verdict is Judgement.INCONCLUSIVE
    rates = {NEW.manifest: Fraction(1, 20)}
    assert decide(reports, 13, family=16, rates=rates).verdict is Judgement.PROMOTE


def test_throttled_quads_are_dropped_and_counted():
    """Quads that the device marked are not used, and the proof says how many and why."""
    decision = decide([*old(1), *new(1, n=12, invalid=4)], 1)

    assert proof(decision).dropped == {"throttled": 4}
    assert proof(decision).units == 8


def test_energy_is_decided_by_the_energy_of_quads():
    """On one device, seven quads in which the slower candidate takes less energy promote it where energy is asked."""
    slower = [_with_energy(report, 0.8) for report in new(1, ratio=1.1, n=7)]
    energy = [_energy_alone(old(1)[0], 5e3), *(_energy_alone(report, 4.9e3) for report in slower)]

    by_energy = decide(energy, 1, objective=parse_objective("minimise energy"))

    assert by_energy.verdict is Judgement.PROMOTE
    assert (proof(by_energy).paired, proof(by_energy).units, proof(by_energy).scope) == (True, 7, Scope.DEVICES)
    assert decide(energy, 1).verdict is Judgement.INCONCLUSIVE


def test_quads_without_energy_are_counted_and_prove_nothing_about_it():
    """Two quads whose energy is missing are named as not measured, and the five others are too few."""
    partly = [_with_energy(report, 0.8, missing=2) for report in new(1, n=7)]

    decision = decide(
        [_energy_alone(r, 5e3) for r in (*old(1), *partly)], 1, objective=parse_objective("minimise energy")
    )

    assert decision.verdict is Judgement.INCONCLUSIVE
    assert (proof(decision).units, proof(decision).dropped) == (5, {"not measured": 2})


def _with_energy(report, ratio, missing=0):
    """Return the report with 5 mJ for what runs in each quad, and ``ratio`` of it for the candidate."""

    def told(quad):
        inner, outer = (5e3 * ratio, 5e3) if quad.order is Order.ABBA else (5e3, 5e3 * ratio)
        return quad if quad.index < missing else dataclasses.replace(quad, energy_uj=(outer, inner, inner, outer))

    found = report.measurement.measurement
    paired = dataclasses.replace(found.paired, quads=tuple(told(q) for q in found.paired.quads))
    return _changed(report, paired=paired)


def _energy_alone(report, microjoules):
    """Return the report with the energy that the variant took by itself."""
    return _changed(report, energy=measurement(energy_uj=microjoules).energy)


def _changed(report, **fields):
    figures = dataclasses.replace(report.measurement.measurement, **fields)
    return dataclasses.replace(report, measurement=dataclasses.replace(report.measurement, measurement=figures))


def test_nothing_is_proven_by_an_invalid_measurement():
    """Quads inside a measurement that may not be used count for nothing."""
    valid, invalid = new(1, number=2)[0], new(1, quality=Quality.INVALID, key="r-2")[0]

    assert proof(decide([*old(1), valid, invalid], 1)).units == 12


def test_the_same_coins_cannot_be_thrown_twice():
    """A device that measures again under the same key adds no quads; under another key it does."""
    again, other = new(1, number=2)[0], new(1, number=2, key="r-2")[0]

    assert proof(decide([*old(1), *new(1), again], 1)).units == 12
    assert proof(decide([*old(1), *new(1), other], 1)).units == 24


def test_measuring_again_does_not_change_what_a_device_said_first():
    """In a large stratum a device speaks by its first run: a second one, however good, changes no verdict."""
    same = [pair(d, NEW, 1.0) for d in stratum(10).devices]
    better = [pair(d, NEW, 0.5, number=2, key="r-2") for d in stratum(10).devices]

    assert decide([*old(10), *same, *better], 10).verdict is Judgement.INCONCLUSIVE


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_and_repetition_change_nothing(order, copies):
    """Any permutation of the reports, each sent several times, gives an equal decision, to the digest."""
    reports = [*old(9), *new(9, noise=0.3), *[pair(d, NEW, 0.9, number=2, key="r-2") for d in stratum(9).devices[:4]]]
    sent = reports * copies
    order.shuffle(sent)

    assert decide(sent, 9) == decide(reports, 9)


@pytest.mark.parametrize(
    ("text", "figures", "verdict"),
    [
        ("p95 <= 20 ms", {"p95_ms": 12.0}, GateVerdict.PASS),
        ("p95 <= 11 ms", {"p95_ms": 12.0}, GateVerdict.FAIL),
        ("p95 <= 20 ms", {"p95_ms": None}, GateVerdict.MISSING),
        ("energy <= 5 mJ", {}, GateVerdict.MISSING),
        ("energy <= 5 mJ", {"energy_uj": 4000.0}, GateVerdict.PASS),
        ("size <= 50 kB", {}, GateVerdict.FAIL),
        ("memory <= 1 MiB", {}, GateVerdict.FAIL),
    ],
)
def test_an_operators_limit_is_kept_broken_or_not_known(text, figures, verdict):
    """Each limit passes by its bound, fails by the figure, and is missing if nobody measured it, which is no pass."""
    reports = [measured("d00", NEW, measurement(10.0, **figures))]
    objective = parse_objective(f"minimise latency subject to {text}")

    decision = decide(reports, 1, candidates=(NEW,), incumbent=None, objective=objective)

    gate = next(g for g in decision.candidates[0].gates if g.name is GateName.CONSTRAINT)
    assert gate.verdict is verdict
    assert (decision.verdict is Judgement.PROMOTE) is (verdict is GateVerdict.PASS)


@pytest.mark.parametrize(
    ("samples", "verdict"), [(10_000, GateVerdict.PASS), (100, GateVerdict.MISSING), (None, GateVerdict.MISSING)]
)
def test_accuracy_has_to_be_shown_on_enough_samples(samples, verdict):
    """98 % right shows 97 % on ten thousand samples, not on a hundred, and not on an unknown number."""
    variant = dataclasses.replace(release("new", accuracy=0.98), samples=samples)
    objective = parse_objective("minimise latency subject to accuracy >= 0.97")

    decision = decide(
        [measured("d00", variant, measurement())], 1, candidates=(variant,), incumbent=None, objective=objective
    )

    assert next(g for g in decision.candidates[0].gates if g.name is GateName.CONSTRAINT).verdict is verdict


def test_a_fleet_of_one_variant_against_itself_is_promoted_no_more_often_than_promised():
    """Through the whole selection, 300 A/A experiments of 20 noisy devices: at most 5 % and three standard errors."""
    rng = random.Random(5)
    promoted = 0
    for _ in range(300):
        reports = old(20)
        reports += [measured(d, NEW, measurement(10.0 * rng.lognormvariate(0, 0.05))) for d in stratum(20).devices]
        promoted += decide(reports, 20).verdict is Judgement.PROMOTE

    assert promoted / 300 <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5


@pytest.mark.parametrize(
    "lie",
    [{"p50_ms": -1.0}, {"p95_ms": -1.0}, {"rss": -5}, {"arena": 0}, {"energy_uj": -3.0}, {"energy_uj": 0.0}],
    ids=lambda lie: "{}={}".format(*next(iter(lie.items()))),
)
def test_a_device_that_lies_is_not_believed_and_moves_nobody_else(lie):
    """An impossible figure makes that device's measurement unusable, by name; the others decide as without it."""
    honest = [*old(8), *new(8)]
    liar = [measured("d08", NEW, measurement(**{"p50_ms": 10.0, **lie})), measured("d08", OLD, measurement())]

    with_liar, without = decide([*honest, *liar], 9), decide(honest, 9)

    assert with_liar.verdict is without.verdict is Judgement.PROMOTE
    assert proof(with_liar).units == proof(without).units == 8
    gate = next(g for g in with_liar.candidates[0].gates if g.name is GateName.MEASURED)
    assert "d08: it reports" in gate.detail


@pytest.mark.parametrize(
    ("high_ms", "verdict"), [(19.0, GateVerdict.PASS), (21.0, GateVerdict.MISSING), (None, GateVerdict.PASS)]
)
def test_a_tail_is_judged_by_the_devices_own_bound(high_ms, verdict):
    """A p95 of 12 ms passes 20 ms if its bound does; without one the slowest run counts, as with older agents."""
    figures = measurement(10.0)
    bound = None if high_ms is None else int(high_ms * 1e6)
    figures = dataclasses.replace(figures, latency=dataclasses.replace(figures.latency, p95_high_ns=bound))
    objective = parse_objective("minimise latency subject to p95 <= 20 ms")

    decision = decide([measured("d00", NEW, figures)], 1, candidates=(NEW,), incumbent=None, objective=objective)

    assert next(g for g in decision.candidates[0].gates if g.name is GateName.CONSTRAINT).verdict is verdict
