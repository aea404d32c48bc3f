"""Keeping the right runner up: start, supervise, confirm, fall back, and going back on request.

The old variant's runner serves until the new one is confirmed. A model's stable socket name is
moved to a runner when that is ready, never before.
"""

from dataclasses import replace

from edgepick_agent.core import places, slots, supervise
from edgepick_agent.core.admission import label_of, refuse, runnable
from edgepick_agent.core.effects import (
    CloseFront,
    CollectGarbage,
    FrontRunner,
    RetireRunner,
    Say,
    StartRunner,
    StopRunner,
)
from edgepick_agent.core.endings import answer, close_job, report_outcome, revert_job, serve_key
from edgepick_agent.core.events import RunnerNotFronted, RunnerNotStarted, RunnerSeen, SlotsChecked
from edgepick_agent.core.garbage import bundles_in_use, downloads_in_use
from edgepick_agent.core.outbox import report_incident, report_not_started
from edgepick_agent.core.runner_spec import RunnerMode, RunnerObservation
from edgepick_agent.core.standing import desired_of
from edgepick_agent.core.state import ModelRecord, Slot, SlotName, Verdict, with_attempt, without_attempts
from edgepick_agent.core.supervise import Look, SuperviseAction, SuperviseKind
from edgepick_agent.core.trial import ATTEMPTS_MAX, runner_spec
from edgepick_agent.core.turn import Job, Serving, Stage, Turn, assignment_of
from edgepick_wire.manifest import RunLimits
from edgepick_wire.messages import Incident, IncidentCode, Outcome, Refusal, RefusalCode

RETIRING_SECONDS = 15.0
"""For whoever is connected to a runner that retires and says nothing, beyond the longest inference and its wait."""
HINT_FAILED = "The device runs the previous variant; look at the incidents that it reported."


# --- after the start ------------------------------------------------------------------------------


def on_slots_checked(turn: Turn, event: SlotsChecked) -> None:
    """Run what is sound; leave what is damaged, and what took the device down too often before it was confirmed."""
    turn.change(checked=True, manifests=dict(event.sound))
    for name, record in turn.agent.durable.models.items():
        for slot in (record.a, record.b):
            if slot is not None and slot.manifest in event.broken:
                _drop_damaged(turn, name, slot, event.broken[slot.manifest])
    for name, record in turn.agent.durable.models.items():
        if record.current is not None and not record.confirmed:
            _begin_again(turn, name, record.current)


def _drop_damaged(turn: Turn, name: str, slot: Slot, reason: str) -> None:
    record = turn.agent.durable.model(name)
    after = slots.drop(record, slot.manifest)
    turn.set_record(name, after)
    turn.fail(f"{name}: {slot.label} is damaged on disk: {reason}")
    if record.current == slot and after.current is not None:
        _say_fell_back(turn, name, slot, after.current, f"it is damaged on disk: {reason}")


def _begin_again(turn: Turn, name: str, slot: Slot) -> None:
    what = f"confirm/{slot.manifest}"
    if turn.agent.durable.attempts.get(what, 0) >= ATTEMPTS_MAX:
        give_up(turn, name, f"the agent was cut short {ATTEMPTS_MAX} times before it was confirmed")
    else:
        turn.keep(with_attempt(turn.agent.durable, what))


# --- what should run ------------------------------------------------------------------------------


def tend(turn: Turn) -> None:
    """Have every active variant and the one about to be active run, and nothing else for long."""
    if not turn.agent.checked:
        return
    for serving in tuple(turn.agent.serving.values()):
        if not _needed(turn, serving):
            _leave(turn, serving)
    for model, manifest in _wanted(turn):
        _ensure(turn, model, manifest)
    for serving in tuple(turn.agent.serving.values()):
        if not serving.runs:
            _decide(turn, serving, None)


def _wanted(turn: Turn) -> list[tuple[str, str]]:
    records, job = turn.agent.durable.models.items(), turn.agent.job
    active = [(name, record.current.manifest) for name, record in records if record.current is not None]
    return [*active, (job.model, job.manifest)] if job is not None and job.stage is Stage.START else active


def _ensure(turn: Turn, model: str, manifest: str) -> None:
    if manifest in turn.agent.manifests and manifest not in turn.agent.serving:
        _set(turn, Serving(model=model, manifest=manifest))


def _needed(turn: Turn, serving: Serving) -> bool:
    record = turn.agent.durable.model(serving.model)
    if _is_starting(turn, serving):
        return True
    if record.current is None:
        return False
    if record.current.manifest == serving.manifest:
        return True
    successor = turn.agent.serving.get(record.current.manifest)
    return not (record.confirmed and successor is not None and successor.ready_since is not None)


