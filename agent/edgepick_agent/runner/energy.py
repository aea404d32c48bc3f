"""Energy of the timed runs, by one sensor.

A counter is read at both ends of the latency pass: two reads disturb nothing. An instantaneous
power is sampled by a thread, never faster than the sensor refreshes, and only in a pass of its own:
sampling a Raspberry Pi 5's PMIC at 50 Hz slowed one workload six times.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

from edgepick_agent import instruments
from edgepick_agent.core.energy import (
    CpuUse,
    EnergyWindow,
    estimated,
    idle_seconds,
    not_measured,
    summarise_energy,
    trapezoid,
    window_seconds,
)
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.ports import PowerSensor, SensorKind
from edgepick_wire.metrics import EnergySummary
from edgepick_wire.pairing import BLOCKS

MOST_BLIND = 0.1
"""Share of a sampled window that reads which fail may take, with the period that each stands for."""
MOST_READS = 3
"""A counter that does not answer is asked again: one of its reads stands for a whole window."""


class Meter:
    """The energy side of one measurement; without a usable sensor it only knows the reason."""

    def __init__(self, spec: RunnerSpec) -> None:
        self._sensor, self._reason = _find(spec)
        self._max_seconds = spec.plan.max_seconds
        self._idle: list[EnergyWindow | None] = []
        self._load: EnergyWindow | None = None
        self._from: tuple[float, float] | None = None
        self._use: CpuUse | None = None
        self._watts = spec.power.watts
        if self._sensor and window_seconds(self._sensor.period_seconds) > self._max_seconds:
            self._reason = (
                f"{self._sensor.source} needs a window of {window_seconds(self._sensor.period_seconds):.3g} s,"
                f" the plan allows {self._max_seconds:g} s"
            )
            self._sensor = None

    @property
    def _counter(self) -> PowerSensor | None:
        return self._sensor if self._sensor and self._sensor.kind is SensorKind.ENERGY else None

    def idle(self) -> None:
        """Take one idle window; called before and after the runs."""
        if self._sensor:
            seconds = idle_seconds(self._sensor.period_seconds)
            self._idle.append(_window(self._sensor, lambda: _sleep(seconds)))

    def start(self) -> None:
        """Read the counter at the start of the timed runs."""
        self._from = _reading(self._counter) if self._counter else None

    def poll(self) -> None:
        """Read the counter so that it cannot wrap twice unseen; due every 10 s.

        The smallest range, 2**32 uJ, lasts 15 s at 280 W.
        """
        if self._counter:
            self._counter.read()

    def stop(self, inferences: int) -> None:
        """Read the counter at the end of the timed runs."""
        end = _reading(self._counter) if self._counter else None
        if self._from and end:
            self._load = _between(self._from, end, inferences)

    def spent(self, inferences: int) -> float | None:
        """Return the energy per inference since :meth:`start`, by a counter over a window long enough for it."""
        end = _reading(self._counter) if self._counter else None
        window = _between(self._from, end, inferences) if self._from and end else None
        return self._summarised(self._counter, window).gross_uj if self._counter and window else None

    def used(self, cpu_seconds: float, seconds: float, inferences: int) -> None:
        """Remember what an estimate needs, should there be nothing better."""
        self._use = CpuUse(cpu_seconds=cpu_seconds, seconds=seconds, inferences=inferences)

    def sample(self, run_for: Callable[[float], int]) -> None:
        """For a sensor of power, make the pass of its own: ``run_for(seconds)`` returns its inferences."""
        if self._sensor and not self._counter:
            seconds = window_seconds(self._sensor.period_seconds)
            self._load = _window(self._sensor, lambda: run_for(seconds))

    @property
    def tells_quads(self) -> bool:
        """Whether the four blocks of a quad, each a window of its own, fit into the plan's longest time."""
        return self._sensor is not None and BLOCKS * window_seconds(self._sensor.period_seconds) <= self._max_seconds

    def block(self, run_for: Callable[[float], int]) -> float | None:
        """Return the energy per inference of ``run_for(seconds)``, net of idle power; ``None`` if it cannot be told."""
        if self._sensor is None:
            return None
        seconds = window_seconds(self._sensor.period_seconds)
        window = _window(self._sensor, lambda: run_for(seconds))
        return self._summarised(self._sensor, window).net_uj if window else None

    def summary(self) -> EnergySummary:
        """Return energy per inference, or why there is none."""
        if self._sensor is None:
            return self._estimate(self._reason)
        if self._load is None:
            return not_measured(f"{self._sensor.source} could not be read during the run")
        return self._summarised(self._sensor, self._load)

    def _summarised(self, sensor: PowerSensor, load: EnergyWindow) -> EnergySummary:
        return summarise_energy(
            load,
            [window for window in self._idle if window],
            source=sensor.source,
            scope=sensor.scope,
            period_seconds=sensor.period_seconds,
        )

    def _estimate(self, reason: str) -> EnergySummary:
        if self._watts is None or self._use is None:
            return not_measured(reason)
        return estimated(self._use, self._watts, reason)


