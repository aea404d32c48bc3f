"""The hours of the day in which a device may download: ``"22:00-06:00"``."""

import re

DAY_SECONDS = 86400.0
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def parse_hours(text: str) -> tuple[int, int] | None:
    """Return beginning and end in seconds since midnight; ``None`` if that is not what the text says."""
    found = _HOURS.fullmatch(text)
    if found is None:
        return None
    begin_hour, begin_minute, end_hour, end_minute = map(int, found.groups())
    return begin_hour * 3600 + begin_minute * 60, end_hour * 3600 + end_minute * 60


def seconds_until_open(text: str, time_of_day: float) -> float:
    """Return how long it takes until downloads are allowed; 0 while they are.

    The end is no longer within; hours may pass midnight, and hours that end as they begin are the whole day.

    Args:
        text: The hours; anything that is not hours allows everything, as the configuration refuses it.
        time_of_day: Seconds since local midnight.
    """
    hours = parse_hours(text)
    if hours is None or hours[0] == hours[1]:
        return 0.0
    begin, end = hours
    within = (time_of_day - begin) % DAY_SECONDS < (end - begin) % DAY_SECONDS
    return 0.0 if within else (begin - time_of_day) % DAY_SECONDS
