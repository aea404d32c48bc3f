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
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


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
