"""How sure a loss is, and how early: intervals, and the bound that stops evaluation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.paired import disagreement_interval, drop_interval, least_loss, mcnemar_p

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
"""(the float model is right, the variant is right) of each sample."""


@given(answers, st.floats(0, 0.5), st.randoms(use_true_random=False))
def test_the_bound_never_stops_a_winner(pairs, limit, dice):
    """In any order, the bound never exceeds the final loss, never falls, and is exact at the end."""
    dice.shuffle(pairs)
    final = sum(f - v for f, v in pairs) / len(pairs)
    lost = gained = 0
    open_gains = sum(not f for f, _ in pairs)
    before = -1.0

    for ideal, found in pairs:
        open_gains -= not ideal
        lost, gained = lost + (ideal and not found), gained + (found and not ideal)
        bound = least_loss(lost, gained, open_gains, len(pairs))
        assert before <= bound <= final + 1e-12
        assert not (bound > limit >= final + 1e-12)
        before = bound

    assert before == pytest.approx(final)


@given(st.integers(1, 5000), st.data())
def test_intervals_hold_the_estimate_and_narrow_with_samples(samples, data):
    """An interval lies in -1..1 around the shrunken estimate; ten times the samples make it narrower."""
    lost = data.draw(st.integers(0, samples))
    gained = data.draw(st.integers(0, samples - lost))

    small, large = drop_interval(lost, gained, samples), drop_interval(10 * lost, 10 * gained, 10 * samples)

    assert -1.0 <= small.low <= (lost - gained) / (samples + 2) <= small.high <= 1.0
    assert large.high - large.low <= small.high - small.low + 1e-12


def test_the_formula_worked_out_by_hand():
    """21 pairs of which 1 and 7 differ: (2 - 8) / 23 plus and minus 1.96 sqrt((10/23 - (6/23)^2) / 23)."""
    found = drop_interval(1, 7, 21)

    half = 1.959964 * math.sqrt((10 / 23 - (6 / 23) ** 2) / 23)
    assert (found.low, found.high) == (pytest.approx(-6 / 23 - half), pytest.approx(-6 / 23 + half))


@pytest.mark.parametrize(("lost", "gained", "p"), [(0, 0, 1.0), (1, 7, 18 / 256), (5, 5, 1.0), (10, 0, 2 / 1024)])
def test_mcnemar_is_the_exact_binomial_test(lost, gained, p):
    """The p-value is twice the smaller binomial tail at one half, at most 1."""
    assert mcnemar_p(lost, gained) == pytest.approx(p)


@given(st.integers(1, 2000), st.data())
def test_wilson_holds_its_share(samples, data):
    """The interval of a share lies in 0..1 and holds the share."""
    differing = data.draw(st.integers(0, samples))

    found = disagreement_interval(differing, samples)

    assert 0.0 <= found.low <= differing / samples + 1e-12
    assert differing / samples - 1e-12 <= found.high <= 1.0
    assert math.isfinite(found.high)
