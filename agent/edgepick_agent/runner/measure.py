"""``measure``: load one model in this fresh process, test its answers, and time it.

The order is the method: memory before the runtime, load, first inference, golden inputs, idle
power, warm-up, timed runs, memory, the pass of a power sensor, the passes that a profile asks for,
idle power again, and last what runs on the device beside it, where that is asked for. Each is a
phase of its own, so that none disturbs another.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgepick_agent.core.conditions import verdict
from edgepick_agent.core.passes import check_cpus, too_rare
from edgepick_agent.core.profile import FixedRate, PassesFound
from edgepick_agent.core.runner_spec import RunnerResult, RunnerSpec
from edgepick_agent.core.samples import CLOSED_LOOP, FIXED_RATE, FOUND, TRACED, pack_samples
from edgepick_agent.core.summarise import drift, summarise
from edgepick_agent.errors import RunError
from edgepick_agent.runner import golden as golden_inputs
from edgepick_agent.runner import operators, passes, process, quads, timing
from edgepick_agent.runner.energy import Meter
from edgepick_agent.runner.passes import Timeline
from edgepick_agent.runner.result import write_beside
from edgepick_agent.runner.session import Opened, open_model
from edgepick_agent.runner.tensors import SEED, random_feed
from edgepick_agent.runner.watch import Watch
from edgepick_wire import codec
from edgepick_wire.metrics import GoldenResult, Measurement, MemorySummary

if TYPE_CHECKING:
    from edgepick_agent.runner.timing import Feeds

MOST_FEEDS = 16
"""Golden inputs that the timed runs rotate through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What there was before the timed runs.

    Attributes:
        baseline: VmRSS before the runtime was imported.
        session_bytes: What the loaded model costs in private memory.
        first_ns: The first inference.
    """

    opened: Opened
    feeds: "Feeds"
    baseline: int | None
    session_bytes: int | None
    first_ns: int
    judged: GoldenResult | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the timed phase found.

    Attributes:
        warmup_runs: Inferences before it.
        watch: The board around it.
        memory: VmRSS and VmHWM after it, by name.
        shares: Pss, Private_Clean and Private_Dirty after it, by name.
    """

    warmup_runs: int
    timed: timing.Timed
    watch: Watch
    memory: Mapping[str, int]
    shares: Mapping[str, int]


def measure(spec: RunnerSpec, hung: Callable[[], None]) -> RunnerResult:
    """Return the measurement that ``spec`` asks for; ``hung`` is called if an inference exceeds its limit.

    Raises:
        RunError: The model cannot be loaded, fed or run, its CPUs are not there, or its plan is too short for its rate.
    """
    _hold_to(spec.passes.cpus)
    if spec.passes.rate_per_s is not None and (why := too_rare(spec.passes.rate_per_s, spec.plan)):
        raise RunError(why)
    line, meter = Timeline(), Meter(spec)
    start = _start(spec, line, hung)
    with line.phase("idle"):
        meter.idle()
    with timing.Watchdog(spec.limits.inference_seconds, hung) as dog:
        found = _time(spec, start, meter, line, dog.beat)
        with line.phase("energy"):
            back_to_back = partial(timing.runs_for, start.opened.session, start.feeds)
            meter.sample(lambda seconds: back_to_back(seconds, dog.beat, between=found.watch.glance))
        rate = _fixed_rate(spec, start, meter, line, dog.beat, watch=found.watch)
        _trace(spec, start, line, dog.beat)
    with line.phase("operators"):
        table = operators.table(spec, start.opened, start.feeds) if spec.passes.operators else None
    found.watch.end()
    with line.phase("idle"):
        meter.idle()
    further = PassesFound(
        fixed_rate=rate,
        operators=table,
        # Only some sessions know.
        placement=getattr(start.opened.session, "placement", ()),
        during=tuple(found.watch.during),
        phases=tuple(line.phases),
    )
    if spec.passes.samples:
        write_beside(spec, FOUND, codec.encode_document(further))
    alone = _measurement(spec, start, found, meter)
    return RunnerResult(measurement=_with_pair(spec, start, line, hung, meter=meter, alone=alone))


def _with_pair(
    spec: RunnerSpec, start: Start, line: Timeline, hung: Callable[[], None], *, meter: Meter, alone: Measurement
) -> Measurement:
    """Return the measurement with the comparison that was asked for, or with why there is none."""
    if spec.beside is None:
        return alone
    archive = golden_inputs.read_golden(Path(spec.golden.path)) if spec.golden else None
    try:
        with line.phase("quads"), timing.Watchdog(spec.limits.inference_seconds, hung) as dog:
            opened = quads.open_beside(spec, spec.beside)
            incumbent = quads.Side(session=opened.session, feeds=_feeds(opened, archive))
            candidate = quads.Side(session=start.opened.session, feeds=start.feeds)
            return replace(
                alone, paired=quads.run_quads(spec, spec.beside, incumbent, candidate, meter=meter, beat=dog.beat)
            )
    except RunError as error:
        return replace(alone, extra={**alone.extra, "unpaired": str(error)})


