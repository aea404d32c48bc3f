"""An external meter, whose relay writes watts into a pipe that the runner inherited.

The relay is a process beside the runner, as a runner has no network and may start nothing.
"""

import os
import select
import time

from edgepick_agent.core.meter import COMPLAINT, watts
from edgepick_agent.ports import SensorKind

STALE_PERIODS = 3.0
LEAST_FRESH_SECONDS = 0.5
FIRST_PERIODS, LEAST_FIRST_SECONDS = 3.0, 20.0
"""A command may be a program that loads for long on a slow board; one that fails is told at once."""


class ExternalMeter:
    """The supply of the board, in microwatts; keeps :class:`edgepick_agent.ports.PowerSensor`."""

    source = "external-meter"
    scope = "supply"
    kind = SensorKind.POWER

    def __init__(self, descriptor: int, period_seconds: float) -> None:
        self.period_seconds = period_seconds
        self._descriptor = descriptor
        self._rest = b""
        self._last: tuple[float, float] | None = None
        self._complaint = ""
        os.set_blocking(descriptor, False)

    def why_not(self) -> str | None:
        """Return why it tells nothing, after waiting for its first value; ``None`` once there is one."""
        patience = max(LEAST_FIRST_SECONDS, FIRST_PERIODS * self.period_seconds)
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            select.select([self._descriptor], [], [], left)
            over = self._take()
            if self._last is not None:
                return None
            if over or self._complaint:
                break
        said = self._complaint or f"no value within {patience:g} s"
        return f"{self.source}: {said}"

    def read(self) -> float | None:
        """Return the last value while it is fresh; ``None`` if the meter fell silent."""
        self._take()
        if self._last is None:
            return None
        since, value = self._last
        fresh = max(LEAST_FRESH_SECONDS, STALE_PERIODS * self.period_seconds)
        return value * 1e6 if time.monotonic() - since <= fresh else None

    def _take(self) -> bool:
        """Take what the relay wrote; return whether it has ended."""
        while True:
            try:
                piece = os.read(self._descriptor, 4096)
            except OSError:
                return False
            if not piece:
                return True
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        value = watts(line)
        if value is not None:
            self._last = (time.monotonic(), value)
        elif line.startswith(COMPLAINT):
            self._complaint = line.removeprefix(COMPLAINT)[:300]
