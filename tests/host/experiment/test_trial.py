"""What a look promises: three verdicts, no data is never a pass, nothing depends on the order of arrival."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.experiment.dominance import dominates, paired_range
from edgepick_host.core.experiment.evidence import anytime_p
from edgepick_host.core.experiment.family import even_share, holm
from edgepick_host.core.experiment.intervals import median_sequence, share_lower, share_upper
from edgepick_host.core.experiment.trial import Rules, Verdict, look
from edgepick_wire.errors import MalformedError

EFFECTS = st.lists(st.floats(-1, 1), max_size=40)


def fallen(p_values, alpha):
    return {name for name, rate in holm(p_values, alpha).items() if p_values[name] <= rate}


def test_seven_devices_that_all_gain_are_enough_and_six_are_not():
    """At 5 % the seventh unanimous unit decides; before it the verdict is inconclusive and says how many it takes."""
    six, seven = look([-0.1] * 6, Rules()), look([-0.1] * 7, Rules())

    assert six.verdict is Verdict.INCONCLUSIVE
    assert six.needed == 7
    assert seven.verdict is Verdict.PROMOTE


def test_harm_is_seen_sooner_than_gain():
    """Five unanimous losses reject at 10 %."""
    assert look([0.1] * 4, Rules()).verdict is Verdict.INCONCLUSIVE
    assert look([0.1] * 5, Rules()).verdict is Verdict.REJECT


def test_a_gain_below_the_minimum_is_no_gain():
    """Twenty devices that gain 1 % do not promote where 2 % are asked for, and do without a minimum."""
    effects = [math.log(0.99)] * 20

    assert look(effects, Rules(gain=0.02)).verdict is Verdict.INCONCLUSIVE
    assert look(effects, Rules()).verdict is Verdict.PROMOTE


def test_a_device_that_fell_silent_counts_as_harm():
    """Seven gains promote; with as many devices that died after they were given the candidate, nothing is promoted."""
    assert look([-0.1] * 7 + [math.inf] * 7, Rules()).verdict is not Verdict.PROMOTE
    assert look([-0.1] * 2 + [math.inf] * 12, Rules()).verdict is Verdict.REJECT


@given(EFFECTS, st.randoms(use_true_random=False))
def test_the_order_of_units_says_nothing(effects, order):
    """Any permutation of the units gives an equal finding, to the last bit."""
    assert look(order.sample(effects, len(effects)), Rules(gain=0.01)) == look(effects, Rules(gain=0.01))


@given(EFFECTS)
def test_turning_every_effect_round_exchanges_the_two_sides(effects):
    """With equal rates and no margins, promote and reject are mirror images."""
    rules = Rules(alpha=Fraction(1, 20), alpha_harm=Fraction(1, 20))
    mirror = {Verdict.PROMOTE: Verdict.REJECT, Verdict.REJECT: Verdict.PROMOTE}
    here, there = look(effects, rules), look([-e for e in effects], rules)

    assert mirror.get(here.verdict, here.verdict) is there.verdict
    assert (here.gain, here.harm) == (there.harm, there.gain)


@given(EFFECTS)
def test_a_promoted_median_lies_below_zero(effects):
    """Whatever is promoted has its median effect on the good side."""
    found = look(effects, Rules())

    if found.verdict is Verdict.PROMOTE:
        assert sorted(effects)[len(effects) // 2] < 0


def test_rules_that_mean_nothing_are_refused():
    """An error rate of 0 or 1, a gain of everything and no units at all are refused."""
    for bad in ({"alpha": Fraction(0)}, {"alpha_harm": Fraction(1)}, {"gain": 1.0}, {"harm": -0.1}, {"least": 0}):
        with pytest.raises(MalformedError):
            Rules(**bad)


@given(st.dictionaries(st.text(max_size=3), st.fractions(0, 1), max_size=8))
def test_holm_lies_between_an_even_split_and_none(p_values):
    """Whatever falls under an even split falls under Holm, and whatever falls under Holm falls uncorrected."""
    alpha = Fraction(1, 20)
    even = {n for n, p in p_values.items() if p <= even_share(alpha, len(p_values))}
    plain = {n for n, p in p_values.items() if p <= alpha}

    assert even <= fallen(p_values, alpha) <= plain


def test_holm_stops_at_the_first_that_stands():
    """0.012 falls at a quarter of 5 %, 0.02 does not fall at a third of it, so 0.021 is not asked."""
    p_values = {"a": Fraction(12, 1000), "b": Fraction(20, 1000), "c": Fraction(21, 1000), "d": Fraction(1, 2)}

    assert fallen(p_values, Fraction(1, 20)) == {"a"}


def test_a_promotion_is_a_small_anytime_p():
    """The verdict and the p-value that a family is corrected by say the same."""
    found = look([-0.1] * 7, Rules())

    assert anytime_p(found.gain) <= Fraction(1, 20)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_the_range_of_the_median_grows_with_certainty_and_holds_the_median(values):
    """The median of the sample lies in its range, and a stricter rate gives a range at least as wide."""
    wide, narrow = median_sequence(values, Fraction(1, 100)), median_sequence(values, Fraction(1, 5))

    if narrow.low is not None and wide.low is not None:
        assert wide.low <= narrow.low <= sorted(values)[len(values) // 2] <= narrow.high <= wide.high
    assert narrow.low is not None or wide.low is None


def test_the_exact_bounds_of_a_share():
    """29 of 29 show 90 %, 59 of 59 show 95 %, and none of n bad shows 3/n, as the exact binomial says."""
    assert share_lower(28, 28) < 0.9 <= share_lower(29, 29) + 1e-9
    assert share_lower(59, 59) >= 0.95
    assert share_upper(0, 300) == pytest.approx(3 / 300, rel=0.01)
    assert share_lower(0, 10) == 0.0
    assert share_upper(10, 10) == 1.0


def test_dominance_needs_every_metric_beyond_doubt():
    """Better in one and no worse in the others dominates; one doubtful metric, or none at all, does not."""
    assert dominates({"latency": [-0.1, -0.2], "size": [0.0]})
    assert not dominates({"latency": [-0.1, 0.01], "size": [-1.0]})
    assert not dominates({"latency": [-0.1], "energy": []})
    assert not dominates({"latency": [0.0], "size": [0.0]})
    assert not dominates({})


def test_few_devices_that_disagree_leave_a_variant_on_the_front():
    """With two devices the range is what was seen; with many it is the median's, which outliers do not move."""
    assert paired_range([-0.1, 0.3]).high == 0.3
    assert paired_range([-0.1] * 30 + [0.3]).high == -0.1
