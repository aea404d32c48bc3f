"""A board whose power is known: it plays a curve into a stand-in for sysfs, in real time, and keeps the integral.

The curve is idle power, a swing, and more while a runner of this process computes, as a supply's
capacitors smooth it. Two sensors show it: a RAPL counter that wraps every few seconds, and an INA226
whose reads fail now and then. What was played is kept, so its integral over any stretch is exact.
"""

import bisect
import contextlib
import itertools
import math
import os
import shutil
import threading
import time
from pathlib import Path
from typing import final

IDLE_WATTS, BUSY_WATTS, SWING_WATTS, SWING_SECONDS = 2.0, 3.0, 0.4, 0.9
SMOOTHING_SECONDS = 0.05
STEP_SECONDS = 0.002
RANGE_UJ = 8_000_000
MILLIVOLTS = 5000
FAILING_EVERY = 40

COUNTER = "sys/class/powercap/intel-rapl:0"
LINE = "sys/class/hwmon/hwmon0"


@final
class PowerPlayer:
    """Plays while inside the block."""

    def __init__(self, root: Path, sensor: str, period_ms: int = 10) -> None:
        self._counter = sensor == "powercap-rapl"
        folder = root / (COUNTER if self._counter else LINE)
        folder.mkdir(parents=True)
        self._folder = folder
        files = (
            {"name": "package-0", "max_energy_range_uj": str(RANGE_UJ)}
            if self._counter
            else {"name": "ina226", "in1_input": str(MILLIVOLTS), "update_interval": str(period_ms)}
        )
        for name, content in files.items():
            (folder / name).write_text(f"{content}\n")
        shown = folder / ("energy_uj" if self._counter else "curr1_input")
        self._file = os.open(shown, os.O_RDWR | os.O_CREAT, 0o644)
        self._times: list[float] = []
        self._joules: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self._show(0.0, IDLE_WATTS)

    def __enter__(self) -> "PowerPlayer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()
        os.close(self._file)

    def _end(self) -> None:
        self._stop.set()
        self._thread.join()

    def unplug(self) -> None:
        """Take the sensor away as a kernel does: its files are gone, and whoever holds one open reads nothing."""
        self._end()
        shutil.rmtree(self._folder)
        os.ftruncate(self._file, 0)

    def _loop(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        watts = IDLE_WATTS
        joules, before, worked = 0.0, time.monotonic(), 0
        self._keep(before, joules)
        while not self._stop.wait(STEP_SECONDS):
            now, working = time.monotonic(), self._work()
            joules += watts * (now - before)
            busy = min(1.0, max(0.0, (working - worked) / 1e9 / (now - before))) if worked and working else 0.0
            swing = SWING_WATTS * math.sin(2 * math.pi * now / SWING_SECONDS)
            share = 1 - math.exp(-(now - before) / SMOOTHING_SECONDS)
            watts += share * (IDLE_WATTS + BUSY_WATTS * busy + swing - watts)
            self._show(joules, watts)
            self._keep(now, joules)
            before, worked = now, working

    def _keep(self, at: float, joules: float) -> None:
        self._times.append(at)
        self._joules.append(joules)

    def _show(self, joules: float, watts: float) -> None:
        if self._counter:
            text = str(round(joules * 1e6) % RANGE_UJ)
        else:
            # The line carries 5 V, so a watt is 200 mA.
            failing = len(self._times) % FAILING_EVERY == FAILING_EVERY - 1
            text = "" if failing else str(round(watts * 1e6 / MILLIVOLTS))
        # One write of one length in place: whoever reads sees the old value or the new one.
        os.pwrite(self._file, f"{text:<15}\n".encode(), 0)

    def _work(self) -> int:
        """Return the nanoseconds that the runners of this process have computed."""
        total = 0
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    total += int(Path(f"/proc/{child}/schedstat").read_text().split()[0])
        return total

    @property
    def played_seconds(self) -> float:
        """How long it has played, from its first step to its last."""
        return self._times[-1] - self._times[0] if self._times else 0.0

    def joules(self, begin: float, end: float) -> float:
        """Return the integral of what was played between two monotonic times."""
        return self._at(end) - self._at(begin)

    def watts(self, begin: float, end: float) -> float:
        """Return the mean power between two monotonic times."""
        return self.joules(begin, end) / (end - begin)

    def _at(self, moment: float) -> float:
        i = self._step(moment)
        share = (moment - self._times[i - 1]) / (self._times[i] - self._times[i - 1])
        return self._joules[i - 1] + share * (self._joules[i] - self._joules[i - 1])

    def _step(self, moment: float) -> int:
        """Return the number of the step that was the next one at that time."""
        return min(max(1, bisect.bisect_left(self._times, moment)), len(self._times) - 1)

    def gap_at(self, moment: float) -> float:
        """Return the time between the two steps around a moment."""
        i = self._step(moment)
        return self._times[i] - self._times[i - 1]

    def longest_gap(self, begin: float, end: float) -> float:
        """Return the longest time between two steps: on a busy machine the player itself may have to wait."""
        times = [t for t in self._times if begin - 0.1 <= t <= end + 0.1]
        return max(b - a for a, b in itertools.pairwise(times))
