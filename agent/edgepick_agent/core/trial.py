"""Running a stored variant in a process of its own: the trial of an installation, or a measurement.

Whatever it does to its process, the active variant goes on. Each run is counted before it begins,
so that one which takes the whole device down is not begun for ever.
"""

from dataclasses import replace

from edgepick_agent.core import places
from edgepick_agent.core.admission import SPACE_MARGIN_BYTES, label_of, no_space, refuse, runnable
from edgepick_agent.core.effects import StartRunner, StopRunner
from edgepick_agent.core.endings import close_job, end_measurement, refuse_job, revert_job, run_key
from edgepick_agent.core.events import RunnerNotStarted, RunnerSeen
from edgepick_agent.core.garbage import bundles_in_use
from edgepick_agent.core.outbox import report_incident, report_not_started
from edgepick_agent.core.runner_spec import (
    Beside,
    GoldenFile,
    RunnerMode,
    RunnerObservation,
    RunnerResult,
    RunnerSpec,
    RunnerState,
    ServeLimits,
    measure_deadline_seconds,
)
from edgepick_agent.core.settings import Sandbox
from edgepick_agent.core.state import with_attempt, without_attempts
from edgepick_agent.core.turn import Context, Job, JobKind, Stage, Turn
from edgepick_wire.manifest import Manifest, RuntimeChoice
from edgepick_wire.messages import Incident, IncidentCode, MeasuredVariant, RefusalCode
from edgepick_wire.metrics import Measurement, MeasurePlan

TRIAL_PLAN = MeasurePlan(warmup_runs=1, warmup_seconds=0.0, min_runs=3, min_seconds=0.0, max_seconds=20.0)
"""A trial asks whether the answers are right, not how fast they come."""
ATTEMPTS_MAX = 3
"""Times that a run may be cut short by the device going down before it is blamed for it."""
HINT_NOT_STARTED = "Mend that on the device (`edgepick-agent doctor`); it tries again later by itself."
SLACK_SECONDS = 30.0
"""The runner ends itself in time, and its launcher sees when it does not; this is the last resort."""


def runner_spec(context: Context, content: Manifest, manifest: str, runtimes: tuple[RuntimeChoice, ...]) -> RunnerSpec:
    """Return how a stored variant is run: its files, its limits or else the device's, the device's sensors."""
    settings = context.settings
    cap = content.limits.peak_rss_bytes or settings.runner.memory_cap_bytes
    return RunnerSpec(
        model=content.model,
        version=content.version,
        model_path=_path(context, places.bundle_file(manifest, content.model_file)),
        format=content.format,
        runtimes=runtimes,
        golden=_golden(context, content, manifest),
        limits=replace(content.limits, peak_rss_bytes=cap),
        serve_limits=ServeLimits(
            concurrency=settings.runner.concurrency,
            queue=settings.runner.queue,
            queue_seconds=settings.runner.queue_seconds,
            request_bytes=settings.runner.request_bytes,
        ),
        sensors=settings.sensors,
        power=settings.power,
        broker=settings.broker if settings.power.mqtt_topic else None,
        sandbox=Sandbox(settings.runner.sandbox),
        sysfs_root=settings.sysfs_root,
        stand_in=settings.stand_in,
    )


def _path(context: Context, name: str) -> str:
    return f"{context.state_dir}/{name}"


def _golden(context: Context, content: Manifest, manifest: str) -> GoldenFile | None:
    if content.golden is None:
        return None
    return GoldenFile(
        path=_path(context, places.bundle_file(manifest, content.golden.file)),
        min_agreement=content.golden.min_agreement,
        max_mean_abs_error=content.golden.max_mean_abs_error,
    )


def start_run(turn: Turn) -> None:
    """Have the job's variant run once in a process of its own, unless that took the device down before."""
    job = turn.agent.job
    assert job is not None
    assert job.content is not None
    what = f"run/{job.key}"
    if turn.agent.durable.attempts.get(what, 0) >= ATTEMPTS_MAX:
        _failed(turn, f"the agent was cut short {ATTEMPTS_MAX} times while it ran")
        return
    turn.keep(with_attempt(turn.agent.durable, what))
    plan = job.request.plan if job.request else TRIAL_PLAN
    alone = runner_spec(turn.context, job.content, job.manifest, job.runtimes)
    spec = _with_incumbent(turn, job, replace(alone, plan=plan))
    turn.set_job(stage=Stage.RUN, deadline=turn.now + measure_deadline_seconds(spec) + SLACK_SECONDS)
    turn.do(StartRunner(run_key(job.manifest), spec, RunnerMode.MEASURE))


