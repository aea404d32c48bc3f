"""The machine's clocks."""

import time


class SystemClock:
    """Keeps :class:`edgepick_agent.ports.Clock`."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


def time_of_day(wall: float) -> float:
    """Return the seconds since local midnight at ``wall`` seconds since the epoch, in the machine's time zone."""
    local = time.localtime(wall)
    return local.tm_hour * 3600.0 + local.tm_min * 60.0 + local.tm_sec
