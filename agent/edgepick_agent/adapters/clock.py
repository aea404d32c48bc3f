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
