"""The hours in which a device may download."""

from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.core.hours import DAY_SECONDS, parse_hours, seconds_until_open

NIGHT = "22:00-06:00"
TIMES = st.floats(0, DAY_SECONDS, exclude_max=True)


def test_hours_may_pass_midnight():
    """From ten in the evening to six in the morning: open at both sides of midnight, closed at noon."""
    waits = [seconds_until_open(NIGHT, hour * 3600.0) for hour in (22, 23, 0, 5, 6, 12, 21)]

    assert waits == [0, 0, 0, 0, 16 * 3600, 10 * 3600, 3600]


def test_hours_that_end_as_they_begin_are_the_whole_day():
    """There is no such thing as a device that may never download."""
    assert seconds_until_open("08:00-08:00", 3.0) == 0


def test_what_is_not_hours_is_not_taken_for_hours():
    """Hours beyond the day, missing minutes and words are told apart from hours."""
    assert [parse_hours(text) for text in ("24:00-06:00", "22-6", "at night", "22:00-06:60", "")] == [None] * 5


@given(begin=st.integers(0, 1439), end=st.integers(0, 1439), now=TIMES)
def test_after_the_wait_it_is_open(begin, end, now):
    """Whoever waits as long as told finds it open."""
    hours = f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"

    wait = seconds_until_open(hours, now)

    assert 0 <= wait <= DAY_SECONDS
    # Half a second later, as the sum of two floats may fall just short of the full minute.
    assert seconds_until_open(hours, (now + wait + (0.5 if wait else 0.0)) % DAY_SECONDS) == 0
