"""Answers to the technician's commands."""

from dataclasses import replace

from edgepick_agent.core import pinning, serving
from edgepick_agent.core.absence import absent
from edgepick_agent.core.admission import refuse, verified_manifest
from edgepick_agent.core.control import (
    WAITING,
    AgentStatus,
    Command,
    ControlReply,
    ControlRequest,
    RunnerStatus,
    ShadowStatus,
)
from edgepick_agent.core.delivery import begin
from edgepick_agent.core.effects import OpenBundle, Reply
from edgepick_agent.core.endings import close_job
from edgepick_agent.core.events import BundleOpened, ControlAsked
from edgepick_agent.core.exhaustive import assert_never
from edgepick_agent.core.intake import follow_chain
from edgepick_agent.core.places import model_socket
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.core.standing import desired_of, model_states
from edgepick_agent.core.state import AgentState
from edgepick_agent.core.turn import Agent, Job, JobKind, Serving, Shadow, Turn
from edgepick_wire import envelope
from edgepick_wire.errors import WireError
from edgepick_wire.manifest import Manifest, manifest_digest
from edgepick_wire.messages import Refusal, RefusalCode


def on_control(turn: Turn, event: ControlAsked) -> None:
    """Answer at once, or take up what is asked and answer when it has ended."""
    match event.request.command:
        case Command.STATUS:
            turn.do(Reply(event.ask, ControlReply(ok=True, status=status(turn))))
        case Command.ROLLBACK:
            _roll_back(turn, event.ask, event.request)
        case Command.INSTALL:
            _install(turn, event.ask, event.request)
        case Command.PIN:
            _pin(turn, event.ask, event.request)
        case Command.UNPIN:
            _unpin(turn, event.ask, event.request)
        case _:
            assert_never(event.request.command)


def status(turn: Turn) -> AgentStatus:
    """Return how the agent is; space and memory are filled in by the shell."""
    agent = turn.agent
    desired = desired_of(agent)
    return AgentStatus(
        running=True,
        device=turn.settings.device,
        fleet=turn.settings.fleet,
        profile=turn.settings.profile,
        session=agent.durable.session,
        broker=agent.broker,
        sequence=desired.sequence if desired else agent.durable.sequence,
        security_epoch=agent.durable.security_epoch,
        models=model_states(agent),
        runners=tuple(_runner(turn, s) for s in sorted(agent.serving.values(), key=lambda s: (s.model, s.manifest))),
        shadow=_shadow(agent.shadow) if agent.shadow is not None else None,
        outbox=len(agent.outbox),
        runtimes=agent.runtimes,
        held=_held(agent.durable),
        absent=absent(agent),
        last_error=agent.last_error,
    )


def _runner(turn: Turn, entry: Serving) -> RunnerStatus:
    seen = entry.seen
    return RunnerStatus(
        model=entry.model,
        state=WAITING if not entry.runs else seen.state.value if seen else "starting",
        pid=entry.pid,
        rss_bytes=seen.rss_bytes if seen else None,
        failures=entry.supervisor.failures,
        socket=f"{turn.context.state_dir}/{model_socket(entry.model)}",
        detail=seen.detail if seen else "",
    )


def _shadow(shadow: Shadow) -> ShadowStatus:
    seen = shadow.seen
    return ShadowStatus(
        model=shadow.model,
        manifest=shadow.request.manifest,
        label=shadow.label,
        state=seen.state.value if seen else "starting",
        pid=shadow.pid,
        rss_bytes=seen.rss_bytes if seen else None,
        summary=shadow.progress.summary if shadow.progress else None,
    )


def _roll_back(turn: Turn, ask: int, request: ControlRequest) -> None:
    if (model := _model_named(turn, ask, request)) is not None:
        refusal = pinning.kept_out(turn.agent.durable.model(model), model) or serving.roll_back(turn, model)
        _told(turn, ask, refusal)


def _pin(turn: Turn, ask: int, request: ControlRequest) -> None:
    model = _model_named(turn, ask, request)
    if model is None:
        return
    record = turn.agent.durable.model(model)
    installed = [slot for slot in (record.current, record.previous) if slot is not None]
    slot = next((slot for slot in installed if request.manifest in {None, slot.manifest}), None)
    if slot is None:
        known = ", ".join(f"{slot.label} ({slot.manifest[:12]})" for slot in installed) or "none"
        error = f"{model}: variant {(request.manifest or 'none')[:12]} is not installed"
        turn.do(Reply(ask, ControlReply(ok=False, error=error, hint=f"Installed variants: {known}.")))
        return
    _told(turn, ask, pinning.pin(turn, model, slot))


