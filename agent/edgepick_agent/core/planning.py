"""What to work on next: the difference between the desired state and the device, one job at a time.

Level-triggered: asked after every event, it answers from what is, never from what happened.
"""

import dataclasses
from collections.abc import Iterator

from edgepick_agent.core import shadowing
from edgepick_agent.core.delivery import begin
from edgepick_agent.core.effects import CollectGarbage
from edgepick_agent.core.endings import close_job, park_job
from edgepick_agent.core.garbage import downloads_in_use
from edgepick_agent.core.standing import desired_of
from edgepick_agent.core.state import ModelRecord, over_budget
from edgepick_agent.core.turn import Agent, Job, JobKind, Stage, Turn
from edgepick_wire.messages import Assignment, Desired, Outcome

STALL_SECONDS = 60.0
"""A job that waits this long for the network makes way for another, if there is one."""
NETWORK_STAGES = frozenset({Stage.MANIFEST, Stage.FETCH})


def arrange(turn: Turn) -> None:
    """Drop a job that is no longer wanted, put off one that is stuck, and begin the next."""
    if not turn.agent.checked or turn.agent.runtimes is None:
        return
    wanted = _wanted_jobs(turn.agent)
    job = turn.agent.job
    if job is not None and (_unwanted(job, wanted) or _outranked(turn, job, wanted)):
        close_job(turn)
    elif job is not None and _stuck(job, turn.now) and any(_ready(turn, w) for w in wanted if w.key != job.key):
        park_job(turn, STALL_SECONDS)
    if turn.agent.job is None:
        _begin_next(turn, wanted)


def _unwanted(job: Job, wanted: tuple[Job, ...]) -> bool:
    return job.path is None and job.key not in {w.key for w in wanted}


def _outranked(turn: Turn, job: Job, wanted: tuple[Job, ...]) -> bool:
    """Return whether an installation goes first: what is only to be measured or shadows gives up the network to it."""
    if job.kind is JobKind.INSTALL or job.stage not in NETWORK_STAGES:
        return False
    return any(w.kind is JobKind.INSTALL and _ready(turn, w) for w in wanted)


def _stuck(job: Job, now: float) -> bool:
    return job.stage in NETWORK_STAGES and now - job.heard_at > STALL_SECONDS


def _begin_next(turn: Turn, wanted: tuple[Job, ...]) -> None:
    ready = next((job for job in wanted if _ready(turn, job)), None)
    if ready is not None:
        begin(turn, ready)
    elif not turn.agent.swept and not wanted and desired_of(turn.agent) is not None:
        turn.change(swept=True)
        turn.do(CollectGarbage(None, downloads_in_use(turn.agent)))


def _ready(turn: Turn, job: Job) -> bool:
    if turn.agent.later.get(job.key, turn.now) > turn.now:
        return False
    unconfirmed = {name for name, record in turn.agent.durable.models.items() if _unconfirmed(record)}
    if job.kind is JobKind.SHADOW and (turn.agent.shadow is not None or shadowing.serving_for(turn, job.model) is None):
        return False
    return job.model not in unconfirmed if job.kind is JobKind.INSTALL else not unconfirmed


def _unconfirmed(record: ModelRecord) -> bool:
    return record.active is not None and not record.confirmed


def _wanted_jobs(agent: Agent) -> tuple[Job, ...]:
    """Return everything that the desired state asks for and the device has not done, installations first."""
    desired = desired_of(agent)
    if desired is None:
        return ()
    installs = [_install(desired, a) for a in desired.models if _lacking(agent, a)]
    measures = [
        dataclasses.replace(
            _job(desired, a, JobKind.MEASURE, request.manifest), request=request, max_bytes=request.max_bytes
        )
        for a in desired.models
        for request in a.measure
        if not {request.id, over_budget(request.id, request.max_bytes)} & set(agent.durable.measured)
    ]
    return (*(job for job in installs if job is not None), *measures, *_shadows(agent, desired))


def _shadows(agent: Agent, desired: Desired) -> Iterator[Job]:
    running = agent.shadow.request.id if agent.shadow else None
    for assignment in desired.models:
        asked = assignment.shadow
        if asked is not None and asked.id != running and asked.id not in agent.durable.measured:
            yield dataclasses.replace(_job(desired, assignment, JobKind.SHADOW, asked.manifest), shadow=asked)


def _install(desired: Desired, assignment: Assignment) -> Job | None:
    if assignment.active is None:
        return None
    return _job(desired, assignment, JobKind.INSTALL, assignment.active)


def _job(desired: Desired, assignment: Assignment, kind: JobKind, manifest: str) -> Job:
    return Job(
        kind=kind,
        model=assignment.model,
        manifest=manifest,
        sequence=desired.sequence,
        rollout=assignment.rollout,
        max_bytes=assignment.max_bytes,
    )


def _lacking(agent: Agent, assignment: Assignment) -> bool:
    record = agent.durable.model(assignment.model)
    if assignment.active is None or record.held or (record.current and record.current.manifest == assignment.active):
        return False
    verdict = record.verdict(assignment.active, assignment.rollout)
    if verdict is None:
        return True
    return verdict.outcome is Outcome.REFUSED


def next_looks(agent: Agent) -> list[float]:
    """Return when something that was put off may be tried again, and when the job has waited long enough."""
    times = [at for key, at in agent.later.items() if key in {job.key for job in _wanted_jobs(agent)}]
    if agent.job is not None and agent.job.stage in NETWORK_STAGES:
        times.append(agent.job.heard_at + STALL_SECONDS + 1.0)
    return times


def forgive(turn: Turn) -> None:
    """Let everything that was put off be tried at once: a newer desired state asks for it."""
    turn.change(later={}, swept=False)
