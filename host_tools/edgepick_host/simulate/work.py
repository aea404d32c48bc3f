"""What a simulated device works on and what comes of it: installations, phase by phase, and measurements. Pure."""

from collections.abc import Callable
from dataclasses import replace

from edgepick_host.simulate import sayings
from edgepick_host.simulate.scenario import Behaviour
from edgepick_host.simulate.state import Crash, Obtain, Task
from edgepick_host.simulate.turn import Turn
from edgepick_wire.messages import Assignment, MeasureRequest, ModelState, Outcome, Phase, Refusal, RefusalCode


def work(turn: Turn) -> None:
    """Begin what there is to do, if the device is at nothing: what should run first, then orders to measure."""
    desired = turn.state.holding
    if desired is None or turn.state.task is not None:
        return
    for assignment in desired.models:
        _install(turn, assignment, desired.sequence)
    for assignment in desired.models:
        _measure(turn, assignment)


def _install(turn: Turn, assignment: Assignment, sequence: int) -> None:
    wanted, model = assignment.active, assignment.model
    now = turn.state.models.get(model, ModelState(model=model, phase=Phase.EMPTY))
    if turn.state.task or wanted is None or (model, wanted, assignment.rollout) in turn.state.gave_up:
        return
    if wanted == now.active:
        stands = (now.wanted, now.rollout, now.phase) == (wanted, assignment.rollout, Phase.CONFIRMED)
        if not stands:
            confirmed = replace(now, phase=Phase.CONFIRMED, wanted=wanted, rollout=assignment.rollout, refusal=None)
            turn.become(confirmed)
        return
    if not (wanted in turn.state.refused or _has(turn, wanted)):
        return
    task = Task(model=model, manifest=wanted, due=0.0, began=turn.now, sequence=sequence, rollout=assignment.rollout)
    no = _refused(turn, wanted)
    if no is not None:
        _give_up(turn, task, Phase.REFUSED, Outcome.REFUSED, no)
        return
    turn.change(task=replace(task, due=turn.now + _seconds(turn, task)))
    _stand(turn, task)


def _refused(turn: Turn, manifest: str) -> Refusal | None:
    if manifest in turn.state.refused:
        return sayings.refusal(RefusalCode.BAD_SIGNATURE, "no release key has signed the manifest")
    known = turn.state.known[manifest]
    if turn.device.falls_on(_behaviour(turn, manifest).refused, "refused", known.variant):
        return sayings.refusal(RefusalCode.NO_RUNTIME, "does not run")
    return None


def _measure(turn: Turn, assignment: Assignment) -> None:
    for order in assignment.measure:
        if turn.state.task is not None:
            return
        if order.id not in turn.state.done and order.manifest not in turn.state.refused and _has(turn, order.manifest):
            turn.change(task=_measuring(turn, assignment.model, order))


def _measuring(turn: Turn, model: str, order: MeasureRequest) -> Task:
    due = turn.now + turn.device.seconds(turn.device.scenario.pace.measure, order.id)
    return Task(model=model, manifest=order.manifest, order=order, due=due, began=turn.now)


def _has(turn: Turn, manifest: str) -> bool:
    """Return whether a manifest is known; if not, ask for it once."""
    if manifest in turn.state.known:
        return True
    if manifest not in turn.state.asked:
        turn.change(asked=turn.state.asked | {manifest})
        turn.actions.append(Obtain(manifest=manifest))
    return False


# What a task comes to.


def finish(turn: Turn, task: Task) -> None:
    """Go on from a task whose time is over."""
    turn.change(task=None)
    if task.order is not None:
        turn.change(done=turn.state.done | {task.order.id})
        turn.file(sayings.measurement_report(turn.device, turn.state, task, turn.now))
        return
    serves = task.phase is Phase.CONFIRMING
    if serves or _still_wanted(turn, task):
        _PHASES[task.phase](turn, task)


def _still_wanted(turn: Turn, task: Task) -> bool:
    models = turn.state.holding.models if turn.state.holding else ()
    return any((m.model, m.active, m.rollout) == (task.model, task.manifest, task.rollout) for m in models)


def _fetched(turn: Turn, task: Task) -> None:
    _go_on(turn, task, Phase.TRIAL)


