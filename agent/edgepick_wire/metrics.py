"""What a measurement says: summaries, each with its unit, and the conditions they hold under.

A value that was not measured is ``None`` with a reason, never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError
from edgepick_wire.pairing import PairedRun

MEASUREMENT_SCHEMA = 1


class Verdict(StrEnum):
    """Whether a measurement may be used."""

    VALID = "valid"
    NOISY = "noisy"
    """Usable with care: something else used the machine meanwhile; ``reasons`` says what."""
    DEGRADED = "degraded"
    """Usable with care; ``reasons`` says why (falling clock, drifting latency, fewer runs than planned)."""
    INVALID = "invalid"
    """Not to be used for any decision (throttled, under-voltage, aborted)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurePlan:
    """How to measure: warm up, then run until both minima are reached or the maximum time is over."""

    warmup_runs: int = 10
    warmup_seconds: float = 0.5
    min_runs: int = 60
    min_seconds: float = 1.0
    max_seconds: float = 60.0
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse a plan that measures nothing."""
        if self.min_runs < 1 or self.threads < 1 or self.max_seconds <= 0:
            raise MalformedError("a measure plan needs min_runs >= 1, threads >= 1 and max_seconds > 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySummary:
    """Single-inference latency in nanoseconds over ``runs`` timed runs.

    A percentile is ``None`` ("not estimable") below the number of runs that any 95 % upper bound
    for it needs, n >= ln(0.05)/ln(p): 5 for p50, 29 for p90, 59 for p95, 299 for p99 (exact
    order-statistic bound, as scipy.stats.quantile_test).

    Attributes:
        p95_high_ns: 95 % upper bound of the 95th percentile by that statistic, if the runs are independent;
            ``None`` where there is none, and in reports of older agents.
    """

    runs: int
    mean_ns: int
    stdev_ns: int
    min_ns: int
    max_ns: int
    p50_ns: int | None = None
    p90_ns: int | None = None
    p95_ns: int | None = None
    p99_ns: int | None = None
    p95_high_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySummary:
    """Memory of the runner process, which holds one runtime and one model and nothing else.

    Attributes:
        peak_rss_bytes: VmHWM after a reset through clear_refs (or of a fresh process).
        steady_rss_bytes: VmRSS after the timed runs.
        private_bytes: Private_Clean + Private_Dirty of smaps_rollup.
        proportional_bytes: Pss of smaps_rollup.
        baseline_rss_bytes: VmRSS before the runtime was imported.
        model_file_bytes: Size of the model file.
        arena_bytes: Exact tensor arena, where the runtime tells (tflite-micro).
        session_bytes: Growth of the private memory from the imported runtime to the first inference: what
            the loaded model costs, its weights, tensors and prepared kernels.
    """

    peak_rss_bytes: int | None
    steady_rss_bytes: int | None
    private_bytes: int | None
    proportional_bytes: int | None
    baseline_rss_bytes: int | None
    model_file_bytes: int
    arena_bytes: int | None = None
    session_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergySummary:
    """Energy per inference in microjoules, or the reason why there is none.

    Attributes:
        gross_uj: Energy of the timed window divided by its inferences.
        net_uj: The same less the idle power measured before and after.
        idle_uw: Idle power in microwatts.
        window_seconds: Length of the timed window.
        inferences: How many ended in it.
        source: Sensor ("powercap-rapl:package-0", "hwmon-ina3221:VDD_IN", ...).
        scope: What the sensor covers ("package", "module", "rails", "battery").
        reason: Why nothing was measured ("no sensor", "energy_uj is readable by root only", ...).
        estimated: Not measured at all, but CPU time times the board's typical watts. Nothing is decided by it.
    """

    gross_uj: float | None = None
    net_uj: float | None = None
    idle_uw: float | None = None
    window_seconds: float | None = None
    inferences: int | None = None
    source: str | None = None
    scope: str | None = None
    reason: str | None = None
    estimated: bool = False

    def __post_init__(self) -> None:
        """Refuse a summary that neither measures nor says why not."""
        if self.gross_uj is None and not self.reason:
            raise MalformedError("energy that was not measured needs a reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    """How the model answered the golden inputs that its bundle carries.

    Attributes:
        samples: Number of golden inputs.
        agreement: Share whose largest output is the same as the float model's (0..1).
        mean_abs_error: Mean absolute difference to the float model's outputs, dequantized.
        accuracy: Share answered as labelled, or ``None`` without labels.
        finite: No output was NaN or infinite.
        passed: Within the manifest's tolerance.
        detail: One sentence for a person.
    """

    samples: int
    agreement: float
    mean_abs_error: float
    accuracy: float | None
    finite: bool
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeUsed:
    """What really executed the model.

    Attributes:
        name: Runtime ("litert", "tflite_runtime", "onnxruntime", "tflm").
        version: Its version.
        accelerator: What ran the graph: "cpu", "xnnpack", "edgetpu", "CUDAExecutionProvider", ...
        nodes: Number of nodes in the graph as executed, where the runtime tells.
        accelerated_nodes: How many of them the accelerator took, where the runtime tells.
        fallback_reason: Why a preferred accelerator did not run it, if so.
        threads: Intra-operator threads.
    """

    name: str
    version: str
    accelerator: str
    nodes: int | None = None
    accelerated_nodes: int | None = None
    fallback_reason: str | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The state of the board around a measurement; ``None`` where it cannot be read.

    Attributes:
        stand_in: The figures come from a machine that stands in for the board.
        machine: What the machine really is (CPU model or device-tree model).
        temperature_mc: Hottest thermal zone in millidegrees Celsius: before, after.
        frequency_khz: Mean current CPU frequency: before, after.
        governor: cpufreq governor of CPU 0.
        throttled: The board throttled or was under-voltage during the run.
        throttle_reasons: Which, in words.
        load_1min: System load average before the run.
        cpu_pressure_us: Growth of PSI "some" CPU stall time over the run, microseconds.
        memory_pressure_us: The same for memory.
        io_pressure_us: The same for input and output.
        foreign_cpus: CPUs that everything but the runner kept busy during the run, on average.
        steal_share: Share of the CPUs' time that the hypervisor gave to other guests.
        preemptions: Times that the kernel took the CPU from the runner.
        hottest_mc: Hottest thermal zone seen before, during or after.
        slowest_khz: Lowest mean CPU frequency seen before, during or after.
    """

    stand_in: bool
    machine: str
    temperature_mc: tuple[int, ...] = ()
    frequency_khz: tuple[int, ...] = ()
    governor: str | None = None
    throttled: bool | None = None
    throttle_reasons: tuple[str, ...] = ()
    load_1min: float | None = None
    cpu_pressure_us: int | None = None
    memory_pressure_us: int | None = None
    io_pressure_us: int | None = None
    foreign_cpus: float | None = None
    steal_share: float | None = None
    preemptions: int | None = None
    hottest_mc: int | None = None
    slowest_khz: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run's summaries and the conditions they were taken under.

    Attributes:
        load_ns: Time to import nothing, but load the model and allocate, nanoseconds.
        first_inference_ns: The first inference, before warm-up.
        throughput_per_s: Timed inferences per second of the timed window.
        paired: The same model beside what runs on the device, where that was asked for.
    """

    schema: int = MEASUREMENT_SCHEMA
    plan: MeasurePlan
    runtime: RuntimeUsed
    load_ns: int
    first_inference_ns: int
    latency: LatencySummary
    throughput_per_s: float
    memory: MemorySummary
    energy: EnergySummary
    golden: GoldenResult | None
    conditions: Conditions
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    paired: PairedRun | None = None
