"""What the device says about itself: the reported state, derived from the agent and never stored."""

from edgepick_agent.core import assignments
from edgepick_agent.core.admission import refuse
from edgepick_agent.core.effects import Publish
from edgepick_agent.core.state import ModelRecord, Slot, Verdict
from edgepick_agent.core.turn import Agent, Job, JobKind, Stage, Turn, assignment_of
from edgepick_wire import codec, topics
from edgepick_wire.messages import (
    Assignment,
    Desired,
    ModelState,
    Outcome,
    Phase,
    Refusal,
    RefusalCode,
    Reported,
)
from edgepick_wire.topics import DeviceTopic

PROGRESS_SECONDS = 2.0
"""Least time between two reported states that differ only in the progress of a download."""


def desired_of(agent: Agent) -> Desired | None:
    """Return the desired state that holds now."""
    return assignments.holding(agent.documents, agent.durable.seen)


def model_states(agent: Agent) -> tuple[ModelState, ...]:
    """Return where every model stands that is installed or wanted, by name."""
    desired = desired_of(agent)
    wanted = {a.model for a in desired.models} if desired else set()
    job = {agent.job.model} if agent.job and agent.job.kind is JobKind.INSTALL else set()
    return tuple(_model_state(agent, desired, name) for name in sorted(wanted | job | set(agent.durable.models)))


def _model_state(agent: Agent, desired: Desired | None, name: str) -> ModelState:
    record, assignment, job = agent.durable.model(name), assignment_of(desired, name), _installing(agent, name)
    verdict = _verdict(name, record, assignment)
    return ModelState(
        model=name,
        phase=_phase(record, job, verdict),
        active=_manifest(record.current),
        active_label=_label(record.current),
        previous=_manifest(record.previous),
        previous_label=_label(record.previous),
        wanted=_wanted(assignment, job),
        pinned=record.pinned or record.held,
        rollout=job.rollout if job else assignment.rollout if assignment else None,
        chunks_done=job.done if job else 0,
        chunks_total=job.total if job else 0,
        refusal=verdict.refusal if verdict and not job else None,
    )


def _manifest(slot: Slot | None) -> str | None:
    return slot.manifest if slot else None


def _label(slot: Slot | None) -> str | None:
    return slot.label if slot else None


def _wanted(assignment: Assignment | None, job: Job | None) -> str | None:
    return job.manifest if job else assignment.active if assignment else None


def _installing(agent: Agent, name: str) -> Job | None:
    job = agent.job
    return job if job and job.model == name and job.kind is JobKind.INSTALL else None


def _verdict(name: str, record: ModelRecord, assignment: Assignment | None) -> Verdict | None:
    if assignment is None or assignment.active is None or assignment.active == _manifest(record.current):
        return None
    if record.held and record.current is not None:
        outcome, refusal = Outcome.REFUSED, held_refusal(name, record.current)
        return Verdict(
            manifest=assignment.active, rollout=assignment.rollout, sequence=0, outcome=outcome, refusal=refusal
        )
    return record.verdict(assignment.active, assignment.rollout)


def held_refusal(model: str, slot: Slot) -> Refusal:
    """Return why nothing takes the place of a variant that is pinned until it is unpinned."""
    detail = f"{slot.label} is pinned on the device, until it is unpinned there"
    return refuse(RefusalCode.PINNED, detail, f"On the device: edgepick-agent unpin {model}")


def _phase(record: ModelRecord, job: Job | None, verdict: Verdict | None) -> Phase:
    if job is not None:
        return Phase.TRIAL if job.stage in {Stage.RUN, Stage.START} else Phase.FETCHING
    if verdict is not None:
        return Phase.REFUSED if verdict.outcome is Outcome.REFUSED else Phase.REVERTED
    if record.active is None:
        return Phase.EMPTY
    return Phase.CONFIRMED if record.confirmed else Phase.CONFIRMING


def reported(agent: Agent, device: str) -> Reported:
    """Return the device's reported state."""
    desired = desired_of(agent)
    return Reported(
        device=device,
        session=agent.durable.session,
        sequence=desired.sequence if desired else agent.durable.sequence,
        security_epoch=agent.durable.security_epoch,
        models=model_states(agent),
    )


def announce_progress(turn: Turn) -> None:
    """Have the reported state published if it was not lately; for the moment between two chunks."""
    if turn.now - turn.agent.reported_at >= PROGRESS_SECONDS:
        announce(turn)


def announce(turn: Turn) -> None:
    """Have the reported state published if it changed; mere progress at most every two seconds."""
    if not (turn.agent.connected and turn.agent.checked):
        return
    present = reported(turn.agent, turn.settings.device)
    before = turn.agent.reported
    fresh = turn.now - turn.agent.reported_at < PROGRESS_SECONDS
    if present == before or (fresh and before is not None and _still(present) == _still(before)):
        return
    turn.change(reported=present, reported_at=turn.now)
    topic = topics.device(turn.settings.fleet, turn.settings.device, DeviceTopic.REPORTED)
    turn.do(Publish(topic, codec.encode(present)))


def _still(state: Reported) -> tuple[object, ...]:
    """Return everything but the progress."""
    models = tuple(
        (m.model, m.phase, m.active, m.previous, m.wanted, m.pinned, m.rollout, m.refusal) for m in state.models
    )
    return (state.session, state.sequence, state.security_epoch, models)
