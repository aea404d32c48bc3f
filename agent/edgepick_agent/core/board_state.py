"""What a board looked like before and after a run, and what that says about the run.

Thresholds are ours; they only ever turn a verdict down, and each is named in the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgepick_wire.metrics import Conditions, LatencySummary, MeasurePlan, Verdict

FREQUENCY_DROP = 0.8
PRESSURE_SHARE = 0.10
SPREAD = 1.5

FIRMWARE_FLAGS = {0: "under-voltage", 1: "Arm frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of ``vcgencmd get_throttled``; bit + 16 says that it has happened since boot
(raspberrypi/documentation, graphics-utilities)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardReading:
    """One look at the board; ``None`` or empty where it cannot be read.

    Attributes:
        temperature_mc: Hottest thermal zone, millidegrees Celsius.
        frequency_khz: Mean current CPU frequency.
        governor: cpufreq governor of CPU 0.
        firmware_flags: The Raspberry Pi firmware's throttling word.
        cooling: Name of a throttling counter or cooling device -> its count; growth is throttling.
        cooling_now: Names of the CPU or GPU cooling devices that hold the clock down now.
        load_1min: System load average.
        cpus: Number of CPUs.
        cpu_pressure_us: PSI "some" CPU stall time since boot, microseconds.
    """

    temperature_mc: int | None = None
    frequency_khz: int | None = None
    governor: str | None = None
    firmware_flags: int | None = None
    cooling: Mapping[str, int] = field(default_factory=dict)
    cooling_now: tuple[str, ...] = ()
    load_1min: float | None = None
    cpus: int = 1
    cpu_pressure_us: int | None = None


def conditions(before: BoardReading, after: BoardReading, *, machine: str, stand_in: bool) -> Conditions:
    """Return the conditions of the run between two readings."""
    reasons = throttle_reasons(before, after)
    known = after.firmware_flags is not None or bool(after.cooling) or bool(reasons)
    return Conditions(
        stand_in=stand_in,
        machine=machine,
        temperature_mc=_pair(before.temperature_mc, after.temperature_mc),
        frequency_khz=_pair(before.frequency_khz, after.frequency_khz),
        governor=after.governor,
        throttled=bool(reasons) if known else None,
        throttle_reasons=reasons,
        load_1min=before.load_1min,
        cpu_pressure_us=_growth(before.cpu_pressure_us, after.cpu_pressure_us),
    )


def throttle_reasons(before: BoardReading, after: BoardReading) -> tuple[str, ...]:
    """Return why the board was slower than it could be: active at either end, or new since ``before``."""
    reasons = [text for bit, text in FIRMWARE_FLAGS.items() if _flagged(bit, before, after)]
    reasons += [f"{name} is cooling" for name in dict.fromkeys((*before.cooling_now, *after.cooling_now))]
    reasons += [
        f"{name} counted up" for name, count in after.cooling.items() if count > before.cooling.get(name, count)
    ]
    return tuple(reasons)


def _flagged(bit: int, before: BoardReading, after: BoardReading) -> bool:
    first, last = before.firmware_flags or 0, after.firmware_flags or 0
    new_since = (last & ~first) >> (bit + 16) & 1
    return bool((first | last) >> bit & 1 or new_since)


def _pair(first: int | None, last: int | None) -> tuple[int, ...]:
    return () if first is None or last is None else (first, last)


def _growth(first: int | None, last: int | None) -> int | None:
    return None if first is None or last is None else max(0, last - first)


def verdict(
    found: Conditions, latency: LatencySummary, plan: MeasurePlan, *, seconds: float, cpus: int
) -> tuple[Verdict, tuple[str, ...]]:
    """Return whether the run may be used, and every reason against it.

    Throttling makes it invalid. A machine busy with something else, a falling clock, a wide spread
    or too few runs make it degraded.
    """
    invalid = [f"throttled: {reason}" for reason in found.throttle_reasons]
    degraded = [*_busy(found, seconds, cpus), *_clock(found), *_samples(latency, plan, seconds)]
    if invalid:
        return Verdict.INVALID, (*invalid, *degraded)
    return (Verdict.DEGRADED if degraded else Verdict.VALID), tuple(degraded)


def _busy(found: Conditions, seconds: float, cpus: int) -> list[str]:
    reasons = []
    if found.load_1min is not None and found.load_1min > cpus:
        reasons.append(f"the load average was {found.load_1min:.1f} on {cpus} CPUs before the run")
    if found.cpu_pressure_us is not None and found.cpu_pressure_us > PRESSURE_SHARE * seconds * 1e6:
        share = found.cpu_pressure_us / (seconds * 1e6)
        reasons.append(f"tasks waited for a CPU during {share:.0%} of the run")
    return reasons


def _clock(found: Conditions) -> list[str]:
    if len(found.frequency_khz) == 2 and found.frequency_khz[1] < FREQUENCY_DROP * found.frequency_khz[0]:
        first, last = (round(f / 1000) for f in found.frequency_khz)
        return [f"the CPU clock fell from {first} to {last} MHz"]
    return []


def _samples(latency: LatencySummary, plan: MeasurePlan, seconds: float) -> Sequence[str]:
    reasons = []
    if latency.runs < plan.min_runs:
        reasons.append(f"{latency.runs} of {plan.min_runs} runs fitted into {plan.max_seconds:g} s")
    elif seconds < min(plan.min_seconds, plan.max_seconds) * 0.99:
        reasons.append(f"the timed window had {seconds:.2f} of {plan.min_seconds:g} s")
    if latency.p50_ns and latency.p90_ns and latency.p90_ns > SPREAD * latency.p50_ns:
        reasons.append(f"wide spread: p90 is {latency.p90_ns / latency.p50_ns:.1f} times p50")
    return reasons
