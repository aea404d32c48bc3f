"""What the sign e-process promises: it is the integral it says it is, exact, and blind to everything but counts."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad as integrate
from ville import BernoulliTest
from ville.evalues import combine

from edgepick_host.core.experiment.evidence import (
    Tally,
    above,
    anytime_p,
    below,
    e_value,
    is_rate,
    least_units,
    least_wins,
    reaches,
    share,
)
from edgepick_host.core.gates import Policy
from edgepick_wire.errors import MalformedError

COUNTS = st.integers(0, 120).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def payoff(p, wins, units):
    return (2 * p) ** wins * (2 - 2 * p) ** (units - wins)


@given(COUNTS)
def test_the_e_value_is_the_mixture_that_its_formula_defines(counts):
    """Three sixteenths on all probabilities alike, ten on 2/3, three on 1, each bet followed by itself."""
    wins, units = counts
    even, _ = integrate(lambda p: 2 * payoff(p, wins, units), 0.5, 1)

    bets = (3 * even + 10 * payoff(2 / 3, wins, units) + 3 * payoff(1, wins, units)) / 16

    assert float(e_value(Tally(wins=wins, units=units))) == pytest.approx(bets, rel=1e-6)


@given(COUNTS.filter(lambda counts: counts[1]))
def test_ville_agrees(counts):
    """The evidence for and against, added up, is what `ville`'s e-values for the same bets come to."""
    wins, units = counts
    seen = [1.0] * wins + [0.0] * (units - wins)
    priors = {(1, 1): 6, (2e8, 1e8): 10, (1e8, 2e8): 10, (1e9, 1e-9): 3, (1e-9, 1e9): 3}

    evidence = [BernoulliTest(0.5, prior=prior).update(seen).e_values_[-1] for prior in priors]

    both = e_value(Tally(wins=wins, units=units)) + e_value(Tally(wins=units - wins, units=units))
    assert float(both) == pytest.approx(2 * combine(evidence, weights=list(priors.values())), rel=1e-4)


@given(st.lists(st.booleans(), max_size=60))
def test_the_e_value_cannot_be_expected_to_grow_under_a_fair_coin(units):
    """After any history, the mean over a fair next unit is exactly the present value: a martingale at the border."""
    wins, n = sum(units), len(units)
    won, lost = (e_value(Tally(wins=wins + w, units=n + 1)) for w in (1, 0))

    assert (won + lost) / 2 == e_value(Tally(wins=wins, units=n))
    assert won > lost


def test_how_many_unanimous_units_suffice():
    """Seven units at 5 %, five at 10 %, nine at 1.25 % and eleven at 0.3 %: no more than with the even bet alone."""
    rates = {Fraction(1, 20): 7, Fraction(1, 10): 5, Fraction(1, 80): 9, Fraction(3, 1000): 11}

    assert {rate: least_units(rate) for rate in rates} == rates


@given(st.integers(0, 200), st.sampled_from([Fraction(1, 20), Fraction(1, 10), Fraction(1, 320)]))
def test_the_boundary_is_the_least_count_that_reaches(units, alpha):
    """One win fewer than the boundary is not enough, the boundary is, and without one not even all of them are."""
    wins = least_wins(units, alpha)

    if wins is None:
        assert not reaches(Tally(wins=units, units=units), alpha)
    else:
        assert reaches(Tally(wins=wins, units=units), alpha)
        assert not reaches(Tally(wins=wins - 1, units=units), alpha)


def test_ties_speak_for_neither_side():
    """An effect that equals the limit counts as a unit, and for nobody."""
    effects = [-0.1, 0.0, 0.0, 0.2]

    assert below(effects, 0.0) == Tally(wins=1, units=4)
    assert above(effects, 0.0) == Tally(wins=1, units=4)


def test_no_units_say_nothing():
    """Without a unit the e-value is 1 and the p-value 1."""
    assert e_value(Tally(wins=0, units=0)) == 1
    assert anytime_p(Tally(wins=0, units=0)) == 1


def test_ten_thousand_units_are_judged_exactly():
    """A fleet of ten thousand is no reason for floating point: half of them say nothing, 53 % say it all."""
    assert not reaches(Tally(wins=5_000, units=10_000), Fraction(1, 20))
    assert reaches(Tally(wins=5_300, units=10_000), Fraction(1, 320))


def test_more_wins_than_units_are_refused():
    """A tally that cannot be is refused where it is made."""
    with pytest.raises(MalformedError):
        Tally(wins=3, units=2)


def test_a_rate_is_what_a_person_means_by_it():
    """0.05 is one twentieth, not the nearest binary fraction."""
    assert share(0.05) == Fraction(1, 20)


@given(st.floats(1e-6, 0.999999))
def test_some_number_of_units_shows_enough_for_every_rate(alpha):
    """From one in a million on, what is a rate is reached, also as a share of it among many comparisons."""
    assert is_rate(alpha)
    assert 1 <= least_units(share(alpha) / 64) <= 40


@pytest.mark.parametrize("alpha", [0.0, 5e-324, 1e-7, 0.9999999, 1.0, -0.05, math.nan, math.inf])
def test_what_rounds_to_never_or_always_is_no_rate(alpha):
    """No number of units would reach the one, and none at all would reach the other; a policy takes neither."""
    assert not is_rate(alpha)
    for name in ("alpha", "alpha_harm"):
        with pytest.raises(MalformedError, match=rf"{name} lies between 0.0001 % \(0.000001\) and 99.9999 %"):
            Policy(**{name: alpha})
