"""How a job ends: refused, reverted, parked, or simply no longer wanted. What was active stays active."""

from edgepick_agent.core import fetch as window
from edgepick_agent.core import slots
from edgepick_agent.core.control import ControlReply
from edgepick_agent.core.effects import DiscardDownload, Reply, StopRunner, Unsubscribe
from edgepick_agent.core.outbox import report_incident, report_install, report_measurement, report_shadow
from edgepick_agent.core.state import Origin, Verdict, over_budget, with_measured, without_attempts
from edgepick_agent.core.turn import Job, Stage, Turn
from edgepick_wire import topics
from edgepick_wire.messages import (
    Incident,
    IncidentCode,
    InstallOutcome,
    MeasuredVariant,
    Outcome,
    Refusal,
    RefusalCode,
    ShadowedVariant,
)

RETRY_SECONDS = 900.0
"""Pause before something refused is looked at again without a newer desired state."""
RETRY_SPREAD = 0.25
"""Share by which a device's pause is longer than another's at most, so that a fleet is not in step."""


def run_key(manifest: str) -> str:
    """Return the key of the runner that tries or measures a variant."""
    return f"run/{manifest}"


def serve_key(manifest: str) -> str:
    """Return the key of the runner that serves a variant."""
    return f"serve/{manifest}"


def shadow_key(manifest: str) -> str:
    """Return the key of the runner that shadows with a variant."""
    return f"shadow/{manifest}"


def close_job(turn: Turn) -> None:
    """Leave no subscription and no runner of the job behind; what was fetched stays on disk."""
    job = turn.agent.job
    if job is None:
        return
    _unsubscribe(turn, job)
    if job.stage is Stage.RUN:
        turn.keep(without_attempts(turn.agent.durable, f"run/{job.key}"))
        turn.do(StopRunner(run_key(job.manifest)))
    turn.change(job=None, swept=False)


def _unsubscribe(turn: Turn, job: Job) -> None:
    fleet = turn.settings.fleet
    held = tuple(topics.chunk(fleet, digest) for digest in window.subscribed(job.fetch)) if job.fetch else ()
    if job.listening:
        held = (topics.manifest(fleet, job.manifest), *held)
    if held and turn.agent.connected:
        turn.do(Unsubscribe(held))


def park_job(turn: Turn, seconds: float) -> None:
    """Put the job off, so that others get their turn."""
    job = turn.agent.job
    if job is not None:
        turn.change(later={**turn.agent.later, job.key: turn.now + seconds})
        close_job(turn)


def refuse_job(turn: Turn, refusal: Refusal) -> None:
    """End the job because the variant may not run here; looked at again later."""
    _end(turn, Outcome.REFUSED, refusal)


def revert_job(turn: Turn, refusal: Refusal) -> None:
    """End the job because the variant failed here; not tried again within its rollout."""
    _end(turn, Outcome.REVERTED, refusal)


def _end(turn: Turn, outcome: Outcome, refusal: Refusal) -> None:
    job = turn.agent.job
    if job is None:
        return
    park_job(turn, RETRY_SECONDS * (1 + RETRY_SPREAD * turn.context.jitter))
    turn.keep(without_attempts(turn.agent.durable, f"run/{job.key}"))
    if refusal.code is RefusalCode.NO_SPACE and job.content is not None:
        turn.do(DiscardDownload(job.content))
    if job.request is not None:
        end_measurement(turn, job, MeasuredVariant(**_subject(job), measurement=None, refusal=refusal))
    elif job.shadow is not None:
        _end_shadow(turn, job, job.shadow.id, refusal)
    else:
        _end_install(turn, job, outcome, refusal)


def _subject(job: Job) -> dict[str, str]:
    assert job.request is not None
    return {"request": job.request.id, "model": job.model, "manifest": job.manifest}


def end_measurement(turn: Turn, job: Job, measured: MeasuredVariant) -> None:
    """Have a measure request reported and noted as done."""
    if measured.refusal is not None:
        detail = f"{job.model}: {measured.refusal.detail}"
        code = IncidentCode.MEASUREMENT_FAILED
        report_incident(turn, Incident(code=code, detail=detail, model=job.model, manifest=job.manifest))
    report_measurement(turn, measured)
    refused = measured.refusal is not None and measured.refusal.code is RefusalCode.NO_BUDGET
    done = over_budget(measured.request, job.max_bytes) if refused else measured.request
    turn.keep(with_measured(turn.agent.durable, done))


def _end_shadow(turn: Turn, job: Job, request: str, refusal: Refusal) -> None:
    turn.fail(f"{job.model}: {refusal.detail}")
    report_shadow(turn, ShadowedVariant(request=request, model=job.model, manifest=job.manifest, refusal=refusal))
    turn.keep(with_measured(turn.agent.durable, request))


def _end_install(turn: Turn, job: Job, outcome: Outcome, refusal: Refusal) -> None:
    record = turn.agent.durable.model(job.model)
    before = record.verdict(job.manifest, job.rollout)
    repeated = before is not None and (before.outcome, before.refusal.code) == (outcome, refusal.code)
    if job.path is None:
        verdict = Verdict(
            manifest=job.manifest, rollout=job.rollout, sequence=job.sequence, outcome=outcome, refusal=refusal
        )
        turn.set_record(job.model, slots.note(record, verdict))
    turn.fail(f"{job.model}: {refusal.detail}")
    if not repeated or job.path is not None:
        report_outcome(turn, job.model, job.manifest, outcome, origin=job.origin(turn.now), refusal=refusal)
    answer(turn, job.manifest, refusal)


def report_outcome(
    turn: Turn, model: str, manifest: str, outcome: Outcome, *, origin: Origin, refusal: Refusal | None = None
) -> None:
    """Have the end of an installation reported, with what it cost."""
    current = turn.agent.durable.model(model).current
    report_install(
        turn,
        InstallOutcome(
            model=model,
            manifest=manifest,
            outcome=outcome,
            sequence=origin.sequence,
            rollout=origin.rollout,
            active=current.manifest if current else None,
            refusal=refusal,
            chunks_fetched=origin.chunks_fetched,
            chunks_reused=origin.chunks_reused,
            bytes_fetched=origin.bytes_fetched,
            seconds=origin.seconds,
        ),
    )


def answer(turn: Turn, manifest: str, refusal: Refusal | None) -> None:
    """Answer the technician who waits for a manifest, if one does."""
    ask = turn.agent.asks.get(manifest)
    if ask is not None:
        turn.change(asks={key: value for key, value in turn.agent.asks.items() if key != manifest})
        turn.do(Reply(ask, ControlReply(ok=refusal is None, refusal=refusal)))
