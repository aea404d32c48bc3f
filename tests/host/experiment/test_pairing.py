"""What a paired run promises: an order that nobody can foresee, and quads dropped without a look at who won."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.experiment.quads import block_median, device_effects, log_ratio
from edgepick_wire import codec
from edgepick_wire.errors import MalformedError
from edgepick_wire.pairing import Order, PairedRun, Quad, quad_order

KEY = "r-1"
GOLDEN = ["abba", "baab", "baab", "abba", "baab", "baab"]
"""The first orders of device pi-1: an agent in another language must find the same."""
BLOCKS = st.tuples(*[st.floats(1e3, 1e9)] * 4).filter(lambda b: max(b) / min(b) < 30)


def quad(index, blocks, **changes):
    return replace(Quad(index=index, order=quad_order(KEY, "d", index), latency_ns=tuple(blocks)), **changes)


def run(*quads):
    return PairedRun(against="a" * 64, key=KEY, block_runs=20, dropped_runs=3, quads=quads)


def latency(each):
    return each.latency_ns


def effects(*quads):
    return device_effects(run(*quads), "d", latency)


def test_the_coin_is_fair_and_the_same_for_host_and_device():
    """Over ten thousand throws either order comes up half of the time; the first throws are fixed for ever."""
    thrown = [quad_order(KEY, f"d{n % 100}", n // 100) for n in range(10_000)]

    assert abs(thrown.count(Order.ABBA) - 5000) < 200
    assert [quad_order("r-1", "pi-1", n).value for n in range(6)] == GOLDEN


@given(BLOCKS, st.floats(0.9, 1.1))
def test_a_steady_drift_cancels(blocks, growth):
    """A machine that slows down by the same factor from block to block changes no effect."""
    drifting = [b * growth**i for i, b in enumerate(blocks)]

    for order in Order:
        assert log_ratio(order, drifting) == pytest.approx(log_ratio(order, blocks), abs=1e-9)


@given(BLOCKS)
def test_the_two_orders_see_the_same_blocks_with_opposite_sign(blocks):
    """What a position does to a block points one way under ABBA and the other under BAAB."""
    assert log_ratio(Order.ABBA, blocks) == -log_ratio(Order.BAAB, blocks)


def test_a_candidate_that_takes_half_the_time_is_minus_log_two():
    """The effect is the log of candidate over incumbent, whichever order the coin chose."""
    quads = [quad(n, (10, 5, 5, 10) if quad_order(KEY, "d", n) is Order.ABBA else (5, 10, 10, 5)) for n in range(8)]

    found = effects(*quads)

    assert found.values == pytest.approx([-math.log(2)] * 8)
    assert found.unit == pytest.approx(-math.log(2))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"invalid": "throttled"}, "throttled"),
        ({"order": "other"}, "the order is not the coin's"),
        ({"latency_ns": (1.0, float("nan"), 1.0, 1.0)}, "an impossible figure"),
        ({"latency_ns": (1.0, -5.0, 1.0, 1.0)}, "an impossible figure"),
        ({"latency_ns": (1.0, 0.0, 1.0, 1.0)}, "an impossible figure"),
        ({"latency_ns": (1.0, 1e9, 1e9, 1.0)}, "an impossible figure"),
    ],
)
def test_a_quad_that_may_not_be_used_is_counted_with_its_reason(bad, why):
    """Throttled, out of order or impossible: the quad is out, the reason is kept, the other quad stands."""
    if bad.get("order"):
        bad = {"order": next(o for o in Order if o is not quad_order(KEY, "d", 1))}

    found = effects(quad(0, (4, 4, 4, 4)), quad(1, (4, 4, 4, 4), **bad))

    assert found.dropped == {why: 1}
    assert found.values == (0.0,)


@given(st.lists(BLOCKS, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_dropping_is_blind_to_the_sign(many, order):
    """Exchanging the variants in every quad drops the same quads and turns every effect round."""
    quads = [quad(n, b, invalid="throttled" if order.random() < 0.3 else None) for n, b in enumerate(many)]
    turned = [replace(q, latency_ns=tuple(1e12 / b for b in q.latency_ns)) for q in quads]

    found, opposite = effects(*quads), effects(*turned)

    assert found.dropped == opposite.dropped
    assert opposite.values == pytest.approx([-v for v in found.values], abs=1e-6)


@given(st.lists(BLOCKS, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_quads_in_a_report_says_nothing(many, order):
    """A report with its quads in another order gives the same effects."""
    quads = [quad(n, b) for n, b in enumerate(many)]
    shuffled = order.sample(quads, len(quads))

    assert effects(*shuffled) == effects(*quads)


def test_the_first_inferences_of_a_block_are_dropped():
    """A block's figure is the median of what follows its first inferences; nothing left is an error."""
    assert block_median([900, 800, 10, 11, 12], 2) == 11
    with pytest.raises(ValueError, match="none left"):
        block_median([1, 2], 2)


def test_a_run_travels_and_comes_back():
    """A run is a wire value; one with a quad twice, or without four blocks, cannot be made."""
    one = run(quad(0, (1, 2, 3, 4)))

    assert codec.decode(PairedRun, codec.encode(one)) == one
    with pytest.raises(MalformedError):
        run(quad(0, (1, 2, 3, 4)), quad(0, (1, 2, 3, 4)))
    with pytest.raises(MalformedError):
        quad(0, (1, 2, 3))
