"""A candidate as the shadow of what serves: begun when it is stored, watched, ended, reported.

It gives way to everything: while a variant is tried, started or measured, no shadow runs. Whatever it does to its
process is a finding for its report, never an incident of what serves; and nothing is decided by it.
"""

from dataclasses import replace

from edgepick_agent.core import places
from edgepick_agent.core.admission import label_of, refuse
from edgepick_agent.core.effects import Say, StartRunner, StopRunner
from edgepick_agent.core.endings import close_job, park_job, refuse_job, shadow_key
from edgepick_agent.core.events import RunnerNotStarted, RunnerSeen
from edgepick_agent.core.outbox import report_shadow
from edgepick_agent.core.runner_spec import (
    RunnerMode,
    RunnerSpec,
    RunnerState,
    ServeLimits,
    ShadowOrder,
    ShadowProgress,
)
from edgepick_agent.core.standing import desired_of
from edgepick_agent.core.state import with_attempt, with_measured, without_attempts
from edgepick_agent.core.trial import ATTEMPTS_MAX, SLACK_SECONDS, how_it_ended, runner_spec
from edgepick_agent.core.turn import Job, Serving, Shadow, Stage, Turn
from edgepick_wire.manifest import Manifest
from edgepick_wire.messages import Refusal, RefusalCode, ShadowedVariant

PAUSE_SECONDS = 30.0
"""Until what serves is looked for again, where nothing serves just now."""
HINT_FAILED = "What serves was not touched. Look at the variant's verification on the host."
HINT_MEMORY = "Shadow a smaller variant, or have it measured instead: a measurement does not need both at a time."


def serving_for(turn: Turn, model: str) -> Serving | None:
    """Return the runner that answers the model's clients, if one does."""
    current = turn.agent.durable.model(model).current
    serving = turn.agent.serving.get(current.manifest) if current is not None else None
    return serving if serving is not None and serving.ready_since is not None else None


# --- begin ----------------------------------------------------------------------------------------


def begin(turn: Turn) -> None:
    """Start the job's variant as a shadow, unless it does not fit beside what serves; the job is over then."""
    job = turn.agent.job
    assert job is not None
    assert job.content is not None
    serving = serving_for(turn, job.model)
    if serving is None:
        park_job(turn, PAUSE_SECONDS)
        return
    spec = _spec(turn, job, job.content, serving)
    refusal = _cut_short(turn, job) or _too_large(turn, job.content, serving, spec.limits.peak_rss_bytes)
    if refusal is not None:
        refuse_job(turn, refusal)
        return
    _start(turn, job, spec, serving)


def _start(turn: Turn, job: Job, spec: RunnerSpec, serving: Serving) -> None:
    assert job.shadow is not None
    assert job.content is not None
    patience = spec.limits.start_seconds + job.shadow.seconds + spec.limits.inference_seconds + SLACK_SECONDS
    close_job(turn)
    turn.keep(with_attempt(turn.agent.durable, _attempt(job.shadow.id)))
    turn.change(
        shadow=Shadow(
            model=job.model,
            label=label_of(job.content),
            request=job.shadow,
            against=serving.manifest,
            deadline=turn.now + patience,
        )
    )
    turn.do(
        Say(f"{job.model}: {label_of(job.content)} shadows what serves"),
        StartRunner(shadow_key(job.manifest), spec, RunnerMode.SHADOW),
    )


def _attempt(request: str) -> str:
    return f"shadow/{request}"


def _spec(turn: Turn, job: Job, content: Manifest, serving: Serving) -> RunnerSpec:
    assert job.shadow is not None
    alone = runner_spec(turn.context, content, job.manifest, job.runtimes)
    order = ShadowOrder(
        tap=f"{turn.context.state_dir}/{places.tap_socket(serving.manifest)}",
        against=serving.manifest,
        seed=f"{turn.settings.device}/{job.shadow.id}",
        request=job.shadow,
    )
    limits = replace(alone.limits, peak_rss_bytes=room_beside(alone.limits.peak_rss_bytes, _rss(serving)))
    return replace(alone, limits=limits, serve_limits=ServeLimits(), shadow=order)


def _rss(serving: Serving) -> int:
    return (serving.seen.rss_bytes or 0) if serving.seen is not None else 0


def room_beside(limit_bytes: int | None, serving_bytes: int) -> int | None:
    """Return what is left of the memory limit of this kind of device for a second runner; ``None`` without a limit."""
    return None if limit_bytes is None else max(0, limit_bytes - serving_bytes)


def _cut_short(turn: Turn, job: Job) -> Refusal | None:
    assert job.shadow is not None
    if turn.agent.durable.attempts.get(_attempt(job.shadow.id), 0) < ATTEMPTS_MAX:
        return None
    detail = f"the agent was cut short {ATTEMPTS_MAX} times while it was a shadow"
    return refuse(RefusalCode.RUNNER_FAILED, detail, HINT_FAILED)


