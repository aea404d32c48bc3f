"""Energy of a window from a counter or from power samples, and per inference.

E = (energy of the window - idle power x its length) / inferences. Sources and the window rule:
the trapezoid's error at the two edges is at most 2 x period x power range / (mean power x window);
for 1 % with a range as large as the mean, a window must last 200 sensor periods.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edgepick_wire.metrics import EnergySummary

PERIODS_PER_WINDOW = 200
IDLE_PERIODS = 50
LEAST_IDLE_SECONDS = 0.5
SAME_SHARE = 1e-6
"""Powers that differ by less of the idle one are the same, but for rounding."""
CLOCK_SLACK = 1e-3
"""A pass that was asked to last exactly the window may end up shorter by rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyWindow:
    """Energy that a sensor saw over a stretch of time.

    Attributes:
        energy_uj: Microjoules.
        seconds: Length.
        inferences: Inferences that ended in it; 0 for an idle window.
    """

    energy_uj: float
    seconds: float
    inferences: int = 0

    @property
    def power_uw(self) -> float:
        """Mean power in microwatts."""
        return self.energy_uj / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """What the timed runs used of the CPUs.

    Attributes:
        cpu_seconds: CPU time of all threads.
        seconds: Length of the timed runs.
        inferences: Their number.
    """

    cpu_seconds: float
    seconds: float
    inferences: int


def window_seconds(period_seconds: float) -> float:
    """Return how long a window must be for an edge error of at most 1 %."""
    return PERIODS_PER_WINDOW * period_seconds


def idle_seconds(period_seconds: float) -> float:
    """Return how long each of the two idle windows lasts."""
    return max(LEAST_IDLE_SECONDS, IDLE_PERIODS * period_seconds)


def trapezoid(times: Sequence[float], power_uw: Sequence[float]) -> float:
    """Return the integral of power samples in microjoules; times in seconds, rising."""
    steps = zip(times, times[1:], power_uw, power_uw[1:], strict=False)
    return sum((t1 - t0) * (p0 + p1) / 2 for t0, t1, p0, p1 in steps)


def not_measured(reason: str) -> EnergySummary:
    """Return the summary that says why there is no energy."""
    return EnergySummary(reason=reason)


def estimated(use: CpuUse, watts: float, reason: str) -> EnergySummary:
    """Return a labelled estimate: the board's typical watts for as long as at least one CPU computed.

    It knows nothing of clocks, memory, accelerators or losses, and may be wrong by a factor of two: it
    is for a person without a meter, and nothing is decided by it.
    """
    if not use.inferences:
        return not_measured(reason)
    return EnergySummary(
        gross_uj=watts * 1e6 * min(use.cpu_seconds, use.seconds) / use.inferences,
        window_seconds=use.seconds,
        inferences=use.inferences,
        source="cpu-time",
        scope="board",
        reason=f"{reason}; estimated from CPU time and {watts:g} W",
        estimated=True,
    )


def summarise_energy(
    load: EnergyWindow, idle: Sequence[EnergyWindow], *, source: str, scope: str, period_seconds: float
) -> EnergySummary:
    """Return energy per inference, unless the sensor stood still: gross, and net if the idle power can be told.

    The net figure is withheld when the load added nothing to the mean of the two idle powers, or less than
    they differ by: then the difference between idle and load is noise.
    """
    needed = window_seconds(period_seconds)
    if load.inferences == 0 or load.seconds < needed * (1 - CLOCK_SLACK):
        return not_measured(
            f"{source} needs a window of {needed:.3g} s for an error of 1 %, the timed window had {load.seconds:.3g} s"
        )
    if load.energy_uj <= 0:
        return not_measured(f"{source} stood still: no energy within {load.seconds:.3g} s of work")
    gross = load.energy_uj / load.inferences
    idle_uw, reason = _idle_power(load, idle)
    net = None if idle_uw is None or reason else gross - idle_uw * load.seconds / load.inferences
    return EnergySummary(
        gross_uj=gross,
        net_uj=net,
        idle_uw=idle_uw,
        window_seconds=load.seconds,
        inferences=load.inferences,
        source=source,
        scope=scope,
        reason=reason,
    )


def _idle_power(load: EnergyWindow, idle: Sequence[EnergyWindow]) -> tuple[float | None, str | None]:
    if len(idle) < 2:
        return None, "no net figure: idle power could not be read before and after the run"
    powers = [window.power_uw for window in idle]
    mean = sum(powers) / len(powers)
    spread, added = max(powers) - min(powers), load.power_uw - mean
    if added <= SAME_SHARE * mean:
        return mean, f"no net figure: {load.power_uw / 1e6:.3g} W is no more than the idle {mean / 1e6:.3g} W"
    if spread > added:
        return mean, f"no net figure: idle power changed by {spread / 1e6:.3g} W between before and after"
    return mean, None