def _is_starting(turn: Turn, serving: Serving) -> bool:
    job = turn.agent.job
    return job is not None and job.stage is Stage.START and job.manifest == serving.manifest


def _is_active(turn: Turn, serving: Serving) -> bool:
    current = turn.agent.durable.model(serving.model).current
    return current is not None and current.manifest == serving.manifest


def _start(turn: Turn, serving: Serving) -> None:
    content = turn.agent.manifests[serving.manifest]
    choices = runnable(content, turn.facts()) or content.runtimes
    port = None if _another_model_has_the_port(turn, serving) else turn.settings.runner.tcp_port
    spec = replace(
        runner_spec(turn.context, content, serving.manifest, choices),
        socket_path=f"{turn.context.state_dir}/{places.runner_socket(serving.manifest)}",
        tap_path=f"{turn.context.state_dir}/{places.tap_socket(serving.manifest)}",
        tcp_port=port,
    )
    _set(turn, replace(serving, port=port))
    turn.do(StartRunner(serve_key(serving.manifest), spec, RunnerMode.SERVE))


def _another_model_has_the_port(turn: Turn, serving: Serving) -> bool:
    """Return whether runners of another model take turns at the port: a request for a model must find that model."""
    return any(other.port is not None for other in turn.agent.serving.values() if other.model != serving.model)


def _set(turn: Turn, serving: Serving) -> None:
    turn.change(serving={**turn.agent.serving, serving.manifest: serving})


def _leave(turn: Turn, serving: Serving) -> None:
    """Have a runner that is not needed any more retire if another serves in its place, else stopped."""
    current = turn.agent.durable.model(serving.model).current
    successor = turn.agent.serving.get(current.manifest) if current is not None else None
    if successor is None or successor.ready_since is None:
        stop(turn, serving.manifest)
        return
    limits = turn.agent.manifests[serving.manifest].limits if serving.manifest in turn.agent.manifests else RunLimits()
    _forget(turn, serving.manifest)
    patience = limits.inference_seconds + turn.settings.runner.queue_seconds + RETIRING_SECONDS
    turn.do(RetireRunner(serve_key(serving.manifest), patience))


def _forget(turn: Turn, manifest: str) -> None:
    turn.change(serving={key: value for key, value in turn.agent.serving.items() if key != manifest})


def stop(turn: Turn, manifest: str) -> None:
    """Have a serving runner stopped and forgotten."""
    _forget(turn, manifest)
    turn.do(StopRunner(serve_key(manifest)))


# --- what is seen ---------------------------------------------------------------------------------


def on_serving_seen(turn: Turn, event: RunnerSeen) -> None:
    """Let the policy decide about a runner; activate or confirm the variant of a healthy one."""
    serving = _by_key(turn, event.key)
    if serving is None or not serving.runs:
        turn.do(StopRunner(event.key))
        return
    was_ready = serving.ready_since is not None
    _decide(turn, replace(serving, seen=event.observation, pid=event.pid), event.observation)
    still = turn.agent.serving.get(serving.manifest)
    if still is None or still.ready_since is None:
        return
    if _is_starting(turn, still) and turn.agent.job is not None:
        _activate(turn, turn.agent.job)
    elif not was_ready:
        _front(turn, still)
    _confirm_if_due(turn, still, turn.now - still.ready_since)


def _by_key(turn: Turn, key: str) -> Serving | None:
    return next((s for s in turn.agent.serving.values() if serve_key(s.manifest) == key), None)


def on_serving_not_started(turn: Turn, event: RunnerNotStarted) -> None:
    """Have it started later: that no process can be started says nothing about the variant."""
    serving = _by_key(turn, event.key)
    if serving is None or not serving.runs:
        return
    report_not_started(turn, serving.model, event)
    later = supervise.put_off(serving.supervisor, turn.now, turn.settings.runner, jitter=turn.context.jitter)
    _set(turn, replace(serving, supervisor=later, seen=None, pid=None))


def on_not_fronted(turn: Turn, event: RunnerNotFronted) -> None:
    """Have it found ready anew at the next look, which leads clients to it; until then it confirms no variant."""
    serving = _by_key(turn, event.key)
    if serving is None:
        return
    text = f"{serving.model}: its clients cannot be led to {serving.manifest[:12]}: {event.detail}"
    if event.full:
        report_incident(turn, Incident(code=IncidentCode.STORAGE_FULL, detail=text, model=serving.model))
    elif turn.agent.last_error != text:
        turn.fail(text)
    _set(turn, replace(serving, supervisor=replace(serving.supervisor, ready_since=None)))


