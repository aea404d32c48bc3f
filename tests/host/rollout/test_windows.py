"""When a maintenance window is open, and when it opens next."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.waves import Plan
from edgepick_host.core.windows import DAYS, Span, Window, parse_window
from edgepick_wire.errors import MalformedError

SPANS = st.builds(
    lambda days, start, length: Span(days=frozenset(days), start=start, end=start + length),
    st.sets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1439),
)


def inside(window: Window, at: datetime) -> bool:
    """Return whether a moment lies in a window, minute by minute of the week."""
    week = at.weekday() * 1440 + at.hour * 60 + at.minute
    covered = {
        (day * 1440 + minute) % 10080
        for span in window.spans
        for day in span.days
        for minute in range(span.start, span.end)
    }
    return week in covered


@given(st.lists(SPANS, min_size=1, max_size=2), st.integers(0, 4_000_000_000))
def test_a_window_is_open_when_its_days_and_times_say_so(spans, at):
    """Open in exactly its minutes; otherwise the moment named is the first of the next ones."""
    window = Window(spans=tuple(spans))
    now = datetime.fromtimestamp(at, timezone.utc)

    opens = window.opens(at)

    assert (opens is None) is inside(window, now)
    if opens is not None:
        then = datetime.fromtimestamp(opens, timezone.utc)
        assert opens > at
        assert inside(window, then)
        assert not inside(window, then - timedelta(minutes=1))


def berlin(*clock: int) -> float:
    return datetime(*clock, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


def test_a_named_time_zone_keeps_its_summer_time():
    """Five in the morning is five in the morning, in January and in July."""
    window = parse_window("mon-fri 01:00-05:00 Europe/Berlin")

    assert window.opens(berlin(2026, 1, 5, 4, 59)) is None
    assert window.opens(berlin(2026, 7, 6, 4, 59)) is None
    assert window.opens(berlin(2026, 7, 6, 5, 0)) == berlin(2026, 7, 7, 1, 0)
    assert window.opens(berlin(2026, 7, 10, 12, 0)) == berlin(2026, 7, 13, 1, 0)
    assert window.text(berlin(2026, 7, 13, 1, 0)) == "Mon 2026-07-13 01:00 Europe/Berlin"


def test_a_window_in_the_hour_that_the_clock_skips_opens_a_week_later():
    """On the Sunday on which summer time begins there is no half past two."""
    window = parse_window("sun 02:00-03:00 Europe/Berlin")

    assert window.opens(berlin(2026, 3, 28, 12, 0)) == berlin(2026, 4, 5, 2, 0)


@pytest.mark.parametrize(
    ("text", "days", "hours"),
    [
        ("01:00-05:00", range(7), (1, 5)),
        ("daily 01:00-05:00 UTC", range(7), (1, 5)),
        ("Mon-Fri 22:00-06:00", range(5), (22, 30)),
        ("sat, sun 00:00-24:00", (5, 6), (0, 24)),
        ("sat-mon 01:00 - 05:00", (5, 6, 0), (1, 5)),
    ],
)
def test_windows_are_read_as_they_are_meant(text, days, hours):
    """Days in ranges and lists, times that reach into the next day."""
    (span,) = parse_window(text).spans

    assert span == Span(days=frozenset(days), start=hours[0] * 60, end=hours[1] * 60)
    assert len(DAYS) == 7


@pytest.mark.parametrize(
    "text",
    [
        "mon",
        "mon 1:00-2:00",
        "mon 01:00",
        "01:60-02:00",
        "24:00-01:00",
        "01:00-01:00",
        "abc 01:00-02:00",
        "",
        "01:00-02:00;",
    ],
)
def test_a_window_that_cannot_be_read_is_refused_with_an_example(text):
    """What is not days and times is shown beside a window that is."""
    with pytest.raises(MalformedError, match="01:00-05:00"):
        Plan(version="1", window=text or " ")


def test_a_time_zone_that_is_not_known_is_refused():
    """UTC always is; whatever else depends on the machine's database."""
    with pytest.raises(MalformedError, match="Europe/Atlantis"):
        parse_window("mon 01:00-02:00 Europe/Atlantis")
