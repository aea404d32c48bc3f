"""What the board did, and what this process used, while something was timed."""

import time
from pathlib import Path

from edgepick_agent import instruments
from edgepick_agent.core.board_state import BoardReading
from edgepick_agent.core.conditions import OwnUse, conditions
from edgepick_agent.core.profile import BoardSample
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.runner import process
from edgepick_wire.metrics import Conditions

GLANCE_NS = 1_000_000_000
"""A glance costs about 0.1 ms between two timed runs; once a second is one in ten thousand."""
MOST_GLANCES = 600


class Watch:
    """Looks at the board before, during and after."""

    def __init__(self, spec: RunnerSpec) -> None:
        self._board = instruments.board(Path(spec.sysfs_root))
        self._stand_in = spec.stand_in
        self._before = BoardReading()
        self._after = BoardReading()
        self._own = OwnUse(seconds=0.0, cpu_seconds=0.0, preemptions=0)
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
        temperature, frequency = self._board.glance()
        if temperature is not None or frequency is not None:
            self.during.append(BoardSample(at_ns=at_ns, temperature_mc=temperature, frequency_khz=frequency))

    def stop(self) -> None:
        """Look after."""
        cpu_seconds, preemptions = process.own_use()
        began, cpu_before, preempted_before = self._since
        self._own = OwnUse(
            seconds=time.monotonic() - began,
            cpu_seconds=cpu_seconds - cpu_before,
            preemptions=preemptions - preempted_before,
        )
        self._after = self._board.read()

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this process between start and stop."""
        return self._own.cpu_seconds

    def conditions(self) -> Conditions:
        """Return what there was to see."""
        return conditions(
            self._before,
            self._after,
            machine=self._board.machine(),
            stand_in=self._stand_in,
            own=self._own,
            during=self.during,
        )
