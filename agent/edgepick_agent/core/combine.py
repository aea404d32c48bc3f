"""Several starts of the runner to one profile; literal rules, no I/O.

Percentiles are of all runs, each start counting alike; load, first inference and energy are means over
the starts; memory is the largest; the verdict is the worst, for one throttled start spoils the rest.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from edgepick_agent.core.intervals import Estimate, effective_runs, mean_interval, quantile_interval
from edgepick_agent.core.profile import (
    FixedRate,
    PassesFound,
    Profile,
    Restart,
    SweepPoint,
    SweepSetting,
)
from edgepick_agent.core.summarise import summarise
from edgepick_wire.metrics import (
    Conditions,
    EnergySummary,
    LatencySummary,
    Measurement,
    MemorySummary,
    Verdict,
)

PERCENTILES = {"p50_ns": 0.50, "p90_ns": 0.90, "p95_ns": 0.95, "p99_ns": 0.99}
WORST_FIRST = (Verdict.INVALID, Verdict.NOISY, Verdict.DEGRADED, Verdict.VALID)
NUMBER = re.compile(r"\d[\d.]*")

N = TypeVar("N", int, float)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one start of the runner brought back.

    Attributes:
        samples_ns: Each latency of the closed loop.
        paced_ns: Each latency at the fixed rate; empty if there was none.
    """

    measurement: Measurement
    found: PassesFound
    samples_ns: Sequence[int]
    paced_ns: Sequence[int] = ()


def combine(runs: Sequence[Run], *, cpus: tuple[int, ...] = ()) -> Profile:
    """Return the profile of one or more starts of the same model; operators and phases are the first start's."""
    first, measured = runs[0], [run.measurement for run in runs]
    how, reasons = worst(measured)
    fields = {f.name: getattr(first.measurement, f.name) for f in dataclasses.fields(Measurement)}
    fields |= {
        "load_ns": _mean(m.load_ns for m in measured),
        "first_inference_ns": _mean(m.first_inference_ns for m in measured),
        "latency": pooled([run.samples_ns for run in runs]),
        "throughput_per_s": sum(m.throughput_per_s for m in measured) / len(measured),
        "memory": largest([m.memory for m in measured]),
        "energy": energy([m.energy for m in measured]),
        "conditions": around([m.conditions for m in measured]),
        "golden": next((m.golden for m in measured if m.golden and not m.golden.passed), first.measurement.golden),
        "verdict": how,
        "reasons": reasons,
    }
    return Profile(
        **fields,
        intervals=_intervals(runs),
        effective_runs=effective_runs([run.samples_ns for run in runs]) if len(runs) > 1 else None,
        restarts=tuple(map(_restart, measured)) if len(runs) > 1 else (),
        cpus=cpus,
        fixed_rate=_fixed_rate(runs),
        operators=first.found.operators,
        placement=first.found.placement,
        during=tuple(sample for run in runs for sample in run.found.during),
        phases=tuple(phase for run in runs for phase in run.found.phases),
    )


def sweep_point(profile: Profile) -> SweepPoint:
    """Return what a sweep keeps of one of its settings."""
    return SweepPoint(
        threads=profile.runtime.threads,
        cpus=profile.cpus,
        latency=profile.latency,
        throughput_per_s=profile.throughput_per_s,
        mean_ns=profile.intervals["mean_ns"],
        p50_ns=profile.intervals["p50_ns"],
        verdict=profile.verdict,
        reasons=profile.reasons,
    )


def failed_point(setting: SweepSetting, why: str) -> SweepPoint:
    """Return what a sweep keeps of a setting that could not be measured."""
    return SweepPoint(
        threads=setting.threads,
        cpus=setting.cpus,
        latency=None,
        throughput_per_s=None,
        mean_ns=Estimate(reason=why),
        p50_ns=Estimate(reason=why),
        verdict=Verdict.INVALID,
        reasons=(why,),
    )


def pooled(restarts: Sequence[Sequence[int]]) -> LatencySummary:
    """Return the summary of all runs, in which each restart counts alike."""
    plain = summarise([sample for samples in restarts for sample in samples])
    if len(restarts) == 1:
        return plain
    found = {name: quantile_interval(restarts, p).value for name, p in PERCENTILES.items()}
    mean = mean_interval(restarts).value or 0.0
    told: dict[str, Any] = {name: None if value is None else round(value) for name, value in found.items()}
    return dataclasses.replace(plain, mean_ns=round(mean), **told)


def latency_intervals(restarts: Sequence[Sequence[int]]) -> dict[str, Estimate]:
    """Return mean and percentiles with their intervals."""
    return {
        "mean_ns": mean_interval(restarts),
        **{name: quantile_interval(restarts, p) for name, p in PERCENTILES.items()},
    }


