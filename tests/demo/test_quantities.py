"""Figures are rounded once, carry a unit, and never invent a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.demo import quantities as q


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (q.size_text(999), "999 B"),
        (q.size_text(1000), "1.00 kB"),
        (q.size_text(999_499), "999 kB"),
        (q.size_text(999_500), "1.00 MB"),
        (q.size_text(64 * 1024 * 1024), "67.1 MB"),
        (q.latency_text(999_499), "999 µs"),
        (q.latency_text(999_500), "1.00 ms"),
        (q.latency_text(17_560_000), "17.6 ms"),
        (q.energy_text(412.4), "412 µJ"),
        (q.energy_text(999.5), "1.00 mJ"),
        (q.share_text(0.994), "99.4 %"),
        (q.drop_text(0.013), "\N{MINUS SIGN}1.3 pt"),
        (q.drop_text(-0.002), "+0.2 pt"),
        (q.drop_text(0.0004), "±0.0 pt"),
        (q.times_text(2.99), "3.0\N{MULTIPLICATION SIGN}"),
        (q.pace_text(1.04), "as fast"),
        (q.pace_text(0.97), "as fast"),
        (q.pace_text(0.5), "2.0\N{MULTIPLICATION SIGN} slower"),
        (q.pace_text(1.9), "1.9\N{MULTIPLICATION SIGN} faster"),
        (q.seconds_text(59.94), "59.9 s"),
        (q.seconds_text(74.2), "1 min 14 s"),
        (q.seconds_text(119.7), "2 min 00 s"),
    ],
)
def test_figures_read_as_people_write_them(text: str, expected: str) -> None:
    """Three significant digits, the unit that fits, a real minus sign."""
    assert text == expected


def test_what_is_not_known_is_a_dash() -> None:
    """No function turns a missing value into a zero."""
    texts = [f(None) for f in (q.size_text, q.latency_text, q.energy_text, q.share_text, q.drop_text, q.seconds_text)]

    assert set(texts) == {q.UNKNOWN}


@given(st.integers(min_value=0, max_value=10**13))
def test_a_size_stays_within_half_a_percent(size: int) -> None:
    """Rounding never misleads about a size."""
    number, unit = q.size_text(size).split()

    assert float(number) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit] == pytest.approx(size, rel=0.00501)
