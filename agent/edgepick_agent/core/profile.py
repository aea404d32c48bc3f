"""A profile: a measurement, and everything else that ``edgepick-agent benchmark`` finds out about a model.

The JSON of a profile is the JSON of a measurement with more fields, so whatever reads the one reads the
other. ``docs/profiling.md`` describes each field, ``docs/profile.schema.json`` is the schema of version
:data:`PROFILE_SCHEMA`. Every record here says what it is about in its units; what is missing is ``None``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_agent.core.intervals import Estimate
from edgepick_wire.metrics import LatencySummary, Measurement, Verdict

PROFILE_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardSample:
    """A glance at the board between two inferences.

    Attributes:
        at_ns: Monotonic time.
        temperature_mc: Hottest thermal zone, millidegrees Celsius.
        frequency_khz: Mean current CPU frequency.
        cooling_now: Names of the CPU or GPU cooling devices that held the clock down.
    """

    at_ns: int
    temperature_mc: int | None = None
    frequency_khz: int | None = None
    cooling_now: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of a runner's life: "load", "warm-up", "timed runs", ...

    Attributes:
        start_ns: Monotonic time.
        duration_ns: Length.
    """

    name: str
    start_ns: int
    duration_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRate:
    """One inference at a time at a fixed rate, as most devices are used.

    Attributes:
        rate_per_s: As asked.
        latency: From the start of each inference to its end.
        late: Inferences that began more than a tenth of the period late, as the one before was not over.
        duty_cycle: Share of the time in which an inference ran.
        gross_uj: Energy per inference at this rate, idle in between included, from a counter.
        intervals: As :attr:`Profile.intervals`.
    """

    rate_per_s: float
    latency: LatencySummary
    late: int
    duty_cycle: float
    gross_uj: float | None = None
    intervals: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """One operator of the graph.

    Attributes:
        name: The operator's name, or its first output's.
        kind: "CONV_2D", "Conv", ...
        provider: What ran it: "CPUExecutionProvider", "xnnpack", "cpu", ...
        mean_ns: Interquartile mean of its times; ``None`` if it could not be timed.
    """

    name: str
    kind: str
    provider: str
    mean_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTable:
    """Where the time goes.

    Attributes:
        method: "runtime profiler", or "each operator alone" where the runtime has none for Python.
        runs: Inferences per operator.
        operators: In the graph's order.
        reason: Why there are none, or what to keep in mind.
    """

    method: str
    runs: int = 0
    operators: tuple[OperatorTime, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What one delegate or provider took.

    Attributes:
        provider: "xnnpack", "cpu", "CUDAExecutionProvider", ...
        nodes: Operators of the graph that it runs.
        kinds: How many of each kind.
        reason: Why these run here and not on the accelerator that was asked for, as far as the runtime tells.
    """

    provider: str
    nodes: int
    kinds: Mapping[str, int]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassesFound:
    """What a runner found beside its measurement."""

    fixed_rate: FixedRate | None = None
    operators: OperatorTable | None = None
    placement: tuple[Placement, ...] = ()
    during: tuple[BoardSample, ...] = ()
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """One start of the runner, among several."""

    load_ns: int
    first_inference_ns: int
    latency: LatencySummary
    peak_rss_bytes: int | None
    gross_uj: float | None
    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSetting:
    """One setting to measure; ``cpus`` is empty for all."""

    threads: int
    cpus: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"threads={self.threads}" + (f" cpus={'+'.join(map(str, self.cpus))}" if self.cpus else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One setting of a sweep.

    Attributes:
        threads: Intra-operator threads.
        cpus: CPUs that the runner was held to; empty for all.
        latency: ``None`` where the setting could not be measured; then ``reasons`` say why.
        mean_ns: Mean latency over its restarts.
        p50_ns: Median, likewise.
    """

    threads: int
    cpus: tuple[int, ...]
    latency: LatencySummary | None
    throughput_per_s: float | None
    mean_ns: Estimate
    p50_ns: Estimate
    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile(Measurement):
    """A measurement over one or more starts of the runner, and what the further passes found.

    The figures of the measurement are over all restarts: percentiles of all runs, means of load, first
    inference and energy, the largest memory, the worst verdict.

    Attributes:
        intervals: Figure ("mean_ns", "p50_ns", ..., "load_ns", "energy_gross_uj") -> value and 95 % interval.
        effective_runs: How many independent runs say as much as all of them; ``None`` for one start.
        restarts: Each start, if there was more than one.
        cpus: CPUs that the runner was held to; empty for all.
    """

    profile_schema: int = PROFILE_SCHEMA
    intervals: Mapping[str, Estimate] = field(default_factory=dict)
    effective_runs: float | None = None
    restarts: tuple[Restart, ...] = ()
    cpus: tuple[int, ...] = ()
    fixed_rate: FixedRate | None = None
    operators: OperatorTable | None = None
    placement: tuple[Placement, ...] = ()
    during: tuple[BoardSample, ...] = ()
    phases: tuple[Phase, ...] = ()
    sweep: tuple[SweepPoint, ...] = ()
