"""What the board did, and what this process used, while something was timed, and in the passes after it."""

import time
from collections.abc import Sequence
from pathlib import Path

from edgepick_agent import instruments
from edgepick_agent.core.board_state import BoardReading
from edgepick_agent.core.conditions import OwnUse, conditions, with_passes
from edgepick_agent.core.profile import BoardSample
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.runner import process
from edgepick_wire.metrics import Conditions

MOST_GLANCES = 600


class Watch:
    """Looks at the board before, during and after."""

    def __init__(self, spec: RunnerSpec) -> None:
        self._board = instruments.board(Path(spec.sysfs_root))
        self._stand_in = spec.stand_in
        self._before = BoardReading()
        self._after = self._last = BoardReading()
        self._own = self._own_whole = OwnUse(seconds=0.0, cpu_seconds=0.0, preemptions=0)
        self._timed_glances = 0
        self._since = (0.0, 0.0, 0)
        self.during: list[BoardSample] = []

    @property
    def cpus(self) -> int:
        """How many CPUs the machine has."""
        return self._after.cpus

    def start(self) -> None:
        """Look before."""
        self._before = self._board.read()
        self._since = (time.monotonic(), *process.own_use())

    def glance(self) -> None:
        """Look in between, if there is something to see and not too much has been seen."""
        if len(self.during) >= MOST_GLANCES:
            return
        at_ns = time.monotonic_ns()
        seen = self._board.glance()
        if seen != BoardReading():
            self.during.append(
                BoardSample(
                    at_ns=at_ns,
                    temperature_mc=seen.temperature_mc,
                    frequency_khz=seen.frequency_khz,
                    cooling_now=seen.cooling_now,
                )
            )

    def stop(self) -> None:
        """Look after the timed runs."""
        self._own = self._used()
        self._after = self._board.read()
        self._timed_glances = len(self.during)

    def end(self) -> None:
        """Look once more after the last of the passes that followed the timed runs, if there were any."""
        self._own_whole = self._used()
        self._last = self._board.read()

    def _used(self) -> OwnUse:
        cpu_seconds, preemptions = process.own_use()
        began, cpu_before, preempted_before = self._since
        return OwnUse(
            seconds=time.monotonic() - began,
            cpu_seconds=cpu_seconds - cpu_before,
            preemptions=preemptions - preempted_before,
        )

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this process between start and stop."""
        return self._own.cpu_seconds

    def conditions(self) -> Conditions:
        """Return what there was to see."""
        timed = self._until(self._after, self._own, self.during[: self._timed_glances])
        if not self._own_whole.seconds:
            return timed
        return with_passes(timed, self._until(self._last, self._own_whole, self.during), self.cpus)

    def _until(self, after: BoardReading, own: OwnUse, during: Sequence[BoardSample]) -> Conditions:
        machine = self._board.machine()
        return conditions(self._before, after, machine=machine, stand_in=self._stand_in, own=own, during=during)
