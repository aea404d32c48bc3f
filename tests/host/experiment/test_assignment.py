"""What a between-device experiment promises: sticky arms, an alarm if they are not even, silence counted as failure."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from edgepick_host.core.experiment.assignment import (
    Arm,
    Standing,
    assign,
    covered,
    harm_pairs,
    rate_detectable,
    ratio_alarm,
    ratio_p,
)
from edgepick_host.core.experiment.evidence import reaches

DEVICES = [f"d{n}" for n in range(400)]


def test_more_coverage_only_adds_devices():
    """Going from 10 % to 30 % keeps every device that took part."""
    some, more = set(covered("s", DEVICES, 0.1)), set(covered("s", DEVICES, 0.3))

    assert some < more
    assert 80 < len(more) < 160


@given(st.sets(st.sampled_from(DEVICES), max_size=120), st.sets(st.sampled_from(DEVICES), max_size=120))
def test_what_a_device_was_given_stands(first, second):
    """Devices that join or leave change nobody's arm, whatever the size of the stratum."""
    before = assign("s", sorted(first), {})

    after = assign("s", sorted(first | second), before)

    assert {d: after[d] for d in first} == before
    assert set(after) == first | second


@given(st.sets(st.sampled_from(DEVICES), max_size=49))
def test_a_small_stratum_is_split_evenly(devices):
    """Below fifty devices the two arms differ by at most one."""
    arms = list(assign("s", sorted(devices), {}).values())

    assert abs(arms.count(Arm.CANDIDATE) - arms.count(Arm.INCUMBENT)) <= 1


def test_a_large_stratum_is_split_by_lot():
    """Four hundred devices fall into two arms that the ratio check accepts, differently for another seed."""
    arms = assign("s", DEVICES, {})
    candidates = sum(a is Arm.CANDIDATE for a in arms.values())

    assert not ratio_alarm(candidates, len(DEVICES))
    assert arms != assign("t", DEVICES, {})


@given(st.integers(0, 80), st.integers(0, 80))
def test_the_ratio_check_is_the_exact_binomial_test(candidates, incumbents):
    """Its p-value is scipy's."""
    units = candidates + incumbents
    exact = binomtest(candidates, units).pvalue if units else 1.0

    assert ratio_p(candidates, units) == pytest.approx(exact, abs=1e-9)


def test_arms_that_cannot_be_the_ones_planned_raise_the_alarm():
    """60 to 40 of a hundred is chance; 320 to 180 of five hundred is not."""
    assert not ratio_alarm(60, 100)
    assert ratio_alarm(320, 500)


def standings(crashing):
    arms = assign("s", DEVICES, {})
    return [Standing(device=d, arm=a, failed=a is Arm.CANDIDATE and d in crashing) for d, a in arms.items()]


def test_a_candidate_that_crashes_is_found_and_one_that_does_not_is_left_alone():
    """A tenth of the candidate's devices failing is harm; no device failing anywhere is no evidence at all."""
    bad, good = harm_pairs("s", standings(set(DEVICES[::10]))), harm_pairs("s", standings(set()))

    assert reaches(bad, Fraction(1, 10))
    assert good.units == 0


@given(st.randoms(use_true_random=False))
def test_the_order_in_which_outcomes_arrive_says_nothing(order):
    """Pairs are made by bucket, so that a permutation of the outcomes gives the same tally."""
    known = standings(set(DEVICES[::7]))

    assert harm_pairs("s", order.sample(known, len(known))) == harm_pairs("s", known)


def test_the_rate_that_can_be_found_is_told_beforehand():
    """Two hundred pairs find a crash rate of at most 10 %, five pairs find none."""
    assert rate_detectable(0.0, 200, Fraction(1, 10)) <= 0.1
    assert rate_detectable(0.0, 4, Fraction(1, 10)) is None
