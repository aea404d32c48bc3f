"""The proof of the selection, short: every limit is kept, and a defect in what is proved would show."""

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

RUNS = 500


@pytest.fixture(scope="module")
def proof():
    """Provide the benchmark as a module."""
    path = Path(__file__).parents[3] / "benchmarks" / "prove_selection.py"
    spec = importlib.util.spec_from_file_location("prove_selection", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(path.parent))
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def arms(proof):
    """Provide the cases about a comparison between devices as a module."""
    return sys.modules["arms_proof"]


def test_every_limit_is_kept(proof):
    """Each case of the proof, with fewer runs and the same limits, comes out as promised."""
    rows = proof.prove(RUNS)

    assert [row.case for row in rows if not row.kept] == []
    assert len(rows) >= 30


def test_a_looser_boundary_would_be_noticed(proof, monkeypatch):
    """With a boundary as for 30 %, false promotions exceed their limit."""
    strict = proof.boundary
    monkeypatch.setattr(proof, "boundary", lambda units, _alpha: strict(units, Fraction(3, 10)))
    monkeypatch.setattr(proof, "check_product", lambda *_: None)

    rows = list(proof.same_variant(np.random.default_rng(1), RUNS))

    assert [row.kept for row in rows if "promoted" in row.case] == [False] * 4


def test_a_simulation_that_is_not_the_product_would_be_noticed(proof):
    """A stop that the product does not make at that look is an error, not a figure."""
    effects = proof.heavy(np.random.default_rng(2), (proof.CHECKED_RUNS, 30)) - 0.1
    stops = proof.promoted(effects)

    proof.check_product(effects, stops, proof.Rules(alpha=proof.ALPHA))
    with pytest.raises(AssertionError, match="the product promotes after"):
        proof.check_product(effects, stops + 1, proof.Rules(alpha=proof.ALPHA))


def test_without_the_coin_the_proof_fails_visibly(proof, monkeypatch):
    """Where every quad runs in one order, one variant against itself is promoted nearly always."""
    monkeypatch.setattr(proof, "coins", lambda runs, quads: np.ones((runs, quads), bool))

    rows = list(proof.one_device(np.random.default_rng(3), RUNS))

    assert not rows[0].kept
    assert rows[0].measured > 90


def test_both_error_rates_between_devices_are_what_an_exact_calculation_says(arms):
    """Simulated with the product, and counted without it, both within three standard errors of each other."""
    alike, limit = arms.Arms(pairs=60, candidate=0.004, incumbent=0.004), arms.excess_of(0.05, pairs=100, base=0.002)

    stopped = arms.alarmed(np.random.default_rng(4), alike, RUNS, checked=0)
    went_on = arms.let_on(np.random.default_rng(5), limit, RUNS)

    for measured, exact in ((stopped, arms.alarmed_exactly(alike)), (went_on, arms.let_on_exactly(limit))):
        assert abs(measured - exact) <= 3 * np.sqrt(exact * (100 - exact) / RUNS)
    assert 0 < arms.let_on_exactly(limit) < 5


def test_silence_that_does_not_count_would_be_noticed(arms, monkeypatch):
    """If the product took silent devices for healthy ones, a candidate that silences 5 % of them would go on."""
    judged = arms._goes_on
    monkeypatch.setattr(arms, "_goes_on", lambda pairs, a, b, _silent: judged(pairs, a, b, 0))

    rows = list(arms.between_devices(np.random.default_rng(6), RUNS))

    assert [row.case for row in rows if not row.kept] == ["5 % of the candidate's devices are silent for good: goes on"]


def test_a_simulation_of_arms_that_is_not_the_product_would_be_noticed(arms, monkeypatch):
    """With a boundary of its own, the simulation stops where the product does not, which is an error."""
    strict = arms._boundary
    monkeypatch.setattr(arms, "_boundary", lambda units: strict(units) - 3)

    with pytest.raises(AssertionError, match="the product says False"):
        list(arms.between_devices(np.random.default_rng(7), RUNS))