def _decide(turn: Turn, serving: Serving, seen: RunnerObservation | None) -> None:
    look = (
        Look(state=seen.state.value, exit_code=seen.exit_code, detail=seen.detail, any_good=seen.any_good)
        if seen
        else None
    )
    supervisor, action = supervise.observe(
        serving.supervisor,
        look,
        turn.now,
        turn.settings.runner,
        jitter=turn.context.jitter,
        can_fall_back=_can_fall_back(turn, serving),
    )
    serving = replace(serving, supervisor=supervisor)
    _set(turn, serving)
    if action.kind is SuperviseKind.FALL_BACK:
        _given_up(turn, serving, action)
        return
    if action.incident is not None:
        _say(turn, serving, action)
    if action.kind is SuperviseKind.START:
        _start(turn, serving)
    elif action.kind is SuperviseKind.KILL_AND_RESTART:
        _set(turn, replace(serving, seen=None, pid=None))
        turn.do(StopRunner(serve_key(serving.manifest)))


def _can_fall_back(turn: Turn, serving: Serving) -> bool:
    record = turn.agent.durable.model(serving.model)
    return not _is_active(turn, serving) or not record.confirmed or may_go_back(turn, record)


def _say(turn: Turn, serving: Serving, action: SuperviseAction) -> None:
    assert action.incident is not None
    report_incident(
        turn,
        Incident(
            code=action.incident,
            detail=f"{serving.model}: {action.detail or action.incident}"[:2000],
            model=serving.model,
            manifest=serving.manifest,
            count=action.count,
        ),
    )


def _given_up(turn: Turn, serving: Serving, action: SuperviseAction) -> None:
    """Go back from the active variant; revert the installation of one that never became active."""
    if _is_starting(turn, serving):
        stop(turn, serving.manifest)
        detail = f"its runner did not become ready: {action.detail}"
        revert_job(turn, refuse(RefusalCode.RUNNER_FAILED, detail, HINT_FAILED))
    elif _is_active(turn, serving):
        give_up(turn, serving.model, action.detail)
    else:
        stop(turn, serving.manifest)


# --- activate, confirm ----------------------------------------------------------------------------


def _activate(turn: Turn, job: Job) -> None:
    assert job.content is not None
    slot = Slot(manifest=job.manifest, label=label_of(job.content), security_epoch=job.content.security_epoch)
    if job.path is not None:
        pin(turn, job.model, job.manifest, job.overruled)
    left = turn.agent.durable.model(job.model).current
    if left is not None:
        turn.keep(without_attempts(turn.agent.durable, f"confirm/{left.manifest}"))
    record = slots.activate(turn.agent.durable.model(job.model), slot, job.origin(turn.now))
    turn.set_record(job.model, replace(record, pinned=job.path is not None))
    turn.keep(with_attempt(turn.agent.durable, f"confirm/{job.manifest}"))
    close_job(turn)
    _front(turn, turn.agent.serving[job.manifest])
    turn.do(Say(f"{job.model}: {slot.label} is active, not yet confirmed"))


def _confirm_if_due(turn: Turn, serving: Serving, served: float) -> None:
    record = turn.agent.durable.model(serving.model)
    waiting = _is_active(turn, serving) and not record.confirmed
    if waiting and served >= turn.settings.runner.confirm_seconds:
        _confirm(turn, serving.model, served)


def _epoch(turn: Turn, slot: Slot) -> int:
    """Return the epoch of a variant; one that was left here by another fleet has none."""
    content = turn.agent.manifests.get(slot.manifest)
    return slot.security_epoch if content is None or content.fleet == turn.settings.fleet else 0


def _confirm(turn: Turn, model: str, served: float) -> None:
    record = slots.confirm(turn.agent.durable.model(model))
    assert record.current is not None
    origin = replace(record.origin, seconds=record.origin.seconds + served)
    turn.set_record(model, replace(record, origin=origin))
    state = without_attempts(turn.agent.durable, f"confirm/{record.current.manifest}")
    turn.keep(replace(state, security_epoch=max(state.security_epoch, _epoch(turn, record.current))))
    report_outcome(turn, model, record.current.manifest, Outcome.CONFIRMED, origin=origin)
    answer(turn, record.current.manifest, None)
    turn.change(swept=False)
    turn.do(
        Say(f"{model}: {record.current.label} is confirmed"),
        CollectGarbage(bundles_in_use(turn.agent), downloads_in_use(turn.agent)),
    )


def _front(turn: Turn, serving: Serving) -> None:
    if _is_active(turn, serving):
        name, target = places.model_socket(serving.model), places.runner_socket(serving.manifest)
        turn.do(FrontRunner(serve_key(serving.manifest), name, target))


# --- going back -----------------------------------------------------------------------------------