def _intervals(runs: Sequence[Run]) -> Mapping[str, Estimate]:
    measured = [run.measurement for run in runs]
    found = latency_intervals([run.samples_ns for run in runs])
    figures: dict[str, Callable[[Measurement], float | None]] = {
        "load_ns": lambda m: m.load_ns,
        "first_inference_ns": lambda m: m.first_inference_ns,
        "throughput_per_s": lambda m: m.throughput_per_s,
        "energy_gross_uj": lambda m: m.energy.gross_uj,
        "energy_net_uj": lambda m: m.energy.net_uj,
    }
    for name, figure in figures.items():
        values = [value for m in measured if (value := figure(m)) is not None]
        if len(values) == len(measured):
            found[name] = mean_interval([[value] for value in values])
    return found


def _restart(measured: Measurement) -> Restart:
    return Restart(
        load_ns=measured.load_ns,
        first_inference_ns=measured.first_inference_ns,
        latency=measured.latency,
        peak_rss_bytes=measured.memory.peak_rss_bytes,
        gross_uj=measured.energy.gross_uj,
        verdict=measured.verdict,
        reasons=measured.reasons,
    )


def _fixed_rate(runs: Sequence[Run]) -> FixedRate | None:
    found = [run.found.fixed_rate for run in runs if run.found.fixed_rate]
    if len(found) < len(runs):
        return None
    paced = [run.paced_ns for run in runs]
    spent = [rate.gross_uj for rate in found if rate.gross_uj is not None]
    return FixedRate(
        rate_per_s=found[0].rate_per_s,
        latency=pooled(paced),
        late=sum(rate.late for rate in found),
        duty_cycle=sum(rate.duty_cycle for rate in found) / len(found),
        gross_uj=sum(spent) / len(spent) if len(spent) == len(found) else None,
        intervals=latency_intervals(paced),
    )


def worst(measured: Sequence[Measurement]) -> tuple[Verdict, tuple[str, ...]]:
    """Return the worst verdict, and each kind of reason once: in how many starts, and how it was in the first."""
    how = next(v for v in WORST_FIRST if any(m.verdict is v for m in measured))
    if len(measured) == 1:
        return how, measured[0].reasons
    kinds: dict[str, list[str]] = {}
    for m in measured:
        # Four CPUs that throttle in a start are of one kind: the first of them speaks for that start.
        for kind, reason in {NUMBER.sub("#", reason): reason for reason in reversed(m.reasons)}.items():
            kinds.setdefault(kind, []).append(reason)
    return how, tuple(f"in {len(same)} of {len(measured)} starts: {same[0]}" for same in kinds.values())


def largest(found: Sequence[MemorySummary]) -> MemorySummary:
    """Return the largest of each figure that was measured."""
    names = [field.name for field in dataclasses.fields(MemorySummary)]
    figures: dict[str, Any] = {n: max(_known(getattr(m, n) for m in found), default=None) for n in names}
    return MemorySummary(**figures)


def energy(found: Sequence[EnergySummary]) -> EnergySummary:
    """Return the mean energy of the starts; the first that has none says why."""
    missing = next((e for e in found if e.gross_uj is None), None)
    if missing or len(found) == 1:
        return missing or found[0]
    nets, idles = _known(e.net_uj for e in found), _known(e.idle_uw for e in found)
    return dataclasses.replace(
        found[0],
        gross_uj=sum(_known(e.gross_uj for e in found)) / len(found),
        net_uj=sum(nets) / len(nets) if len(nets) == len(found) else None,
        idle_uw=sum(idles) / len(idles) if len(idles) == len(found) else None,
        window_seconds=sum(_known(e.window_seconds for e in found)),
        inferences=_total(e.inferences for e in found),
        reason=next((e.reason for e in found if e.reason), None),
    )


def around(found: Sequence[Conditions]) -> Conditions:
    """Return the conditions from the first start to the last."""
    first, last = found[0], found[-1]
    reasons = tuple(dict.fromkeys(reason for c in found for reason in c.throttle_reasons))
    throttled = {c.throttled for c in found}
    return dataclasses.replace(
        first,
        temperature_mc=_ends(first.temperature_mc, last.temperature_mc),
        frequency_khz=_ends(first.frequency_khz, last.frequency_khz),
        throttled=next(told for told in (True, None, False) if told in throttled),
        throttle_reasons=reasons,
        cpu_pressure_us=_total(c.cpu_pressure_us for c in found),
        memory_pressure_us=_total(c.memory_pressure_us for c in found),
        io_pressure_us=_total(c.io_pressure_us for c in found),
        foreign_cpus=max(_known(c.foreign_cpus for c in found), default=None),
        steal_share=max(_known(c.steal_share for c in found), default=None),
        preemptions=_total(c.preemptions for c in found),
        hottest_mc=max(_known(c.hottest_mc for c in found), default=None),
        slowest_khz=min(_known(c.slowest_khz for c in found), default=None),
    )


def _ends(first: tuple[int, ...], last: tuple[int, ...]) -> tuple[int, ...]:
    return (first[0], last[-1]) if first and last else ()


def _known(values: Iterable[N | None]) -> list[N]:
    return [value for value in values if value is not None]


def _total(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


def _mean(values: Iterable[int]) -> int:
    found = list(values)
    return round(sum(found) / len(found))
