"""Summaries against numpy and scipy: percentiles, deviation, energy, golden counts."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgepick_agent.core.energy import (
    EnergyWindow,
    idle_seconds,
    summarise_energy,
    trapezoid,
    window_seconds,
)
from edgepick_agent.core.golden_check import GoldenTally, judge
from edgepick_agent.core.summarise import least_runs, middle_mean, quantile, summarise

SAMPLES = st.lists(st.integers(1, 10**12), min_size=1, max_size=400)


@given(st.integers(59, 2000), st.integers(0, 2**32))
def test_the_upper_bound_of_p95_is_scipys(runs, seed):
    """From 59 runs on the summary bounds its p95 as scipy's exact quantile test does."""
    samples = np.random.default_rng(seed).integers(1, 10**9, runs)
    interval = stats.quantile_test(samples, p=0.95, alternative="less").confidence_interval(0.95)

    assert summarise([int(s) for s in samples]).p95_high_ns == interval.high


@given(SAMPLES)
def test_the_summary_is_numpys(samples):
    """Mean, deviation, extremes and every told percentile equal numpy's."""
    summary = summarise(samples)

    assert (summary.runs, summary.min_ns, summary.max_ns) == (len(samples), min(samples), max(samples))
    assert summary.mean_ns == pytest.approx(np.mean(samples), rel=1e-9, abs=0.51)
    assert summary.stdev_ns == pytest.approx(statistics.stdev(samples) if len(samples) > 1 else 0, rel=1e-6, abs=0.51)
    for percent, found in [(50, summary.p50_ns), (90, summary.p90_ns), (95, summary.p95_ns), (99, summary.p99_ns)]:
        if found is not None:
            assert found == np.percentile(samples, percent, method="inverted_cdf")


@given(SAMPLES)
def test_the_order_of_samples_does_not_matter(samples):
    """A summary is of a set of runs."""
    assert summarise(samples) == summarise(sorted(samples, reverse=True))


@pytest.mark.parametrize(("p", "runs"), [(0.50, 5), (0.90, 29), (0.95, 59), (0.99, 299)])
def test_a_percentile_is_told_from_the_least_number_of_runs_on(p, runs):
    """It is None one run below n = ln(0.05)/ln(p), and told from there on."""
    assert least_runs(p) == runs
    assert quantile(range(runs - 1), p) is None
    assert quantile(range(runs), p) is not None


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=80))
def test_the_middle_mean_is_scipys(values):
    """The interquartile mean is scipy's mean with a quarter trimmed from each side."""
    assert middle_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-9, abs=1e-6)


def test_a_percentile_is_a_run_that_was_seen():
    """Nearest rank: of 100 runs p90 is the ninetieth, never a number in between."""
    assert quantile([10 * i for i in range(1, 101)], 0.90) == 900


@given(st.lists(st.tuples(st.floats(0.001, 2.0), st.floats(0, 1e8)), min_size=2, max_size=50))
def test_the_trapezoid_is_numpys(steps):
    """The integral over uneven steps is numpy's."""
    times = list(np.cumsum([seconds for seconds, _ in steps]))
    powers = [power for _, power in steps]

    assert trapezoid(times, powers) == pytest.approx(np.trapezoid(powers, times), rel=1e-9, abs=1e-6)


def test_a_known_power_curve_integrates_to_its_energy():
    """A sine of 2 W around 5 W over ten seconds, sampled at 10 Hz, is 50 J within 1 %."""
    times = [i / 10 for i in range(101)]
    powers = [5e6 + 2e6 * math.sin(2 * math.pi * t / 3.3) for t in times]
    exact = 5e6 * 10 + 2e6 * 3.3 / (2 * math.pi) * (1 - math.cos(2 * math.pi * 10 / 3.3))

    assert trapezoid(times, powers) == pytest.approx(exact, rel=0.01)


def energy(load: EnergyWindow, *idle: EnergyWindow, period: float = 0.001):
    return summarise_energy(load, idle, source="s", scope="package", period_seconds=period)


def window(power_uw: float, seconds: float, inferences: int = 0) -> EnergyWindow:
    return EnergyWindow(energy_uj=power_uw * seconds, seconds=seconds, inferences=inferences)


