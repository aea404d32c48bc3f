"""What a board looked like before, during and after a run, and what that says about the run.

Thresholds are ours; they only ever turn a verdict down, and each is named in the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgepick_agent.core.board_state import BoardReading
from edgepick_wire.metrics import Conditions, LatencySummary, MeasurePlan, Verdict

if TYPE_CHECKING:
    from edgepick_agent.core.profile import BoardSample

FREQUENCY_DROP = 0.8
PRESSURE_SHARE = 0.10
SPREAD = 1.5
DRIFT = 0.10
FOREIGN_CPUS, FOREIGN_SHARE = 0.2, 0.05
"""Others may keep a fifth of one CPU busy, or a twentieth of all CPUs where that is more."""
ALONE_CPUS = 0.05
"""What a system that does nothing uses."""
FOREIGN_SECONDS = 0.05
"""The kernel counts CPU time in ticks of 10 ms: what is less than five says nothing."""
STEAL_SHARE = 0.02
PREEMPTIONS_PER_SECOND = 20.0
LEAST_PREEMPTIONS = 5

FIRMWARE_FLAGS = {0: "under-voltage", 1: "Arm frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of ``vcgencmd get_throttled``; bit + 16 says that it has happened since boot
(raspberrypi/documentation, graphics-utilities)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnUse:
    """What the runner itself used up between two readings of the board.

    Attributes:
        seconds: Time between them.
        cpu_seconds: CPU time of all its threads.
        preemptions: Times that the kernel took the CPU from one of them.
    """

    seconds: float
    cpu_seconds: float
    preemptions: int


def conditions(
    before: BoardReading,
    after: BoardReading,
    *,
    machine: str,
    stand_in: bool,
    own: OwnUse | None = None,
    during: Sequence["BoardSample"] = (),
) -> Conditions:
    """Return the conditions of the run between two readings, given what was seen and used in between."""
    reasons = throttle_reasons(before, after, during)
    heat = [before.temperature_mc, after.temperature_mc, *(s.temperature_mc for s in during)]
    clock = [before.frequency_khz, after.frequency_khz, *(s.frequency_khz for s in during)]
    flags_told = None not in (before.firmware_flags, after.firmware_flags)
    known = flags_told or bool(after.cooling) or bool(reasons)
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
        memory_pressure_us=_growth(before.memory_pressure_us, after.memory_pressure_us),
        io_pressure_us=_growth(before.io_pressure_us, after.io_pressure_us),
        foreign_cpus=_foreign(before, after, own),
        steal_share=_stolen(before, after, own),
        preemptions=own.preemptions if own else None,
        hottest_mc=max((t for t in heat if t is not None), default=None),
        slowest_khz=min((f for f in clock if f is not None), default=None),
    )


def _foreign(before: BoardReading, after: BoardReading, own: OwnUse | None) -> float | None:
    if own is None or before.busy_seconds is None or after.busy_seconds is None or own.seconds <= 0:
        return None
    return max(0.0, after.busy_seconds - before.busy_seconds - own.cpu_seconds) / own.seconds


def _stolen(before: BoardReading, after: BoardReading, own: OwnUse | None) -> float | None:
    if own is None or before.steal_seconds is None or after.steal_seconds is None or own.seconds <= 0:
        return None
    return max(0.0, after.steal_seconds - before.steal_seconds) / (own.seconds * after.cpus)


def with_passes(timed: Conditions, whole: Conditions, cpus: int) -> Conditions:
    """Return the conditions of the timed runs, and what throttled, heated or disturbed the passes after them.

    ``whole`` is from before the timed runs to after the last pass. The clock and what else tells of latencies is that
    of the timed runs: it may well fall in the pauses of a fixed rate. A little foreign load is no reason for anything.
    """
    foreign = whole.foreign_cpus or 0.0
    heat = [each.hottest_mc for each in (timed, whole) if each.hottest_mc is not None]
    return replace(
        timed,
        throttled=timed.throttled or whole.throttled,
        throttle_reasons=tuple(dict.fromkeys((*timed.throttle_reasons, *whole.throttle_reasons))),
        foreign_cpus=max(foreign, timed.foreign_cpus or 0.0) if _is_much(foreign, cpus) else timed.foreign_cpus,
        hottest_mc=max(heat, default=None),
    )


def throttle_reasons(
    before: BoardReading, after: BoardReading, during: Sequence["BoardSample"] = ()
) -> tuple[str, ...]:
    """Return why the board was slower than it could be: active at any look, or new since ``before``."""
    reasons = [text for bit, text in FIRMWARE_FLAGS.items() if _flagged(bit, before, after)]
    in_between = (name for look in during for name in look.cooling_now)
    reasons += [f"{name} is cooling" for name in dict.fromkeys((*before.cooling_now, *in_between, *after.cooling_now))]
    reasons += [
        f"{name} counted up" for name, count in after.cooling.items() if count > before.cooling.get(name, count)
    ]
    return tuple(reasons)


def _flagged(bit: int, before: BoardReading, after: BoardReading) -> bool:
    first, last = before.firmware_flags, after.firmware_flags
    active = (first or 0) | (last or 0)
    # What has happened since boot is new only to whoever knows how it was before.
    new_since = 0 if first is None or last is None else last & ~first
    return bool(active >> bit & 1 or new_since >> (bit + 16) & 1)


def _pair(first: int | None, last: int | None) -> tuple[int, ...]:
    return () if first is None or last is None else (first, last)


def _growth(first: int | None, last: int | None) -> int | None:
    return None if first is None or last is None else max(0, last - first)


def verdict(
    found: Conditions,
    latency: LatencySummary,
    plan: MeasurePlan,
    *,
    seconds: float,
    cpus: int,
    drift: float | None = None,
) -> tuple[Verdict, tuple[str, ...]]:
    """Return whether the run may be used, and every reason against it.

    Throttling makes it invalid. A machine busy with something else makes it noisy, as does a wide
    spread; a falling clock, drifting latency or too few runs make it degraded. ``cpus`` is how many
    the machine has, ``drift`` the relative change of the latency from begin to end.
    """
    invalid = [f"throttled: {reason}" for reason in found.throttle_reasons]
    noisy = [*_busy(found, seconds, cpus), *_disturbed(found, seconds, cpus), *_spread(latency)]
    degraded = [*_clock(found), *_drifted(drift), *_samples(latency, plan, seconds)]
    ranks = {Verdict.INVALID: invalid, Verdict.NOISY: noisy, Verdict.DEGRADED: degraded}
    how = next((rank for rank, reasons in ranks.items() if reasons), Verdict.VALID)
    return how, (*invalid, *noisy, *degraded)


def _busy(found: Conditions, seconds: float, cpus: int) -> list[str]:
    reasons = []
    if found.foreign_cpus is None and found.load_1min is not None and found.load_1min > cpus:
        reasons.append(f"the load average was {found.load_1min:.1f} on {cpus} CPUs before the run")
    pressure = found.cpu_pressure_us or 0
    if _others(found) and pressure > PRESSURE_SHARE * seconds * 1e6:
        share = min(1.0, pressure / (seconds * 1e6))  # it was read a moment before and after
        reasons.append(f"tasks waited for a CPU during {share:.0%} of the run")
    return reasons


def _others(found: Conditions) -> bool:
    """Return whether others may have been in the way: more threads than CPUs wait for each other just the same."""
    return found.foreign_cpus is None or found.foreign_cpus > ALONE_CPUS


def _is_much(foreign_cpus: float, cpus: int) -> bool:
    return foreign_cpus > max(FOREIGN_CPUS, FOREIGN_SHARE * cpus)


def _disturbed(found: Conditions, seconds: float, cpus: int) -> list[str]:
    reasons = []
    foreign = found.foreign_cpus or 0.0
    if _is_much(foreign, cpus) and foreign * seconds > FOREIGN_SECONDS:
        reasons.append(f"other processes kept {foreign:.2f} of {cpus} CPUs busy during the run")
    if (found.steal_share or 0.0) > STEAL_SHARE:
        reasons.append(f"the hypervisor gave {found.steal_share:.0%} of the CPU time to other guests")
    often = (found.preemptions or 0) / seconds if seconds > 0 else 0.0
    if _others(found) and often > PREEMPTIONS_PER_SECOND and (found.preemptions or 0) >= LEAST_PREEMPTIONS:
        reasons.append(f"the kernel took the CPU from the runner {often:.0f} times a second")
    return reasons


def _spread(latency: LatencySummary) -> list[str]:
    if latency.p50_ns and latency.p90_ns and latency.p90_ns > SPREAD * latency.p50_ns:
        return [f"wide spread: p90 is {latency.p90_ns / latency.p50_ns:.1f} times p50"]
    return []


def _clock(found: Conditions) -> list[str]:
    if len(found.frequency_khz) != 2:
        return []
    first, last = found.frequency_khz
    lowest = min(last, found.slowest_khz or last)
    if lowest >= FREQUENCY_DROP * first:
        return []
    return [f"the CPU clock fell from {first / 1000:.0f} to {lowest / 1000:.0f} MHz"]


def _drifted(drift: float | None) -> list[str]:
    if drift is None or abs(drift) <= DRIFT:
        return []
    return [f"latency {'rose' if drift > 0 else 'fell'} by {abs(drift):.0%} from begin to end"]


def _samples(latency: LatencySummary, plan: MeasurePlan, seconds: float) -> Sequence[str]:
    reasons = []
    if latency.runs < plan.min_runs:
        reasons.append(f"{latency.runs} of {plan.min_runs} runs fitted into {plan.max_seconds:g} s")
    elif seconds < min(plan.min_seconds, plan.max_seconds) * 0.99:
        reasons.append(f"the timed window had {seconds:.2f} of {plan.min_seconds:g} s")
    return reasons
