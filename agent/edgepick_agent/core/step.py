"""The agent's heart: ``(agent, event) -> (agent, effects)``.

The effects come in the order in which they are to be performed. What makes room comes first, then
the reports are kept, then the durable state is, and only then comes everything that relies on it,
the sending of the reports among it; so after a power cut a report may be said twice, but nothing was
done that the device does not know of. A step whose state cannot be written did not happen, and
nobody is told of it.
"""

from edgepick_agent.core import (
    absence,
    delivery,
    fetch,
    intake,
    planning,
    ranges,
    serving,
    shadowing,
    standing,
    technician,
    trial,
)
from edgepick_agent.core.effects import CheckSlots, DiscardDownload, Effect, FindRuntimes, Persist, SaveReport, Say
from edgepick_agent.core.endings import park_job
from edgepick_agent.core.events import (
    BundleExtracted,
    BundleOpened,
    BundleStored,
    ChunksDelivered,
    Connected,
    ControlAsked,
    Delivered,
    Disconnected,
    Event,
    ManifestRead,
    Oversized,
    RangeDelivered,
    RangeEnded,
    RunnerNotFronted,
    RunnerNotStarted,
    RunnerSeen,
    RuntimesFound,
    SlotsChecked,
    Started,
    StateNotWritten,
    StoreFailed,
    Surveyed,
    Tick,
)
from edgepick_agent.core.exhaustive import assert_never
from edgepick_agent.core.outbox import report_incident
from edgepick_agent.core.turn import Agent, Context, Stage, Turn
from edgepick_wire.messages import Incident, IncidentCode

UNWRITTEN_PAUSE_SECONDS = 10.0

FIRST = (DiscardDownload, SaveReport)
"""Effects that come before the state is written."""

StepStoreEvent = SlotsChecked | ManifestRead | Surveyed | BundleStored | BundleOpened | BundleExtracted | StoreFailed


def step(agent: Agent, event: Event, context: Context, *, now: float, wall: float) -> tuple[Agent, tuple[Effect, ...]]:
    """Return the agent after ``event``, and what is to be done, in order.

    Args:
        agent: The agent before.
        event: What happened; may be late or a repetition.
        context: What does not change.
        now: Monotonic seconds.
        wall: Seconds since the epoch, for reports.
    """
    turn = Turn(agent, context, now, wall)
    _handle(turn, event)
    if _are_passing_chunks(turn, event):
        standing.announce_progress(turn)
    else:
        planning.arrange(turn)
        serving.tend(turn)
        shadowing.tend(turn)
        standing.announce(turn)
    return turn.agent, _ordered(agent, turn)


def _are_passing_chunks(turn: Turn, event: Event) -> bool:
    job = turn.agent.job
    if job is None or job.stage is not Stage.FETCH:
        return False
    return isinstance(event, ChunksDelivered | RangeDelivered)


def _ordered(before: Agent, turn: Turn) -> tuple[Effect, ...]:
    room = [e for e in turn.effects if isinstance(e, DiscardDownload)]
    reports = [e for e in turn.effects if isinstance(e, SaveReport)]
    rest = [e for e in turn.effects if not isinstance(e, FIRST)] if room or reports else turn.effects
    unchanged = turn.agent.durable is before.durable or turn.agent.durable == before.durable
    state = [] if unchanged else [Persist(turn.agent.durable)]
    return (*room, *reports, *state, *rest)


def _handle(turn: Turn, event: Event) -> None:
    match event:
        case Connected() | Disconnected() | Delivered() | ChunksDelivered() | Oversized():
            intake.on_transport(turn, event)
        case RunnerSeen() | RunnerNotStarted() | RunnerNotFronted():
            _on_runner(turn, event)
        case ControlAsked():
            technician.on_control(turn, event)
        case Started():
            _on_started(turn, event)
        case RangeDelivered() | RangeEnded() | Tick():
            _on_delivery(turn, event)
        case RuntimesFound():
            turn.change(runtimes=event.runtimes)
            intake.say_birth(turn)
        case StateNotWritten():
            _on_state_not_written(turn, event)
        case _:
            _on_store(turn, event)


def _on_delivery(turn: Turn, event: RangeDelivered | RangeEnded | Tick) -> None:
    if isinstance(event, Tick):
        intake.on_tick(turn)
        delivery.on_tick(turn)
    else:
        delivery.on_range(turn, event)


def _on_store(turn: Turn, event: StepStoreEvent) -> None:
    match event:
        case SlotsChecked():
            serving.on_slots_checked(turn, event)
        case ManifestRead():
            delivery.on_manifest_read(turn, event)
        case Surveyed():
            delivery.on_surveyed(turn, event)
        case BundleStored():
            delivery.on_stored(turn, event)
        case BundleOpened():
            technician.on_bundle_opened(turn, event)
        case BundleExtracted():
            delivery.on_extracted(turn, event)
        case StoreFailed():
            delivery.on_store_failed(turn, event)
        case _:
            assert_never(event)


def _on_runner(turn: Turn, event: RunnerSeen | RunnerNotStarted | RunnerNotFronted) -> None:
    if isinstance(event, RunnerNotStarted):
        trial.on_run_not_started(turn, event)
        serving.on_serving_not_started(turn, event)
        shadowing.on_not_started(turn, event)
    elif isinstance(event, RunnerNotFronted):
        serving.on_not_fronted(turn, event)
    elif event.key.startswith("run/"):
        trial.on_run_seen(turn, event)
    elif event.key.startswith("shadow/"):
        shadowing.on_seen(turn, event)
    else:
        serving.on_serving_seen(turn, event)


def _on_started(turn: Turn, event: Started) -> None:
    turn.change(outbox=event.outbox)
    if event.note:
        turn.fail(event.note)
    slots = {slot.manifest for r in turn.agent.durable.models.values() for slot in (r.a, r.b) if slot is not None}
    turn.do(Say(f"session {turn.agent.durable.session}"), CheckSlots(tuple(sorted(slots))), FindRuntimes())


def _on_state_not_written(turn: Turn, event: StateNotWritten) -> None:
    """Say it, and put a download off: what it could not keep it would ask for again at once, for ever."""
    if is_fetching(turn.agent):
        park_job(turn, UNWRITTEN_PAUSE_SECONDS)
    if event.full:
        report_incident(turn, Incident(code=IncidentCode.STORAGE_FULL, detail=event.detail))
    else:
        turn.fail(event.detail)


def is_fetching(agent: Agent) -> bool:
    """Return whether a download is under way; then a step that was not written puts it off as a whole."""
    return agent.job is not None and agent.job.fetch is not None


def next_wake(agent: Agent, now: float) -> float | None:
    """Return the next time after ``now`` at which a :class:`Tick` is due, if nothing happens before."""
    times = [s.supervisor.next_start for s in agent.serving.values() if not s.runs and not s.supervisor.gave_up]
    times += [absence.next_wake(agent.job)] if agent.job is not None else []
    if agent.job is not None and agent.job.fetch is not None:
        times.append(fetch.next_wake(agent.job.fetch, now))
        if agent.job.ranges is not None:
            times.append(ranges.next_wake(agent.job.ranges, agent.job.fetch, now))
    times += [agent.ahead.since + intake.ROOT_CHAIN_SECONDS] if agent.ahead is not None else []
    times += planning.next_looks(agent)
    return min((at for at in times if at is not None and at > now), default=None)


def range_wanted(agent: Agent) -> str | None:
    """Return the range that is still of use; any other is cancelled at once."""
    job = agent.job
    flight = job.ranges.flight if job is not None and job.ranges is not None and job.fetch is not None else None
    return flight.key if flight is not None else None