def _tried(turn: Turn, task: Task) -> None:
    behaviour, known = _behaviour(turn, task.manifest), turn.state.known[task.manifest]
    if turn.device.falls_on(behaviour.wrong, "wrong", known.variant):
        why = sayings.refusal(RefusalCode.TRIAL_FAILED, "3 of 32 answers agree")
        _give_up(turn, task, Phase.REVERTED, Outcome.REVERTED, why)
    elif turn.device.falls_on(behaviour.silent, "silent", known.variant):
        turn.vanish()
    else:
        turn.change(served=(*turn.state.served, task.manifest))
        _go_on(turn, task, Phase.CONFIRMING)


def _confirmed(turn: Turn, task: Task) -> None:
    _stand(turn, replace(task, phase=Phase.CONFIRMED))
    turn.file(sayings.install_report(turn.device, turn.state, task, Outcome.CONFIRMED, why=None, now=turn.now))
    variant = turn.state.known[task.manifest].variant
    if turn.device.falls_on(_behaviour(turn, task.manifest).crash, "crash", variant):
        at = turn.now + turn.device.seconds(turn.device.scenario.pace.crash, "crash", variant)
        turn.change(crash=Crash(model=task.model, manifest=task.manifest, at=at))


_PHASES: dict[Phase, Callable[[Turn, Task], None]] = {
    Phase.FETCHING: _fetched,
    Phase.TRIAL: _tried,
    Phase.CONFIRMING: _confirmed,
}


def _go_on(turn: Turn, task: Task, phase: Phase) -> None:
    following = replace(task, phase=phase)
    turn.change(task=replace(following, due=turn.now + _seconds(turn, following)))
    _stand(turn, following)


def _seconds(turn: Turn, task: Task) -> float:
    pace = turn.device.scenario.pace
    paces = {Phase.FETCHING: pace.fetch, Phase.TRIAL: pace.trial, Phase.CONFIRMING: pace.confirm}
    return turn.device.seconds(paces[task.phase], task.phase, task.manifest)


def _stand(turn: Turn, task: Task) -> None:
    """Say how far an installation has come."""
    before = turn.state.models.get(task.model, ModelState(model=task.model, phase=Phase.EMPTY))
    known, total = turn.state.known[task.manifest], turn.state.known[task.manifest].chunks
    serves = task.phase in (Phase.CONFIRMING, Phase.CONFIRMED)
    fresh = serves and before.active != task.manifest
    turn.become(
        ModelState(
            model=task.model,
            phase=task.phase,
            active=task.manifest if serves else before.active,
            active_label=known.variant if serves else before.active_label,
            previous=before.active if fresh else before.previous,
            previous_label=before.active_label if fresh else before.previous_label,
            wanted=task.manifest,
            rollout=task.rollout,
            chunks_done=0 if task.phase is Phase.FETCHING else total,
            chunks_total=total,
        )
    )


def _give_up(turn: Turn, task: Task, phase: Phase, outcome: Outcome, why: Refusal) -> None:
    """Leave what runs as it is, and say why."""
    before = turn.state.models.get(task.model, ModelState(model=task.model, phase=Phase.EMPTY))
    turn.change(gave_up=turn.state.gave_up | {(task.model, task.manifest, task.rollout)})
    turn.become(replace(before, phase=phase, wanted=task.manifest, rollout=task.rollout, refusal=why))
    turn.file(sayings.install_report(turn.device, turn.state, task, outcome, why=why, now=turn.now))


def fall_back(turn: Turn, crash: Crash) -> None:
    """Fall back to the previous variant, if the crashing one still serves."""
    turn.change(crash=None)
    model = turn.state.models[crash.model]
    if model.active != crash.manifest:
        return
    turn.change(gave_up=turn.state.gave_up | {(crash.model, crash.manifest, model.rollout)})
    report = sayings.fell_back(turn.device, turn.state, model, turn.now)
    turn.change(served=(*turn.state.served, *((model.previous,) if model.previous else ())), task=_kept(turn, model))
    turn.become(
        replace(
            model,
            phase=Phase.REVERTED,
            active=model.previous,
            active_label=model.previous_label,
            previous=model.active,
            previous_label=model.active_label,
            wanted=crash.manifest,
            refusal=sayings.refusal(RefusalCode.RUNNER_FAILED, "crashed 3 times"),
        )
    )
    turn.file(report)


def _kept(turn: Turn, model: ModelState) -> Task | None:
    """Return the task to go on with: an installation of the same model starts anew after a fall."""
    task = turn.state.task
    return task if task is None or task.order is not None or task.model != model.model else None


def _behaviour(turn: Turn, manifest: str) -> Behaviour:
    return turn.device.kind.behaviour(turn.state.known[manifest].variant)
