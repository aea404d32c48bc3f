"""What becomes of numbers on their way into a model and out of it, and the inputs that are made up."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.errors import InputError
from edgepick_agent.ports import TensorSpec
from edgepick_agent.runner.tensors import random_feed, to_real, to_tensor

INT8 = TensorSpec(name="a", shape=(1, 4), dtype="int8", scale=0.5, zero_point=-10)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    st.floats(1e-4, 10),
    st.integers(-128, 127),
)
def test_quantizing_is_rounding_within_the_range(values, scale, zero_point):
    """A real value comes back within half a step, or at the end of the range that it exceeds."""
    spec = TensorSpec(name="a", shape=(len(values),), dtype="int8", scale=scale, zero_point=zero_point)
    real = np.array(values, np.float64)

    back = to_real(to_tensor(real, spec), spec)

    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    np.testing.assert_allclose(back, np.clip(real, low, high), atol=scale * 0.500001, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "real", "said"),
    [
        ("uint8", np.array([256.0]), "do not fit uint8"),
        ("int32", np.array([-3e9]), "do not fit int32"),
        ("float32", np.array([np.nan]), "NaN"),
        ("str", np.array([1.0]), "only numbers"),
        ("float32", np.array(["a"]), "only numbers"),
    ],
)
def test_values_that_a_tensor_cannot_hold_are_refused(dtype, real, said):
    """Out of range, not finite, or not a number: an InputError with the values."""
    with pytest.raises(InputError, match=said):
        to_tensor(real, TensorSpec(name="a", shape=(1,), dtype=dtype))


def test_random_inputs_are_the_same_every_time():
    """Without golden inputs the seeded random ones are reproducible, of the right type, and zeros for indexes."""
    specs = (
        INT8,
        TensorSpec(name="f", shape=(-1, 3), dtype="float16"),
        TensorSpec(name="i", shape=(2,), dtype="int64"),
    )

    one, other = random_feed(specs), random_feed(specs)

    assert {name: (a.dtype.name, a.shape) for name, a in one.items()} == {
        "a": ("int8", (1, 4)),
        "f": ("float16", (1, 3)),
        "i": ("int64", (2,)),
    }
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not one["i"].any()


FEEDING = """
import sys, numpy
before = "numpy.random" in sys.modules
from edgepick_agent.ports import TensorSpec
from edgepick_agent.runner.tensors import random_feed
random_feed((TensorSpec(name="x", shape=(1, 32, 32, 3), dtype="float32"),))
sys.exit(before != ("numpy.random" in sys.modules))
"""


def test_a_made_up_input_costs_no_more_than_itself():
    """Feeding random numbers loads nothing that would be counted as the model's memory: with golden inputs none is."""
    assert subprocess.run([sys.executable, "-c", FEEDING], check=False).returncode == 0


def test_made_up_inputs_are_the_same_each_time():
    """Real inputs are float32 from 0 to below 1, all over it, in their shape; quantized ones are these in steps."""
    real = TensorSpec(name="x", shape=(1, 64, -1), dtype="float32")
    steps = TensorSpec(name="q", shape=(8,), dtype="int8", scale=0.01, zero_point=-100)

    one, other = random_feed((real, steps)), random_feed((real, steps))

    assert (one["x"].shape, one["x"].dtype, one["q"].dtype) == ((1, 64, 1), np.float32, np.int8)
    assert 0 <= one["x"].min() < 0.1
    assert 0.9 < one["x"].max() < 1
    assert -100 <= one["q"].min() < one["q"].max() <= 0
    assert all((one[name] == other[name]).all() for name in one)
