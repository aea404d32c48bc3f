"""What the harm monitor promises: what is tolerated raises few alarms at any look, what is not is stopped early."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ville import BernoulliTest
from ville.evalues import combine

from edgepick_host.core.experiment.harm import HarmRules, Watched, alarm
from edgepick_host.core.experiment.rates import exceeds, least_failures, rate_evidence
from edgepick_wire.errors import MalformedError

TOLERATED, RATE = Fraction(1, 200), Fraction(1, 20)
COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_ville_agrees_about_failures(counts):
    """The mean of `ville`'s e-values for the doubled shares is our evidence."""
    failed, units = counts
    seen = [1.0] * failed + [0.0] * (units - failed)
    shares = [float(TOLERATED) * 2**k for k in range(1, 8)]

    bets = [BernoulliTest(0.005, prior=(s * 1e9, (1 - s) * 1e9)).update(seen).e_values_[-1] for s in shares]

    assert float(rate_evidence(failed, units, TOLERATED)) == pytest.approx(combine(bets), rel=1e-3)


@given(COUNTS)
def test_the_evidence_cannot_be_expected_to_grow_where_as_many_fail_as_are_tolerated(counts):
    """After any history, the mean over a next unit that fails with the tolerated probability is the present value."""
    failed, units = counts
    worse, better = (rate_evidence(failed + f, units + 1, TOLERATED) for f in (1, 0))

    assert TOLERATED * worse + (1 - TOLERATED) * better == rate_evidence(failed, units, TOLERATED)


@given(COUNTS, st.sampled_from([Fraction(1, 10), RATE, Fraction(1, 320)]))
def test_floating_point_decides_as_whole_numbers_do(counts, alpha):
    """The quick answer is the exact one."""
    failed, units = counts

    assert exceeds(failed, units, TOLERATED, alpha) is (rate_evidence(failed, units, TOLERATED) * alpha >= 1)


def test_on_the_very_boundary_whole_numbers_decide():
    """An evidence of exactly 1/alpha is enough, which floating point could not say."""
    evidence = rate_evidence(3, 100, TOLERATED)

    assert exceeds(3, 100, TOLERATED, 1 / evidence)
    assert not exceeds(3, 100, TOLERATED, 1 / evidence - Fraction(1, 10**30))


def test_a_count_that_cannot_be_is_refused():
    """More failures than units, and a tolerance of everything, are refused."""
    with pytest.raises(MalformedError):
        rate_evidence(3, 2, TOLERATED)
    with pytest.raises(MalformedError):
        rate_evidence(1, 2, Fraction(1, 2))
    with pytest.raises(MalformedError):
        HarmRules(tolerated=Fraction(0))


def test_one_failure_is_too_many_only_among_the_very_first():
    """Of two devices one failure is too many, of ten it takes two, of two hundred six."""
    needed = {units: least_failures(units, TOLERATED, RATE) for units in (2, 10, 200)}

    assert needed == {2: 1, 10: 2, 200: 6}


def stops(rate, seeds, devices=200):
    """Return after how many devices each seed's alarm came, looking after each; ``None`` for never."""
    found = []
    for seed in seeds:
        rng, failed = random.Random(seed), 0
        found.append(None)
        for counted in range(1, devices + 1):
            failed += rng.random() < rate
            if alarm(Watched(failed=failed, counted=counted), HarmRules()):
                found[-1] = counted
                break
    return found


def test_a_variant_that_crashes_on_a_twentieth_is_stopped_within_two_hundred_devices():
    """Nearly every seed stops before 200 devices, half of them before 60."""
    found = stops(0.05, range(100))

    assert sum(f is None for f in found) <= 5
    assert sorted(f or math.inf for f in found)[50] <= 60


def test_a_healthy_variant_is_left_alone():
    """With the tolerated share of failures, looking after every device raises an alarm in at most one case of ten."""
    found = stops(0.005, range(300))

    assert sum(f is not None for f in found) <= 30 + 3 * math.sqrt(300 * 0.1 * 0.9)


def test_failures_that_are_heard_first_do_not_raise_the_alarm_early():
    """One device in 150 that fails at once, while the others have not answered, is no harm yet."""
    assert alarm(Watched(failed=1, counted=150), HarmRules()) == ""


def test_a_variant_that_is_a_tenth_slower_is_stopped_within_sixty_devices():
    """Ten per cent in noise of five per cent is found soon, and the sentence says on how many devices."""
    effects = [float(e) for e in np.random.default_rng(5).normal(math.log(1.1), 0.05, 60)]

    said = alarm(Watched(failed=0, counted=60, effects=effects), HarmRules())

    assert "of 60 devices are more than 5% worse than before" in said
    assert alarm(Watched(failed=0, counted=3, effects=effects[:3]), HarmRules()) == ""


def test_more_strata_share_one_error_rate():
    """What suffices in one stratum does not if eight are looked at."""
    seen = Watched(failed=4, counted=100)

    assert alarm(seen, HarmRules()) == "4 of 100 devices failed, shown to be more than the 0.50% that are tolerated"
    assert alarm(seen, HarmRules(), strata=8) == ""