def test_net_energy_is_gross_less_idle():
    """At 6 W busy and 2 W idle, 100 inferences in 2 s cost 120 mJ each, 80 mJ of it on top of idle."""
    found = energy(window(6e6, 2, 100), window(2e6, 1), window(2e6, 1))

    assert found.gross_uj == pytest.approx(120_000)
    assert found.net_uj == pytest.approx(80_000)
    assert found.idle_uw == pytest.approx(2e6)
    assert found.reason is None


def test_a_window_too_short_for_the_sensor_is_not_measured():
    """A tenth-of-a-second sensor needs twenty seconds; two are refused with the number needed."""
    found = energy(window(6e6, 2, 100), window(2e6, 1), window(2e6, 1), period=0.1)

    assert found.gross_uj is None
    assert "20 s" in (found.reason or "")


def test_idle_power_that_moved_more_than_the_load_added_gives_no_net_figure():
    """If idle changes by 3 W while the load adds 1.5 W, the net figure is withheld and says why."""
    found = energy(window(5e6, 2, 10), window(2e6, 1), window(5e6, 1))

    assert found.gross_uj is not None
    assert found.net_uj is None
    assert "idle power changed" in (found.reason or "")


@pytest.mark.parametrize("load_uw", [4.96e6, 5e6])
def test_a_load_that_adds_nothing_to_idle_has_no_net_figure(load_uw):
    """A run that draws 5 W or less where idle is 5 W costs its gross energy; what it adds cannot be told."""
    found = energy(window(load_uw, 2, 10), window(5e6, 1), window(5e6, 1))

    assert (found.gross_uj, found.net_uj) == (pytest.approx(load_uw / 5), None)
    assert "is no more than the idle 5 W" in (found.reason or "")


def test_a_sensor_that_stood_still_has_measured_nothing():
    """No energy at all over two seconds of work is no figure, for it would be the best of all."""
    found = energy(window(0, 2, 10), window(0, 1), window(0, 1))

    assert (found.gross_uj, found.net_uj) == (None, None)
    assert "s stood still" in (found.reason or "")


def test_without_both_idle_windows_there_is_no_net_figure():
    """One idle window is not enough to know that idle stood still."""
    found = energy(window(5e6, 2, 10), window(2e6, 1))

    assert (found.gross_uj, found.net_uj, found.idle_uw) == (pytest.approx(1e6), None, None)
    assert "idle power could not be read" in (found.reason or "")


@pytest.mark.parametrize(("period", "seconds"), [(0.001, 0.2), (0.0352, 7.04), (0.0681, 13.62), (0.1, 20.0)])
def test_windows_last_two_hundred_periods(period, seconds):
    """RAPL needs 0.2 s, an INA226 7 s, an INA219 14 s, a sensor of ten readings a second 20 s."""
    assert window_seconds(period) == pytest.approx(seconds)
    assert idle_seconds(period) >= 0.5


def tally(**changes) -> GoldenTally:
    good = {"samples": 10, "agreeing": 9, "mean_abs_error": 0.01, "correct": 8, "finite": True}
    return GoldenTally(**{**good, **changes})


def test_golden_answers_within_tolerance_pass():
    """Shares are counts over samples, and the sentence holds the figures."""
    found = judge(tally(), min_agreement=0.9, max_mean_abs_error=0.01)

    assert (found.passed, found.agreement, found.accuracy) == (True, 0.9, 0.8)
    assert "0.9" in found.detail


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agreeing": 8}, "agrees with the float model on 8 of 10"),
        ({"mean_abs_error": 0.02}, "mean absolute error is 0.02"),
        ({"finite": False}, "NaN or infinite"),
    ],
)
def test_each_broken_tolerance_fails_and_is_named(changes, said):
    """One broken promise is enough to fail, and the sentence says which."""
    found = judge(tally(**changes), min_agreement=0.9, max_mean_abs_error=0.01)

    assert not found.passed
    assert said in found.detail


def test_without_labels_accuracy_is_not_told():
    """No labels, no accuracy: None, not zero."""
    assert judge(tally(correct=None), min_agreement=0, max_mean_abs_error=1).accuracy is None
