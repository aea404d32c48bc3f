"""Intervals over restarts: against scipy where it has the formula, and their coverage by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgepick_agent.core.intervals import (
    Estimate,
    effective_runs,
    mean_interval,
    quantile_interval,
    student_t,
)
from edgepick_agent.core.summarise import quantile

TRIALS = 300
LEAST_COVERAGE = 0.92


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 19, 30, 99])
def test_the_t_quantile_is_scipys(freedom):
    """Student's 97.5 % quantile for odd and even degrees of freedom equals scipy's."""
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_a_mean_has_the_t_interval_of_the_restarts_means():
    """The interval is scipy's t interval over one mean per restart."""
    restarts = [[10.0, 12.0], [14.0, 15.0, 16.0], [9.0], [11.0, 11.0], [13.0]]
    means = [11.0, 15.0, 9.0, 11.0, 13.0]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(means), scale=stats.sem(means))

    found = mean_interval(restarts)

    assert (found.value, found.low, found.high) == (pytest.approx(11.8), pytest.approx(low), pytest.approx(high))


@given(st.lists(st.lists(st.integers(1, 10**9), min_size=10, max_size=40), min_size=5, max_size=8))
def test_intervals_hold_what_they_are_about(restarts):
    """Ends are in order around the value, all are latencies that were seen, and effective runs are at most all."""
    seen = {x for samples in restarts for x in samples}
    for p in (0.5, 0.9, 0.95, 0.99):
        found = quantile_interval(restarts, p)
        told = [x for x in (found.low, found.value, found.high) if x is not None]
        assert told == sorted(told)
        assert set(told) <= seen
        assert found.reason or len(told) == 3
    assert 1 <= effective_runs(restarts) <= sum(map(len, restarts)) + 1e-6


@given(st.lists(st.integers(1, 10**6), min_size=30, max_size=30), st.integers(2, 6))
def test_equal_restarts_pool_to_the_plain_quantile(samples, count):
    """Restarts that saw the same have the quantile of one of them."""
    assert quantile_interval([samples] * count, 0.9).value == quantile(sorted(samples), 0.9)


def test_every_restart_counts_alike():
    """A restart that ran three times as often does not pull the median to its side."""
    slow, quick = [200] * 300, [100] * 100

    assert quantile_interval([slow, quick], 0.5).value == 100


@pytest.mark.parametrize(("restarts", "runs", "p", "said"), [(1, 100, 0.5, "1 restart"), (4, 100, 0.95, "4 restart")])
def test_too_few_restarts_have_no_interval(restarts, runs, p, said):
    """Below five restarts the figure is told without an interval, and the reason names the option."""
    found = quantile_interval([list(range(1, runs + 1))] * restarts, p)

    assert (found.low, found.high) == (None, None)
    assert said in (found.reason or "")
    assert "--restarts" in (found.reason or "")


def test_too_few_runs_are_not_estimable():
    """Ten restarts of five runs do not reach the 59 that a p95 needs: no value at all."""
    found = quantile_interval([[1, 2, 3, 4, 5]] * 10, 0.95)

    assert found == Estimate(reason="50 of at least 59 runs")


def test_restarts_that_differ_leave_few_independent_runs():
    """Twenty restarts, each steady at a level of its own, are twenty runs: a p95 has no interval."""
    restarts = [[1000 + 10 * level] * 50 for level in range(20)]

    found = quantile_interval(restarts, 0.95)

    assert effective_runs(restarts) == pytest.approx(20)
    assert (found.value, found.low, found.high) == (1180, None, None)
    assert "count as 20, at least 59" in (found.reason or "")


def simulated(random, restarts: int, runs: int, effect: float, noise: str) -> list[list[int]]:
    """Return latencies around 1 ms with a normal run-to-run effect and noise within the run."""
    levels = random.normal(0, effect, (restarts, 1))
    within = {
        "normal": lambda: 0.05 * random.normal(size=(restarts, runs)),
        "skewed": lambda: 0.03 * np.exp(random.normal(size=(restarts, runs))),
    }[noise]()
    return [[int(x) for x in row] for row in 1e6 * (1 + levels + within)]


@pytest.mark.parametrize("noise", ["normal", "skewed"])
@pytest.mark.parametrize(("restarts", "runs", "effect"), [(20, 60, 0.01), (20, 60, 0.03), (8, 60, 0.02)])
def test_intervals_cover_as_often_as_they_say(restarts, runs, effect, noise):
    """With run-to-run effects the 95 % intervals that are told hold the true figure at least 92 times in a hundred."""
    random = np.random.default_rng(20240501)
    large = np.array(simulated(random, 100_000, 1, effect, noise)).ravel()
    truths = {p: np.quantile(large, p) for p in (0.5, 0.9, 0.95)}
    hits: dict[object, list[bool]] = {"mean": [], **{p: [] for p in truths}}

    for _ in range(TRIALS):
        sample = simulated(random, restarts, runs, effect, noise)
        mean = mean_interval(sample)
        hits["mean"].append(mean.low <= large.mean() <= mean.high)
        for p, truth in truths.items():
            found = quantile_interval(sample, p)
            if found.low is not None and found.high is not None:
                hits[p].append(bool(found.low <= truth <= found.high))

    observed = {name: np.mean(h) for name, h in hits.items() if len(h) >= TRIALS / 4}
    assert {"mean", 0.5} <= set(observed)
    assert {name: share for name, share in observed.items() if share < LEAST_COVERAGE} == {}


def test_pooling_inferences_would_not_cover():
    """The usual order-statistic interval over pooled inferences misses most of the time: the simulation can tell."""
    random = np.random.default_rng(20240501)
    truth = np.median(np.array(simulated(random, 100_000, 1, 0.03, "normal")))
    half = stats.norm.ppf(0.975) * math.sqrt(0.25 / 1200)
    hits = []

    for _ in range(200):
        pooled = np.sort(np.concatenate(simulated(random, 20, 60, 0.03, "normal")))
        hits.append(pooled[int(1200 * (0.5 - half))] <= truth <= pooled[int(1200 * (0.5 + half))])

    assert np.mean(hits) < 0.6
