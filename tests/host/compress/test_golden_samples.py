"""The self-test's samples and tolerances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.compress.golden import GOLDEN_SAMPLES, choose_golden, tolerance
from edgepick_host.compress.quality import agreement, answers, mean_abs_error

labels = st.lists(st.integers(min_value=0, max_value=12), min_size=1, max_size=120).map(np.array)


def passes(outputs, expected, allowed) -> bool:
    return (
        agreement(outputs, expected) >= allowed.min_agreement
        and mean_abs_error(outputs, expected) <= allowed.max_mean_abs_error
    )


@given(labels, st.integers(min_value=0, max_value=9))
def test_golden_samples_are_spread_over_the_labels(groups, seed):
    """There are 16 different samples or all; no label has two more than another that could give one more."""
    chosen = choose_golden(groups, seed)

    assert len(set(chosen)) == len(chosen) == min(GOLDEN_SAMPLES, len(groups))
    assert list(chosen) == sorted(chosen)
    taken = {label: int(np.sum(groups[list(chosen)] == label)) for label in set(groups.tolist())}
    for label, count in taken.items():
        if count < np.sum(groups == label):
            assert max(taken.values()) <= count + 1


def test_golden_samples_are_the_same_every_time():
    """The same labels and seed choose the same samples; another seed chooses others."""
    groups = np.arange(300) % 10

    assert choose_golden(groups, 0) == choose_golden(groups, 0)
    assert choose_golden(groups, 0) != choose_golden(groups, 1)


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def classifier(seed: int, classes: int, sharpness: float):
    return softmax(np.random.default_rng(seed).normal(0, sharpness, (GOLDEN_SAMPLES, classes)))


@settings(deadline=None)
@given(
    st.integers(min_value=0, max_value=999),
    st.sampled_from([2, 5, 10, 1000]),
    st.floats(min_value=1.0, max_value=8.0),
    st.floats(min_value=0.0, max_value=0.3),
)
def test_the_variant_passes_and_useless_answers_fail(seed, classes, sharpness, noise):
    """What this host measured passes; all zeros, the next sample's answers and a permuted output do not."""
    expected = classifier(seed, classes, sharpness)
    outputs = expected + noise * np.random.default_rng(seed + 1).normal(size=expected.shape).astype(np.float32) * (
        expected.std()
    )

    allowed = tolerance(outputs, expected)

    assert allowed is not None
    assert passes(outputs, expected, allowed)
    assert not passes(np.zeros_like(expected), expected, allowed)
    assert not passes(np.roll(expected, 1, axis=0), expected, allowed)
    assert not passes(np.roll(expected, 1, axis=1), expected, allowed)


def test_one_sample_on_the_border_is_forgiven_and_two_are_not():
    """Of 16 golden samples one may flip on another runtime; a second flip fails."""
    expected = classifier(3, 10, 6.0)
    allowed = tolerance(expected, expected)
    assert allowed is not None

    flips = [agreement(flipped(expected, count), expected) >= allowed.min_agreement for count in (1, 2)]

    assert flips == [True, False]


def flipped(expected, count):
    outputs = expected.copy()
    for i in range(count):
        outputs[i] = np.roll(outputs[i], 1)
    return outputs


def test_a_regression_output_is_guarded_by_its_error():
    """Where arg-max says nothing (one output), zeros and shuffled answers still fail, by their error."""
    expected = np.linspace(-3, 5, 16, dtype=np.float32).reshape(16, 1)
    outputs = expected + np.float32(0.02)

    allowed = tolerance(outputs, expected)

    assert allowed is not None
    assert passes(outputs, expected, allowed)
    assert not passes(np.zeros_like(expected), expected, allowed)
    assert not passes(np.roll(expected, 1, axis=0), expected, allowed)


def test_a_variant_as_bad_as_useless_has_no_tolerance():
    """If nothing tells the variant's answers from useless ones, there is no tolerance and it must be refused."""
    expected = np.linspace(-3, 5, 16, dtype=np.float32).reshape(16, 1)

    assert tolerance(np.zeros_like(expected), expected) is None


def test_coarse_probabilities_of_many_classes_are_no_reason_to_refuse():
    """A classifier whose small probabilities are rounded to zero by int8 keeps its answers, and so a tolerance."""
    expected = softmax(np.random.default_rng(5).normal(0, 1, (16, 1000)) + 6 * np.eye(16, 1000))
    outputs = (np.round(expected * 256) / 256).astype(np.float32)

    allowed = tolerance(outputs, expected)

    assert allowed is not None
    assert passes(outputs, expected, allowed)
    assert not passes(np.zeros_like(expected), expected, allowed)


@pytest.mark.parametrize("shape", [(4, 10), (4, 2, 5)])
def test_answers_are_the_arg_max_of_everything(shape):
    """The answer is the arg-max over all elements of a sample, whatever the output's rank."""
    outputs = np.arange(40, dtype=np.float32).reshape(shape)

    assert answers(outputs).tolist() == [9, 9, 9, 9]