def _hold_to(cpus: tuple[int, ...]) -> None:
    check_cpus(cpus, os.sched_getaffinity(0))
    if cpus:
        os.sched_setaffinity(0, cpus)


def _start(spec: RunnerSpec, line: Timeline, hung: Callable[[], None]) -> Start:
    archive = golden_inputs.read_golden(Path(spec.golden.path)) if spec.golden else None
    baseline = process.own_memory().get("VmRSS")
    process.reset_peak_memory()
    with line.phase("load"):
        opened = open_model(spec, threads=spec.plan.threads)
    feeds = _feeds(opened, archive)
    with timing.Watchdog(spec.limits.inference_seconds, hung) as dog:
        with line.phase("first inference"):
            first_ns = timing.first_inference(opened.session, feeds)
        private = process.own_private()
        with line.phase("golden inputs"):
            judged = _check_golden(opened, archive, spec, dog.beat)
    known = private is not None and opened.private_bytes is not None
    return Start(
        opened=opened,
        feeds=feeds,
        baseline=baseline,
        session_bytes=max(0, (private or 0) - (opened.private_bytes or 0)) if known else None,
        first_ns=first_ns,
        judged=judged,
    )


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


def _time(spec: RunnerSpec, start: Start, meter: Meter, line: Timeline, beat: Callable[[], None]) -> Timing:
    watch, session, feeds = Watch(spec), start.opened.session, start.feeds
    between = partial(_look, meter, watch)
    with line.phase("warm-up"):
        warmup_runs = timing.warm_up(session, feeds, spec.plan, beat)
    watch.start()
    meter.start()
    with line.phase("timed runs"):
        timed = timing.timed_runs(session, feeds, spec.plan, beat=beat, between=between, every_ns=timing.BETWEEN_NS)
    meter.stop(len(timed.samples_ns))
    watch.stop()
    meter.used(watch.cpu_seconds, timed.seconds, len(timed.samples_ns))
    if spec.passes.samples:
        write_beside(spec, CLOSED_LOOP, pack_samples(timed.samples_ns))
    return Timing(
        warmup_runs=warmup_runs,
        timed=timed,
        watch=watch,
        memory=process.own_memory(),
        shares=process.own_shares(),
    )


def _look(meter: Meter, watch: Watch) -> None:
    meter.poll()
    watch.glance()


def _fixed_rate(
    spec: RunnerSpec, start: Start, meter: Meter, line: Timeline, beat: Callable[[], None], *, watch: Watch
) -> FixedRate | None:
    rate = spec.passes.rate_per_s
    if rate is None:
        return None
    with line.phase("fixed rate"):
        # As long as before each other one, for the first would find everything as the pass before it left it.
        passes.sleep_until(time.monotonic() + 1 / rate, beat)
        meter.start()
        paced = passes.at_rate(
            start.opened.session, start.feeds, spec.plan, rate, beat, between=partial(_look, meter, watch)
        )
        gross_uj = meter.spent(len(paced.samples_ns))
    if spec.passes.samples:
        write_beside(spec, FIXED_RATE, pack_samples(paced.samples_ns))
    return passes.fixed_rate(paced, rate, gross_uj)


def _trace(spec: RunnerSpec, start: Start, line: Timeline, beat: Callable[[], None]) -> None:
    if spec.passes.trace:
        with line.phase("traced inferences"):
            found = passes.traced(start.opened.session, start.feeds, beat)
        write_beside(spec, TRACED, pack_samples(found))


def _measurement(spec: RunnerSpec, start: Start, found: Timing, meter: Meter) -> Measurement:
    samples, seconds, seen = found.timed.samples_ns, found.timed.seconds, found.watch.conditions()
    latency = summarise(samples)
    how, reasons = verdict(seen, latency, spec.plan, seconds=seconds, cpus=found.watch.cpus, drift=drift(samples))
    return Measurement(
        plan=spec.plan,
        runtime=start.opened.session.used,
        load_ns=start.opened.load_ns,
        first_inference_ns=start.first_ns,
        latency=latency,
        throughput_per_s=latency.runs / seconds,
        memory=_memory(spec, start, found),
        energy=meter.summary(),
        golden=start.judged,
        conditions=seen,
        verdict=how,
        reasons=reasons,
        extra={
            "inputs": f"seeded random ({SEED})" if start.judged is None else "golden",
            "runtime_import_ns": str(start.opened.import_ns),
            "warmup_runs": str(found.warmup_runs),
        },
    )


def _memory(spec: RunnerSpec, start: Start, found: Timing) -> MemorySummary:
    private = [found.shares[key] for key in ("Private_Clean", "Private_Dirty") if key in found.shares]
    return MemorySummary(
        peak_rss_bytes=found.memory.get("VmHWM"),
        steady_rss_bytes=found.memory.get("VmRSS"),
        private_bytes=sum(private) if private else None,
        proportional_bytes=found.shares.get("Pss"),
        baseline_rss_bytes=start.baseline,
        model_file_bytes=Path(spec.model_path).stat().st_size,
        arena_bytes=start.opened.session.arena_bytes,
        session_bytes=start.session_bytes,
    )