def _unpin(turn: Turn, ask: int, request: ControlRequest) -> None:
    if (model := _model_named(turn, ask, request)) is not None:
        pinning.unpin(turn, model)
        _told(turn, ask, None)


def _model_named(turn: Turn, ask: int, request: ControlRequest) -> str | None:
    """Return the model that is meant; without one that is here, answer with those that are."""
    names = sorted(turn.agent.durable.models)
    model = request.model or (names[0] if len(names) == 1 else None)
    if model in names:
        return model
    known = ", ".join(names) or "none"
    error = "name the model" if request.model is None else f"there is no model {request.model!r}"
    turn.do(Reply(ask, ControlReply(ok=False, error=error, hint=f"Models on this device: {known}.")))
    return None


def _told(turn: Turn, ask: int, refusal: Refusal | None) -> None:
    turn.do(Reply(ask, ControlReply(ok=refusal is None, status=status(turn), refusal=refusal)))


def _install(turn: Turn, ask: int, request: ControlRequest) -> None:
    if not ready_to_answer(turn.agent):
        error, hint = "the agent is starting", "Try again in a moment."
        turn.do(Reply(ask, ControlReply(ok=False, starting=True, error=error, hint=hint)))
    elif request.path is None:
        turn.do(Reply(ask, ControlReply(ok=False, error="no bundle file was named", hint="Give its path.")))
    else:
        turn.do(OpenBundle(ask, request.path))


def on_bundle_opened(turn: Turn, event: BundleOpened) -> None:
    """Install the bundle in place of whatever is under way, once its manifest is verified."""
    follow_chain(turn, event.roots)
    found = event.refusal if event.raw is None else _verified(turn, event.raw)
    if found is None or isinstance(found, Refusal):
        turn.do(Reply(event.ask, ControlReply(ok=False, refusal=found)))
        return
    digest, content = found
    current = turn.agent.durable.model(content.model).current
    if current is not None and current.manifest == digest:
        turn.do(Reply(event.ask, ControlReply(ok=True, status=status(turn))))
        return
    if (refusal := pinning.kept_out(turn.agent.durable.model(content.model), content.model)) is not None:
        turn.do(Reply(event.ask, ControlReply(ok=False, refusal=refusal)))
        return
    close_job(turn)
    turn.change(asks={**turn.agent.asks, digest: event.ask})
    overruled = serving.overruled_by_hand(turn, content.model)
    job = Job(kind=JobKind.INSTALL, model=content.model, manifest=digest, path=event.path, overruled=overruled)
    begin(turn, replace(job, raw=event.raw))


def _verified(turn: Turn, raw: bytes) -> tuple[str, Manifest] | Refusal:
    try:
        digest = manifest_digest(envelope.unpack(raw).payload)
    except WireError as error:
        return refuse(RefusalCode.MALFORMED, f"the bundle's manifest: {error}", error.hint)
    content = verified_manifest(raw, digest, turn.trust)
    return content if isinstance(content, Refusal) else (digest, content)


def ready_to_answer(agent: Agent) -> bool:
    """Return whether the agent knows enough of itself to carry out a command."""
    return agent.checked and agent.runtimes is not None


def status_at_rest(settings: AgentSettings, state: AgentState, *, outbox: int, disk_free_bytes: int) -> AgentStatus:
    """Return the status of an agent that does not run, from what it keeps."""
    return AgentStatus(
        running=False,
        device=settings.device,
        fleet=settings.fleet,
        profile=settings.profile,
        session=state.session,
        broker="the agent does not run",
        sequence=state.sequence,
        security_epoch=state.security_epoch,
        models=model_states(Agent(durable=state)),
        outbox=outbox,
        disk_free_bytes=disk_free_bytes,
        held=_held(state),
    )


def _held(state: AgentState) -> tuple[str, ...]:
    return tuple(sorted(name for name, record in state.models.items() if record.held))


def complete(reply: ControlReply, *, disk_free_bytes: int, rss_bytes: int | None) -> ControlReply:
    """Return the reply with what only the shell knows."""
    if reply.status is None:
        return reply
    return replace(reply, status=replace(reply.status, disk_free_bytes=disk_free_bytes, rss_bytes=rss_bytes))