def give_up(turn: Turn, model: str, detail: str) -> bool:
    """Go back to the previous variant because the active one fails; return whether anything changed.

    A confirmed variant without a previous one, or with one of a lower security epoch, is kept: a
    model that fails now and then is better than none, and an old hole is worse.
    """
    record = turn.agent.durable.model(model)
    failed = record.current
    if failed is None or (record.confirmed and not may_go_back(turn, record)):
        return False
    refusal = refuse(RefusalCode.RUNNER_FAILED, f"{failed.label} failed after it was activated: {detail}", HINT_FAILED)
    after = slots.fall_back(record) if may_go_back(turn, record) else slots.fall_back(_alone(record))
    verdict = Verdict(
        manifest=failed.manifest,
        rollout=record.origin.rollout,
        sequence=record.origin.sequence,
        outcome=Outcome.REVERTED,
        refusal=refusal,
    )
    turn.set_record(model, slots.note(after, verdict))
    turn.keep(without_attempts(turn.agent.durable, f"confirm/{failed.manifest}"))
    turn.change(last_error=refusal.detail, swept=False)
    if after.current is not None:
        _say_fell_back(turn, model, failed, after.current, detail)
    report_outcome(turn, model, failed.manifest, Outcome.REVERTED, origin=record.origin, refusal=refusal)
    answer(turn, failed.manifest, refusal)
    stop(turn, failed.manifest)
    _lead_back(turn, model)
    return True


def _alone(record: ModelRecord) -> ModelRecord:
    assert record.active is not None
    return replace(record, a=None) if record.active is SlotName.B else replace(record, b=None)


def may_go_back(turn: Turn, record: ModelRecord) -> bool:
    """Return whether there is a previous variant that the device still accepts."""
    return record.previous is not None and record.previous.security_epoch >= turn.agent.durable.security_epoch


def _lead_back(turn: Turn, model: str) -> None:
    current = turn.agent.durable.model(model).current
    serving = turn.agent.serving.get(current.manifest) if current else None
    if current is None:
        turn.do(CloseFront(model, places.model_socket(model)))
    elif serving is not None and serving.ready_since is not None:
        _front(turn, serving)


def _say_fell_back(turn: Turn, model: str, failed: Slot, back: Slot, detail: str) -> None:
    text = f"{model}: {failed.label} failed ({detail}); {back.label} is active again"
    code = IncidentCode.FELL_BACK
    report_incident(turn, Incident(code=code, detail=text, model=model, manifest=failed.manifest))


def roll_back(turn: Turn, model: str) -> Refusal | None:
    """Activate the previous variant on a technician's order and pin it; return why not, if not."""
    record = turn.agent.durable.model(model)
    left, back = record.current, record.previous
    if left is None or back is None:
        return refuse(RefusalCode.PINNED, f"{model}: there is no previous variant to go back to", "See `status`.")
    if not may_go_back(turn, record):
        return refuse(
            RefusalCode.LOWER_EPOCH,
            f"{back.label} has security epoch {back.security_epoch}; this device accepts none below "
            f"{turn.agent.durable.security_epoch}",
            "Have the old model published again with the fleet's present security epoch.",
        )
    if turn.agent.job is not None and turn.agent.job.model == model:
        close_job(turn)
    refusal = pin(turn, model, back.manifest, overruled_by_hand(turn, model))
    turn.set_record(model, slots.roll_back(turn.agent.durable.model(model)))
    turn.keep(without_attempts(turn.agent.durable, f"confirm/{left.manifest}"))
    report_outcome(turn, model, left.manifest, Outcome.REVERTED, origin=record.origin, refusal=refusal)
    _lead_back(turn, model)
    turn.do(Say(f"{model}: a technician went back from {left.label} to {back.label}"))
    return None


def overruled_by_hand(turn: Turn, model: str) -> tuple[tuple[str, str | None], ...]:
    """Return what a technician's choice is preferred to: what runs and what is wanted now, not what comes later."""
    record, assignment = turn.agent.durable.model(model), assignment_of(desired_of(turn.agent), model)
    running = ((record.current.manifest, record.origin.rollout),) if record.current else ()
    wanted = ((assignment.active, assignment.rollout),) if assignment and assignment.active else ()
    return (*running, *wanted)


def pin(turn: Turn, model: str, chosen: str, overruled: tuple[tuple[str, str | None], ...]) -> Refusal:
    """Note that a technician prefers ``chosen`` to ``overruled``, until another rollout or variant is wanted."""
    detail = f"a technician chose {chosen[:12]} on the device"
    refusal = refuse(RefusalCode.PINNED, detail, "Start another rollout, or assign another variant, to overrule it.")
    record = turn.agent.durable.model(model)
    for manifest, rollout in overruled:
        if manifest != chosen:
            verdict = Verdict(
                manifest=manifest,
                rollout=rollout,
                sequence=turn.agent.durable.sequence,
                outcome=Outcome.REVERTED,
                refusal=refusal,
            )
            record = slots.note(record, verdict)
    turn.set_record(model, record)
    return refusal
