"""Maintenance windows: when devices may be offered something new. Pure; the time is given.

    mon-fri 01:00-05:00
    sat,sun 22:00-06:00; wed 12:00-13:00 Europe/Berlin

Rules:
- Times are UTC unless a time zone such as Europe/Berlin is named, so that they mean the same on every machine of
  the service.
- A window that ends before it begins ends on the next day; the day named is the one on which it begins.
- The hour that a clock skips or repeats in spring and autumn is the time zone's, not ours.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

from edgepick_wire.errors import MalformedError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AHEAD_DAYS = 16
"""A window of one day a week may fall into the hour that the clock skips; the next one lies within these days."""

_SPAN = re.compile(r"(?:([a-z,\- ]+?) +)?(\d\d):(\d\d) *- *(\d\d):(\d\d)")
_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of some days of the week, in minutes since midnight; ``end`` may lie on the next day."""

    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When devices may be offered something new; ``zone`` is a name of the IANA database, empty for UTC."""

    spans: tuple[Span, ...]
    zone: str = ""

    def opens(self, at: float) -> float | None:
        """Return when it opens next, in seconds since the epoch; ``None`` while it is open."""
        pieces = list(self._pieces(at))
        if any(start <= at < end for start, end in pieces):
            return None
        return min(start for start, end in pieces if start > at and end > start)

    def text(self, at: float) -> str:
        """Return a moment as people at the window's place read it."""
        return datetime.fromtimestamp(at, _zone(self.zone)).strftime("%a %Y-%m-%d %H:%M ") + (self.zone or "UTC")

    def _pieces(self, at: float) -> Iterator[tuple[float, float]]:
        """Yield the beginning and end of each window around ``at``, from the day before it on."""
        zone = _zone(self.zone)
        midnight = datetime.combine(datetime.fromtimestamp(at, zone).date(), time())
        for ahead in range(-1, AHEAD_DAYS):
            day = midnight + timedelta(days=ahead)
            for span in self.spans:
                if day.weekday() in span.days:
                    ends = (day + timedelta(minutes=minute) for minute in (span.start, span.end))
                    start, end = (moment.replace(tzinfo=zone).timestamp() for moment in ends)
                    yield start, end


@lru_cache(maxsize=64)
def parse_window(text: str) -> Window:
    """Return the window that a person wrote.

    Raises:
        MalformedError: Unreadable, or a time zone that is not known here.
    """
    head, _, last = text.strip().rpartition(" ")
    zone = last if "/" in last else ""
    body = head if zone or last == "UTC" else text.strip()
    _zone(zone)
    return Window(spans=tuple(_span(part.strip().lower(), text) for part in body.split(";")), zone=zone)


def _span(part: str, text: str) -> Span:
    found = _SPAN.fullmatch(part)
    if found is None:
        raise _unreadable(text)
    days, *digits = found.groups()
    hour, minute, end_hour, end_minute = map(int, digits)
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if max(minute, end_minute) > 59 or start >= _MINUTES or end > _MINUTES or start == end:
        raise _unreadable(text)
    return Span(days=_days(days or "daily", text), start=start, end=end if end > start else end + _MINUTES)


def _days(names: str, text: str) -> frozenset[int]:
    if names == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in names.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if not {first, last or first} <= set(DAYS):
            raise _unreadable(text)
        begin, length = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7
        found |= {(begin + ahead) % 7 for ahead in range(length + 1)}
    return frozenset(found)


@lru_cache(maxsize=64)
def _zone(name: str) -> timezone | ZoneInfo:
    if not name:
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise MalformedError(f"window: time zone {name!r} is not known here; UTC always is") from error


def _unreadable(text: str) -> MalformedError:
    return MalformedError(
        f"window {text!r}: expected days and times such as 'mon-fri 01:00-05:00' or "
        "'sat,sun 22:00-06:00; wed 12:00-13:00 Europe/Berlin'"
    )