def _too_large(turn: Turn, content: Manifest, serving: Serving, room: int | None) -> Refusal | None:
    """Return the refusal of what would take more than is left, judged by what serves and by both files' sizes."""
    active = turn.agent.manifests.get(serving.manifest)
    if room is None or active is None:
        return None
    size = _model_bytes(content)
    need = max(size, _rss(serving) + size - _model_bytes(active))
    if need <= room:
        return None
    return _no_memory(f"{label_of(content)} needs about {need} bytes of memory; {room} are left beside what serves")


def _no_memory(detail: str) -> Refusal:
    return refuse(RefusalCode.NO_MEMORY, detail, HINT_MEMORY)


def _model_bytes(content: Manifest) -> int:
    return next(entry.size for entry in content.files if entry.name == content.model_file)


# --- watch ----------------------------------------------------------------------------------------


def tend(turn: Turn) -> None:
    """End a shadow that is not wanted any more, has taken too long, or is in the way."""
    shadow = turn.agent.shadow
    if shadow is None:
        return
    if not _wanted(turn, shadow):
        _forget(turn, shadow)
        turn.do(Say(f"{shadow.model}: the shadow of {shadow.label} was called off"))
        return
    why = _interrupted(turn, shadow)
    if why and shadow.progress is not None:
        _finish(turn, shadow, detail=why)
    elif why:
        _forget(turn, shadow)  # it has seen nothing yet, so that it may simply begin again


def _wanted(turn: Turn, shadow: Shadow) -> bool:
    desired = desired_of(turn.agent)
    asked = (a.shadow for a in desired.models if a.model == shadow.model) if desired else ()
    return desired is None or any(request is not None and request.id == shadow.request.id for request in asked)


def _interrupted(turn: Turn, shadow: Shadow) -> str:
    current, job = turn.agent.durable.model(shadow.model).current, turn.agent.job
    if current is None or current.manifest != shadow.against:
        return "another variant has become active"
    if job is not None and job.stage in {Stage.RUN, Stage.START}:
        return "the device had to try or measure a variant"
    return "it did not end in time" if turn.now > shadow.deadline else ""


def on_seen(turn: Turn, event: RunnerSeen) -> None:
    """Take note of how a shadow does; report it once it has ended or must be ended."""
    shadow = _of(turn, event.key)
    if shadow is None:
        turn.do(StopRunner(event.key))
        return
    seen = event.observation
    shadow = replace(shadow, seen=seen, pid=event.pid, progress=event.shadow or shadow.progress)
    turn.change(shadow=shadow)
    if seen.state is RunnerState.EXITED:
        _ended(turn, shadow, event)
    elif seen.state is RunnerState.OVER_MEMORY:
        _finish(turn, shadow, refusal=_no_memory(f"{shadow.label}: {seen.detail or 'it took more than its limit'}"))
    elif seen.state is RunnerState.HUNG:
        _fail(turn, shadow, seen.detail or "it did not answer in time")


def _of(turn: Turn, key: str) -> Shadow | None:
    shadow = turn.agent.shadow
    return shadow if shadow is not None and shadow_key(shadow.request.manifest) == key else None


def _ended(turn: Turn, shadow: Shadow, event: RunnerSeen) -> None:
    failure = event.result.failure if event.result else None
    if failure is not None:
        _fail(turn, shadow, f"{failure.code}: {failure.detail}")
    elif shadow.progress is not None and shadow.progress.done:
        _finish(turn, shadow, detail=shadow.progress.detail)
    else:
        _fail(turn, shadow, f"the runner {how_it_ended(event.observation)}")


def on_not_started(turn: Turn, event: RunnerNotStarted) -> None:
    """Report a shadow whose process could not be started."""
    shadow = _of(turn, event.key)
    if shadow is not None:
        _fail(turn, shadow, event.detail)


# --- end ------------------------------------------------------------------------------------------


def _fail(turn: Turn, shadow: Shadow, detail: str) -> None:
    text = f"{shadow.label} failed as a shadow: {detail}"
    _finish(turn, shadow, refusal=refuse(RefusalCode.RUNNER_FAILED, text, HINT_FAILED))


def _finish(turn: Turn, shadow: Shadow, *, refusal: Refusal | None = None, detail: str = "") -> None:
    """Have what was seen reported, and the request noted as done."""
    _forget(turn, shadow)
    turn.keep(with_measured(turn.agent.durable, shadow.request.id))
    if refusal is not None:
        turn.fail(f"{shadow.model}: {refusal.detail}")
    report_shadow(
        turn,
        ShadowedVariant(
            request=shadow.request.id,
            model=shadow.model,
            manifest=shadow.request.manifest,
            summary=shadow.progress.summary if shadow.progress else None,
            refusal=refusal,
            detail=detail,
        ),
    )
    turn.do(Say(f"{shadow.model}: {shadow.label} is no longer a shadow; {_told(shadow.progress)}"))


def _told(progress: ShadowProgress | None) -> str:
    return f"{progress.summary.compared} answers were compared" if progress else "nothing was compared"


def _forget(turn: Turn, shadow: Shadow) -> None:
    turn.change(shadow=None, swept=False)
    turn.keep(without_attempts(turn.agent.durable, _attempt(shadow.request.id)))
    turn.do(StopRunner(shadow_key(shadow.request.manifest)))
