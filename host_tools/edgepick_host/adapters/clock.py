"""The clock port over the system's clocks."""

import time


class SystemClock:
    """Keeps :class:`edgepick_host.ports.Clock`."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()