def _with_incumbent(turn: Turn, job: Job, spec: RunnerSpec) -> RunnerSpec:
    """Return the spec with what it is to be compared with, if that was asked for and is installed here."""
    pair = job.request.pair if job.request else None
    if pair is None:
        return spec
    content = job.content if pair.against == job.manifest else turn.agent.manifests.get(pair.against)
    if content is None:
        return spec
    choices = runnable(content, turn.facts()) or content.runtimes
    other = runner_spec(turn.context, content, pair.against, choices)
    caps = (spec.limits.peak_rss_bytes, other.limits.peak_rss_bytes)
    both = None if None in caps else sum(cap for cap in caps if cap is not None)
    return replace(
        spec,
        limits=replace(spec.limits, peak_rss_bytes=both),
        beside=Beside(
            model_path=other.model_path,
            format=other.format,
            runtimes=other.runtimes,
            device=turn.settings.device,
            pair=pair,
        ),
    )


def on_run_seen(turn: Turn, event: RunnerSeen) -> None:
    """Take the result of a run that ended; end one that hangs or takes too much."""
    job = turn.agent.job
    if job is None or job.stage is not Stage.RUN or event.key != run_key(job.manifest):
        return
    seen = event.observation
    if seen.state is RunnerState.EXITED:
        _ended(turn, job, event.result, seen)
    elif seen.state is RunnerState.HUNG:
        _killed(turn, job, IncidentCode.RUNNER_HUNG, seen.detail or "it did not answer in time")
    elif seen.state is RunnerState.OVER_MEMORY:
        _killed(turn, job, IncidentCode.RUNNER_OVER_MEMORY, seen.detail or "it took more memory than allowed")
    elif job.deadline is not None and turn.now > job.deadline:
        _killed(turn, job, IncidentCode.RUNNER_HUNG, "it did not finish in time")


def on_run_not_started(turn: Turn, event: RunnerNotStarted) -> None:
    """End the job for now: that no process can be started says nothing about the variant."""
    job = turn.agent.job
    if job is None or job.stage is not Stage.RUN or event.key != run_key(job.manifest):
        return
    assert job.content is not None
    label = label_of(job.content)
    report_not_started(turn, job.model, event)
    if event.full:
        refuse_job(turn, no_space(label, SPACE_MARGIN_BYTES))
    else:
        refuse_job(turn, refuse(RefusalCode.NOT_STARTED, f"{label}: {event.detail}", HINT_NOT_STARTED))


def _killed(turn: Turn, job: Job, code: IncidentCode, detail: str) -> None:
    text = f"{job.model}: the run of {job.manifest[:12]} was ended: {detail}"
    report_incident(turn, Incident(code=code, detail=text, model=job.model, manifest=job.manifest))
    _failed(turn, detail)


def _ended(turn: Turn, job: Job, result: RunnerResult | None, seen: RunnerObservation) -> None:
    if result is None or (result.measurement is None and result.failure is None):
        code = IncidentCode.RUNNER_CRASHED
        text = f"{job.model}: the run of {job.manifest[:12]} {how_it_ended(seen)}"
        report_incident(turn, Incident(code=code, detail=text, model=job.model, manifest=job.manifest))
        _failed(turn, f"the runner {how_it_ended(seen)}")
    elif result.measurement is None:
        assert result.failure is not None
        _failed(turn, f"{result.failure.code}: {result.failure.detail}", result.failure.hint)
    elif job.kind is JobKind.MEASURE:
        _measured(turn, job, result.measurement)
    else:
        _tried(turn, job, result.measurement)


def how_it_ended(seen: RunnerObservation) -> str:
    """Return in words how a process ended."""
    code = seen.exit_code
    how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
    return f"{how}: {seen.detail}" if seen.detail else how


def _failed(turn: Turn, detail: str, hint: str = "") -> None:
    job = turn.agent.job
    assert job is not None
    assert job.content is not None
    label = label_of(job.content)
    if job.kind is JobKind.MEASURE:
        refuse_job(turn, refuse(RefusalCode.RUNNER_FAILED, f"{label} could not be measured: {detail}", hint))
        return
    fallback = hint or "Look at the variant's verification on the host; the device goes on with what it had."
    revert_job(turn, refuse(RefusalCode.TRIAL_FAILED, f"{label} failed its trial: {detail}", fallback))


def _measured(turn: Turn, job: Job, measurement: Measurement) -> None:
    assert job.request is not None
    close_job(turn)
    measured = MeasuredVariant(request=job.request.id, model=job.model, manifest=job.manifest, measurement=measurement)
    end_measurement(turn, job, measured)


def _tried(turn: Turn, job: Job, measurement: Measurement) -> None:
    wrong = _wrong_answers(job, measurement)
    if wrong is not None:
        _failed(turn, wrong)
        return
    assert job.content is not None
    turn.keep(without_attempts(turn.agent.durable, f"run/{job.key}"))
    kept = bundles_in_use(turn.agent)
    known = {digest: content for digest, content in turn.agent.manifests.items() if digest in kept}
    turn.change(manifests={**known, job.manifest: job.content})
    turn.set_job(stage=Stage.START, deadline=None)
    turn.do(StopRunner(run_key(job.manifest)))


def _wrong_answers(job: Job, measurement: Measurement) -> str | None:
    assert job.content is not None
    if job.content.golden is None:
        return None
    if measurement.golden is None:
        return "it was not asked its golden inputs"
    return None if measurement.golden.passed else f"wrong answers: {measurement.golden.detail}"
