"""Schedules: how much is pruned when."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.compress.training.schedules import PolynomialDecay, polynomial_decay, rising_shares
from edgepick_host.errors import CompressionError


@st.composite
def decays(draw) -> PolynomialDecay:
    initial = draw(st.floats(0, 0.9))
    begin = draw(st.integers(0, 50))
    return PolynomialDecay(
        initial=initial,
        final=draw(st.floats(initial, 0.99)),
        begin=begin,
        end=begin + draw(st.integers(1, 200)),
        frequency=draw(st.integers(1, 40)),
    )


@pytest.mark.parametrize(("step", "expected"), [(9, 0.0), (10, 0.2), (35, 0.5375), (60, 0.725), (110, 0.8), (999, 0.8)])
def test_sparsity_is_the_published_formula(step, expected):
    """s_f + (s_i - s_f)(1 - t)^3, by hand: from 20 % to 80 % over 100 steps."""
    schedule = PolynomialDecay(initial=0.2, final=0.8, begin=10, end=110, frequency=5)

    found = schedule.at(step)

    hand = {35: 0.8 - 0.6 * 0.75**3, 60: 0.8 - 0.6 * 0.5**3}.get(step, expected)
    assert found == pytest.approx(hand)


@given(decays(), st.integers(0, 300))
def test_sparsity_never_falls_and_never_leaves_its_bounds(schedule, step):
    """Between its ends, every step asks for at least as much as the one before."""
    here, after = schedule.at(step), schedule.at(step + 1)

    assert here <= after + 1e-12
    assert after <= schedule.final + 1e-12
    assert step < schedule.begin or here >= schedule.initial - 1e-12


@given(decays())
def test_masks_are_made_at_both_ends(schedule):
    """The final sparsity is reached whatever the frequency."""
    assert schedule.updates(schedule.begin)
    assert schedule.updates(schedule.end)
    assert not schedule.updates(schedule.end + 1)
    assert schedule.at(schedule.end) == pytest.approx(schedule.final)


def test_masks_are_made_every_so_many_steps():
    """Frequency counts from the beginning; the end is added."""
    schedule = PolynomialDecay(initial=0, final=0.5, begin=3, end=12, frequency=4)

    assert [step for step in range(20) if schedule.updates(step)] == [3, 7, 11, 12]


@given(st.floats(0.01, 0.99), st.integers(1, 10))
def test_iterative_rounds_rise_to_the_final_share(final, rounds):
    """Every round prunes more than the one before, by the same share of what is left."""
    shares = rising_shares(final, rounds)

    kept = [1 - share for share in (0.0, *shares)]
    ratios = [b / a for a, b in itertools.pairwise(kept)]
    assert shares[-1] == final
    assert ratios == pytest.approx([ratios[0]] * rounds)


def test_defaults_leave_a_third_of_the_training_for_recovery():
    """Without begin and end, pruning takes the first two thirds."""
    schedule = polynomial_decay({}, 300)

    assert (schedule.begin, schedule.end, schedule.frequency, schedule.final) == (0, 200, 10, 0.8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"final": "1"},
        {"final": "much"},
        {"initial": "0.9"},
        {"begin": "-1"},
        {"begin": "50", "end": "50"},
        {"end": "101"},
        {"frequency": "0"},
    ],
)
def test_impossible_schedules_are_refused(wrong):
    """Each with an error, before any training."""
    with pytest.raises(CompressionError):
        polynomial_decay(wrong, 100)
