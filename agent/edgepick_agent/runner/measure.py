"""``measure``: load one model in this fresh process, test its answers, and time it.

The order is the method: memory before the runtime, load, first inference, golden inputs, idle
power, warm-up, timed runs, memory, the pass of a power sensor, idle power again. Each is a phase of
its own, so that none disturbs another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepick_agent import app
from edgepick_agent.core.board_state import conditions, verdict
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.core.summarise import summarise
from edgepick_agent.runner import golden as golden_inputs
from edgepick_agent.runner import process, timing
from edgepick_agent.runner.energy import POLL_NS, Meter
from edgepick_agent.runner.session import Opened, open_model
from edgepick_agent.runner.tensors import SEED, random_feed
from edgepick_wire.metrics import Conditions, GoldenResult, Measurement, MemorySummary

if TYPE_CHECKING:
    from edgepick_agent.runner.timing import Feeds

MOST_FEEDS = 16
"""Golden inputs that the timed runs rotate through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the timed phase found.

    Attributes:
        warmup_runs: Inferences before it.
        conditions: The board around it.
        memory: VmRSS and VmHWM after it, by name.
        shares: Pss, Private_Clean and Private_Dirty after it, by name.
    """

    warmup_runs: int
    timed: timing.Timed
    conditions: Conditions
    memory: Mapping[str, int]
    shares: Mapping[str, int]


def measure(spec: RunnerSpec, hung: Callable[[], None]) -> Measurement:
    """Return the measurement that ``spec`` asks for; ``hung`` is called if an inference exceeds its limit.

    Raises:
        RunError: The model cannot be loaded, fed or run.
    """
    archive = golden_inputs.read_golden(Path(spec.golden.path)) if spec.golden else None
    meter = Meter(spec)
    baseline = process.own_memory().get("VmRSS")
    process.reset_peak_memory()
    opened = open_model(spec, threads=spec.plan.threads)
    feeds = _feeds(opened, archive)
    with timing.Watchdog(spec.limits.inference_seconds, hung) as dog:
        first_ns = timing.first_inference(opened.session, feeds)
        judged = _check_golden(opened, archive, spec, dog.beat)
    meter.idle()
    with timing.Watchdog(spec.limits.inference_seconds, hung) as dog:
        found = _time(spec, opened, feeds, meter, dog.beat)
        meter.sample(lambda seconds: timing.runs_for(opened.session, feeds, seconds, dog.beat))
    meter.idle()
    return _measurement(spec, opened, found, meter, first_ns=first_ns, judged=judged, baseline=baseline)


def _feeds(opened: Opened, archive: golden_inputs.Golden | None) -> "Feeds":
    inputs = opened.session.inputs
    if archive is None:
        return [random_feed(inputs)]
    return [golden_inputs.feed(archive, inputs, index) for index in range(min(archive.samples, MOST_FEEDS))]


def _check_golden(
    opened: Opened, archive: golden_inputs.Golden | None, spec: RunnerSpec, beat: Callable[[], None]
) -> GoldenResult | None:
    if archive is None or spec.golden is None:
        return None
    return golden_inputs.check(opened.session, archive, spec.golden, beat)


def _time(spec: RunnerSpec, opened: Opened, feeds: "Feeds", meter: Meter, beat: Callable[[], None]) -> Timing:
    board, session = app.board(Path(spec.sysfs_root)), opened.session
    warmup_runs = timing.warm_up(session, feeds, spec.plan, beat)
    before = board.read()
    meter.start()
    timed = timing.timed_runs(session, feeds, spec.plan, beat=beat, between=meter.poll, every_ns=POLL_NS)
    meter.stop(len(timed.samples_ns))
    after = board.read()
    return Timing(
        warmup_runs=warmup_runs,
        timed=timed,
        conditions=conditions(before, after, machine=board.machine(), stand_in=spec.stand_in),
        memory=process.own_memory(),
        shares=process.own_shares(),
    )


def _measurement(
    spec: RunnerSpec,
    opened: Opened,
    found: Timing,
    meter: Meter,
    *,
    first_ns: int,
    judged: GoldenResult | None,
    baseline: int | None,
) -> Measurement:
    latency, seconds = summarise(found.timed.samples_ns), found.timed.seconds
    how, reasons = verdict(found.conditions, latency, spec.plan, seconds=seconds, cpus=timing.cpu_count())
    return Measurement(
        plan=spec.plan,
        runtime=opened.session.used,
        load_ns=opened.load_ns,
        first_inference_ns=first_ns,
        latency=latency,
        throughput_per_s=latency.runs / seconds,
        memory=_memory(spec, opened, found, baseline),
        energy=meter.summary(),
        golden=judged,
        conditions=found.conditions,
        verdict=how,
        reasons=reasons,
        extra={
            "inputs": f"seeded random ({SEED})" if judged is None else "golden",
            "runtime_import_ns": str(opened.import_ns),
            "warmup_runs": str(found.warmup_runs),
        },
    )


def _memory(spec: RunnerSpec, opened: Opened, found: Timing, baseline: int | None) -> MemorySummary:
    private = [found.shares[key] for key in ("Private_Clean", "Private_Dirty") if key in found.shares]
    return MemorySummary(
        peak_rss_bytes=found.memory.get("VmHWM"),
        steady_rss_bytes=found.memory.get("VmRSS"),
        private_bytes=sum(private) if private else None,
        proportional_bytes=found.shares.get("Pss"),
        baseline_rss_bytes=baseline,
        model_file_bytes=Path(spec.model_path).stat().st_size,
        arena_bytes=opened.session.arena_bytes,
    )