def _find(spec: RunnerSpec) -> tuple[PowerSensor | None, str]:
    """Return the external meter if there is one, for somebody wanted it; else the first sensor that can be used."""
    if spec.meter_fd is not None:
        meter = instruments.external_meter(spec.meter_fd, spec.power.period_seconds)
        reason = meter.why_not()
        return (None, reason) if reason else (meter, "")
    sensors, reason = instruments.find_sensors(spec.sensors, Path(spec.sysfs_root))
    return (sensors[0] if sensors else None), reason


def _sleep(seconds: float) -> int:
    time.sleep(seconds)
    return 0


def _reading(counter: PowerSensor) -> tuple[float, float] | None:
    for _ in range(MOST_READS):
        value = counter.read()
        if value is not None:
            return time.monotonic(), value
    return None


def _between(first: tuple[float, float], last: tuple[float, float], inferences: int) -> EnergyWindow | None:
    seconds = last[0] - first[0]
    return EnergyWindow(energy_uj=last[1] - first[1], seconds=seconds, inferences=inferences) if seconds > 0 else None


def _window(sensor: PowerSensor, work: Callable[[], int]) -> EnergyWindow | None:
    """Return what the sensor saw while ``work``, which returns its inferences, ran."""
    if sensor.kind is SensorKind.ENERGY:
        first = _reading(sensor)
        inferences = work()
        last = _reading(sensor)
        return _between(first, last, inferences) if first and last else None
    with Sampler(sensor) as sampler:
        inferences = work()
    return sampler.window(inferences)


@final
class Sampler:
    """Reads a sensor of power in a thread, from entering the block to leaving it.

    The window is the block's, however long a read at its edge takes: the power there is that of the nearest read.
    """

    def __init__(self, sensor: PowerSensor) -> None:
        self._sensor = sensor
        self._reads: list[tuple[float, float, float | None]] = []
        self._end = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="power-sampler", daemon=True)

    def __enter__(self) -> "Sampler":
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end = time.monotonic()
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(self._sensor.period_seconds):
            self._take()

    def _take(self) -> None:
        asked = time.monotonic()
        power = self._sensor.read()
        self._reads.append((asked, time.monotonic(), power))

    def window(self, inferences: int) -> EnergyWindow | None:
        """Return the integral over the block that has been left, or ``None`` if too much of it was not seen."""
        (_, begin, _), end = self._reads[0], self._end
        failed = [(asked, min(at, end)) for asked, at, power in self._reads[1:] if power is None and asked < end]
        blind = sum(self._sensor.period_seconds + at - asked for asked, at in failed)
        # What the read that was under way at the end tells is the power of another time.
        seen = [(at, power) for _, at, power in self._reads if power is not None and at <= end]
        if len(seen) < 2 or blind > MOST_BLIND * (end - begin):
            return None
        times, powers = zip(*seen, strict=True)
        energy_uj = trapezoid([begin, *times, end], [powers[0], *powers, powers[-1]])
        return EnergyWindow(energy_uj=energy_uj, seconds=end - begin, inferences=inferences)
