"""Who is in which wave, and which plans are refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.schedule import CANARY, parse_waves
from edgepick_host.core.watches import harm_rules
from edgepick_host.core.waves import Plan, Seat, seat
from edgepick_host.errors import ConfigError
from edgepick_wire.errors import MalformedError

NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), unique=True, min_size=1, max_size=60)


@given(NAMES, st.integers(1, 5), st.sampled_from([(1.0,), (0.1, 0.5, 1.0), (0.01, 1.0)]), st.randoms())
def test_membership_is_the_same_at_every_reading(names, canary, waves, order):
    """Every device has exactly one wave, whatever order the devices are read in."""
    plan = Plan(version="1", canary=canary, waves=waves)
    seats = [Seat(device=n, online=True, previous=None) for n in names]
    first = seat("r-1", plan, seats)
    order.shuffle(seats)

    assert seat("r-1", plan, seats) == first
    assert sorted(m.device for m in first) == sorted(names)
    assert sum(m.wave == CANARY for m in first) == min(canary, len(names))


@given(NAMES, st.sampled_from([(0.25, 0.5, 1.0), (0.5, 1.0)]))
def test_a_wave_ends_where_its_share_says(names, waves):
    """After wave n no more than its share of the devices was reached (rounded up, and the canary at least)."""
    plan = Plan(version="1", waves=waves)
    members = seat("r-1", plan, [Seat(device=n, online=True, previous=None) for n in names])

    for number, share in enumerate(waves, start=1):
        reached = sum(m.wave <= number for m in members)
        assert reached <= max(share * len(names) + 1, 1)
        assert reached >= share * len(names) - 1e-6


def test_the_canary_prefers_devices_that_are_online():
    """An offline device is canary only when none is online."""
    seats = [Seat(device=f"d{n}", online=n == 7, previous=None) for n in range(20)]

    members = seat("r-1", Plan(version="1"), seats)

    assert [m.device for m in members if m.wave == CANARY] == ["d7"]


def test_another_rollout_has_another_order():
    """The order is by rollout, so the same device is not the canary of every rollout."""
    seats = [Seat(device=f"d{n}", online=True, previous=None) for n in range(20)]

    orders = {tuple(m.device for m in seat(f"r-{n}", Plan(version="1"), seats)) for n in range(10)}

    assert len(orders) == 10


@pytest.mark.parametrize(
    "text", ["", "50%", "100%,50%", "0%,100%", "half", "10%,10%,100%", "10%;100%", "50%,120%", "10,50,100"]
)
def test_waves_that_end_before_everybody_or_do_not_rise_are_refused(text):
    """The message shows what a list of waves looks like."""
    with pytest.raises(ConfigError, match="the last one 100%"):
        parse_waves(text)


@pytest.mark.parametrize(
    "wrong",
    [{"canary": 0}, {"max_failures": 1.0}, {"min_confirmed": 0.0}, {"wave_seconds": 0.0}, {"soak_seconds": -1.0}],
)
def test_a_plan_that_gates_nothing_is_refused(wrong):
    """No canary, no deadline or a tolerance of everything is no plan."""
    with pytest.raises(MalformedError):
        Plan(version="1", **wrong)


@given(st.floats(1e-6, 0.4999))
def test_every_tolerance_that_a_plan_takes_can_be_watched(tolerated):
    """From one in a million to nearly half, it makes the rules of a harm monitor."""
    rules = harm_rules(Plan(version="1", tolerated=tolerated))

    assert rules is not None
    assert float(rules.tolerated) == pytest.approx(tolerated, abs=1e-6)


@pytest.mark.parametrize("tolerated", [5e-324, 1e-7, 0.4999999, 0.5, math.nan, math.inf, -0.1])
def test_a_tolerance_that_nothing_can_be_held_against_is_refused(tolerated):
    """What would be taken for nothing, or for half, is refused before anything starts, with what is allowed."""
    with pytest.raises(MalformedError, match=r"0 \(no watch\), or 0.0001 % \(0.000001\) to below 50 %"):
        Plan(version="1", tolerated=tolerated)


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["wave_seconds", "measure_seconds", "soak_seconds", "phase_seconds", "max_slower"])
def test_a_time_without_end_is_refused(name, number):
    """No document can hold it, and no deadline follows from it."""
    with pytest.raises(MalformedError):
        Plan(version="1", **{name: {"fetch": number} if name == "phase_seconds" else number})
