"""A device's history on a terminal, whatever the device took for the time and for true."""

from dataclasses import replace

import pytest

from edgepick_host.cli.devices import _told
from edgepick_host.cli.render import time_text
from fleet.synthetic import measured, measurement, release


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "1970-01-01 00:00:00 UTC"),
        (253_402_300_799.0, "9999-12-31 23:59:59 UTC"),
        (1e308, "1e+308 s"),
        (-5.0, "-5 s"),
    ],
)
def test_any_clock_can_be_shown(seconds, shown):
    """A time in a year of four digits is shown as one; any other number as it is."""
    assert time_text(seconds) == shown


def test_a_measurement_that_cannot_be_is_marked():
    """Its row says that it is not used, and which figure is the reason."""
    honest = measured("pi-1", release("a"), measurement())
    lie = measured("pi-1", release("a"), measurement(-1.0))

    rows = [_told(replace(report, recorded_at=1e300)) for report in (honest, lie)]

    assert rows[0][-1].endswith(": valid")
    assert ": not used: it reports what cannot be: latency.min_ns is -1000000; possible is more than 0" in rows[1][-1]
