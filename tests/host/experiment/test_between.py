"""What a comparison between devices promises: few false alarms at any look, and "not worse" only by a bound."""

import itertools
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from edgepick_host.core.experiment.between import (
    Between,
    Subject,
    conclude,
    first_to_fail,
    harm_shown,
    most_excess,
    prospect,
    rate_detectable,
    ratio_alarm,
    ratio_p,
)
from edgepick_host.core.experiment.evidence import Tally
from edgepick_wire.errors import MalformedError

HARM, FINE = Fraction(1, 10), Subject()
MOMENTS = st.none() | st.integers(0, 20).map(float)
PAIRS = st.lists(st.tuples(*(st.builds(Subject, struck=MOMENTS) for _ in range(2))), max_size=40)


def fleet(seed, pairs, hazards, seconds=100):
    """Return pairs whose devices fail with these probabilities per second, each at its first failure."""
    rng = random.Random(seed)

    def subject(hazard):
        moment = math.log(1 - rng.random()) / math.log(1 - hazard) if hazard else math.inf
        return Subject(struck=moment if moment < seconds else None)

    return [(subject(hazards[0]), subject(hazards[1])) for _ in range(pairs)]


def at(pairs, now):
    """Return the pairs as they were known at a moment."""

    def known(subject):
        return Subject(struck=subject.struck if subject.struck is not None and subject.struck <= now else None)

    return [(known(a), known(b)) for a, b in pairs]


@given(PAIRS)
def test_a_pair_that_has_told_is_never_counted_otherwise(pairs):
    """At a later look every unit is still there, and the candidate's failures among them."""
    looks = [first_to_fail(at(pairs, now)) for now in range(22)]

    for earlier, later in itertools.pairwise(looks):
        assert later.units >= earlier.units
        assert later.wins >= earlier.wins
        assert later.units - later.wins >= earlier.units - earlier.wins


def test_pairs_in_which_nobody_or_both_failed_say_nothing():
    """Only who fails first is counted, and a later failure of the other changes nothing."""
    pairs = [(FINE, FINE), (Subject(struck=3.0), Subject(struck=3.0)), (Subject(struck=1.0), Subject(struck=2.0))]

    assert first_to_fail(pairs) == Tally(wins=1, units=1)


def test_a_candidate_that_fails_as_often_is_rarely_called_harmful_at_any_look():
    """Looking after every second, at most one fleet in ten raises the alarm, three standard errors apart."""
    alarms = sum(
        any(harm_shown(at(pairs, now), HARM) for now in range(5, 101, 5))
        for pairs in (fleet(seed, 60, (0.01, 0.01)) for seed in range(200))
    )

    assert alarms <= 20 + 3 * math.sqrt(200 * 0.1 * 0.9)


def test_a_candidate_that_fails_four_times_as_often_is_found():
    """In nearly every fleet of sixty pairs the alarm comes, and says in how many pairs."""
    found = [harm_shown(fleet(seed, 60, (0.02, 0.005)), HARM) for seed in range(50)]

    assert sum(map(bool, found)) >= 45
    assert all("pairs of devices of which one failed" in text for text in found if text)


def test_not_worse_is_claimed_too_often_in_no_more_than_one_fleet_of_twenty():
    """Where exactly 5 % more devices fail, an excess of 5 % is excluded in at most 5 % of fleets."""
    rng = random.Random(3)

    def pair():
        return (
            Subject(struck=1.0 if rng.random() < 0.08 else None),
            Subject(struck=1.0 if rng.random() < 0.03 else None),
        )

    claimed = sum(most_excess([pair() for _ in range(150)], 0.05) <= 0.05 for _ in range(400))

    assert claimed <= 20 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_a_healthy_candidate_goes_on_and_a_small_fleet_is_not_enough():
    """Without a failure, 73 pairs exclude an excess of 5 % and 10 pairs do not; the text has the bound."""
    many, few = (conclude([(FINE, FINE)] * n, Between(), 0.05) for n in (73, 10))

    assert many.goes_on
    assert many.text == "73 pairs of devices: at most 4.9% more devices fail than before"
    assert not few.goes_on
    assert "at most 30.8% more devices fail than before is all that they show; 5.0% is asked" in few.text


def test_silence_is_failing_in_either_arm_once_a_device_was_heard_of():
    """Ten silent devices are ten failures; those that never answered leave with their pair, on either side."""
    fell, never = Subject(answers=False), Subject(reached=False, answers=False)
    rest = [(FINE, FINE)] * 190

    lost, both = (most_excess([*rest, *some], 0.05) for some in ([(fell, FINE)] * 10, [(fell, fell)] * 10))
    absent = conclude([*rest, *[(never, FINE), (FINE, never)] * 20], Between(), 0.05)

    assert lost > most_excess([*rest, *[(FINE, FINE)] * 10], 0.05) == both
    assert absent.text.startswith("190 pairs of devices")


def test_arms_of_which_one_fell_silent_conclude_nothing():
    """If the candidate's devices are those that are silent, what the others say is not believed."""
    silent = [(Subject(answers=False), FINE)] * 15

    found = conclude([*silent, *[(FINE, FINE)] * 200], Between(), 0.05)

    assert not found.goes_on
    assert "of 15 pairs of which one device is silent, it is the candidate's in 15" in found.text


def test_no_pairs_exclude_nothing():
    """An arm without devices is no evidence of health."""
    assert most_excess([], 0.05) == 1.0


@given(st.integers(0, 80), st.integers(0, 80))
def test_the_ratio_check_is_the_exact_binomial_test(candidates, incumbents):
    """Its p-value is scipy's."""
    units = candidates + incumbents
    exact = binomtest(candidates, units).pvalue if units else 1.0

    assert ratio_p(candidates, units) == pytest.approx(exact, abs=1e-9)


def test_arms_that_cannot_be_chance_raise_the_alarm():
    """60 to 40 of a hundred is chance; 320 to 180 of five hundred is not."""
    assert not ratio_alarm(60, 100)
    assert ratio_alarm(320, 500)


def test_the_rate_that_can_be_found_is_told_beforehand():
    """Two hundred pairs find a failure rate of at most 10 %, four pairs find none."""
    assert rate_detectable(0.0, 200, HARM) <= 0.1
    assert rate_detectable(0.0, 4, HARM) is None


def test_a_small_fleet_is_told_what_it_cannot_show():
    """The outlook names the best bound, the pairs that the question takes, and the rate that would be found."""
    small = prospect(10, Between(), 0.005, Fraction(1, 20), HARM)
    large = prospect(500, Between(), 0.005, Fraction(1, 20), HARM)

    assert (
        "an excess of 30.8% is excluded, too few for the 5.0% that are asked, which takes 72 without a failure" in small
    )
    assert "an excess of 0.7% is excluded; a failure rate of" in large
    assert "where 0.5% fail anyway" in large


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 0.0},
        {"share": 1.0},
        {"seconds": -1.0},
        {"seconds": math.inf},
        {"max_excess": 0.0},
        {"max_excess": 1e-7},
    ],
)
def test_arms_of_nobody_and_questions_without_answer_are_refused(wrong):
    """Both arms have devices, their time ends, and an excess of nothing can never be excluded."""
    with pytest.raises(MalformedError):
        Between(**wrong)
