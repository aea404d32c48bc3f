"""Calibration statistics: what every method promises, on arbitrary values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepick_host.compress.observers import BINS, EMPTY, LEAST_EXPONENT, Method, Observer

ORDERLESS = [method for method in Method if method is not Method.MOVING_AVERAGE]
FLOATS = st.floats(-1e6, 1e6, width=32)
SAMPLES = st.lists(arrays.arrays(np.float32, st.integers(1, 40), elements=FLOATS), min_size=1, max_size=8)


def seen(samples) -> Observer:
    observer = Observer()
    for sample in samples:
        observer.observe(sample)
    return observer


def clipped_error(values, low: float, high: float, bits: int = 8) -> float:
    step = (high - low) / (2**bits - 1)
    zero = round(-low / step)
    steps = np.clip(np.round(values / step) + zero, 0, 2**bits - 1) - zero
    return float(np.mean((values - steps * step) ** 2))


@given(samples=SAMPLES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_order_changes_no_range_but_the_moving_averages(samples, data):
    """Whatever the order of the samples, every range but the moving average's is the same, bit for bit."""
    other = data.draw(st.permutations(samples))

    a, b = seen(samples), seen(other)

    assert np.array_equal(a.counts, b.counts)
    for method in ORDERLESS:
        assert a.range(method) == b.range(method)
        assert a.range(method, symmetric=True) == b.range(method, symmetric=True)


@given(samples=SAMPLES, method=st.sampled_from(list(Method)), bits=st.sampled_from([4, 8, 16]), symmetric=st.booleans())
@settings(max_examples=120, deadline=None)
def test_every_range_holds_zero_and_nothing_unseen(samples, method, bits, symmetric):
    """A range is finite, holds zero, is not empty, and reaches no farther than the values did."""
    low, high = seen(samples).range(method, bits=bits, symmetric=symmetric)

    values = np.concatenate([*samples, [0.0]]).astype(np.float64)
    assert np.isfinite([low, high]).all()
    assert low <= 0.0 <= high
    assert low < high
    if not symmetric and values.any():
        assert low >= values.min() * (1 + 1e-12)
        assert high <= values.max() * (1 + 1e-12)
    if symmetric:
        assert low == -high


@given(samples=SAMPLES)
@settings(max_examples=60, deadline=None)
def test_every_value_is_counted_once(samples):
    """Histogram and zeros together hold every value, and at least half of the bins of a sign are in use."""
    observer = seen(samples)

    assert observer.counts.sum() + observer.zeros == sum(sample.size for sample in samples)
    largest = max(float(np.abs(sample).max()) for sample in samples)
    assert largest < BINS * observer.width
    assert largest >= BINS / 2 * observer.width or observer.exponent == LEAST_EXPONENT


def test_memory_does_not_grow_with_samples():
    """A thousand samples take what one takes."""
    rng = np.random.default_rng(0)

    observer = seen(rng.normal(0, 10.0**k, 100) for k in range(-5, 5) for _ in range(100))

    assert observer.samples == 1000
    assert observer.counts.nbytes == seen([np.ones(1)]).counts.nbytes


def test_the_moving_average_forgets():
    """The moving average is ai-edge-quantizer's: 0.95 of the past, and so the order matters."""
    observer = seen([np.array([-1.0, 1.0]), np.array([-2.0, 3.0])])

    assert observer.range("moving_average") == pytest.approx((-1.05, 1.1))


def test_the_percentile_drops_an_outlier():
    """One value in a million does not set the range; half of what is dropped is dropped on each side."""
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)

    low, high = seen([values, np.array([1000.0])]).range("percentile")

    assert low == pytest.approx(-1, abs=0.3)
    assert high == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("method", [Method.MSE, Method.ENTROPY])
def test_long_tails_are_clipped(method):
    """On values with a long tail, the range ends well before the largest one."""
    values = np.random.default_rng(0).standard_t(3, 50_000)

    low, high = seen([values]).range(method, bits=4)

    assert 2 < high < 0.9 * values.max()
    assert low < -2
    assert high - low < 0.9 * (values.max() - values.min())


@given(seed=st.integers(0, 1000), bits=st.sampled_from([4, 6, 8]), tail=st.sampled_from([2.0, 3.0, 10.0]))
@settings(max_examples=25, deadline=None)
def test_mse_is_no_worse_than_any_other_range(seed, bits, tail):
    """No scaled-down range of the values has clearly less quantization error than the one found."""
    values = np.random.default_rng(seed).standard_t(tail, 4000)

    low, high = seen([values]).range("mse", bits=bits)

    others = [clipped_error(values, values.min() * f, values.max() * f, bits) for f in np.linspace(0.05, 1, 60)]
    assert clipped_error(values, low, high, bits) <= min(others) * 1.05


def test_more_bits_clip_less():
    """The finer the steps, the less a tail is worth cutting."""
    observer = seen([np.random.default_rng(0).laplace(0, 1, 20_000)])

    ends = [observer.range("mse", bits=bits)[1] for bits in (4, 8, 16)]

    assert ends == sorted(ends)


@pytest.mark.parametrize("method", list(Method))
def test_constant_tensors_have_a_range(method):
    """A constant tensor's range reaches from zero to it; nothing but zeros, or nothing at all, has a standard one."""
    assert seen([np.full(10, 3.0)]).range(method) == pytest.approx((0.0, 3.0), rel=0.01)
    assert seen([np.full(10, -3.0)]).range(method) == pytest.approx((-3.0, 0.0), rel=0.01)
    assert seen([np.zeros(10)]).range(method) == EMPTY
    assert Observer().range(method, symmetric=True) == (-EMPTY[1], EMPTY[1])


@pytest.mark.parametrize("method", list(Method))
def test_what_is_not_finite_is_left_out(method):
    """NaN and infinity are counted apart and change no range."""
    values = np.random.default_rng(0).normal(size=100)

    mixed = seen([np.append(values, [np.nan, np.inf, -np.inf]), np.array([np.nan])])

    assert mixed.rejected == 4
    assert mixed.range(method) == seen([values]).range(method)
