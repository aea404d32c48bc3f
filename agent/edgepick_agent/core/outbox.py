"""What the agent tells the host for keeps: reports, bounded, and not in floods.

A report is written before the state of the step that it tells of, is sent after it, and stays until the
host acknowledges it. When the outbox is full, the oldest incidents go first, because outcomes and
measurements decide rollouts. What nobody acknowledges is sent again at growing intervals, whatever host
and broker say about themselves.
"""

import hashlib
import math
from dataclasses import dataclass, replace

from edgepick_agent.core.effects import DropReports, SaveReport, Say, SendReport
from edgepick_agent.core.events import RunnerNotStarted
from edgepick_agent.core.turn import Turn
from edgepick_wire import codec
from edgepick_wire.messages import (
    Incident,
    IncidentCode,
    InstallOutcome,
    MeasuredVariant,
    Report,
    ReportKind,
    ShadowedVariant,
)

OUTBOX_LIMIT = 512
QUIET_SECONDS = 30.0
"""Within this time an incident that comes in floods is counted instead of said again."""
RESEND_FIRST_SECONDS = 30.0
RESEND_MAX_SECONDS = 900.0
RESEND_SPREAD = 0.25
"""Share by which a device's intervals are longer than another's at most, so that a fleet is not in step."""
FLOODING = frozenset(
    {
        IncidentCode.CHUNK_CORRUPT,
        IncidentCode.CHUNK_MISSING,
        IncidentCode.STORAGE_FULL,
        IncidentCode.RUNNER_NOT_STARTED,
    }
)


def report_install(turn: Turn, outcome: InstallOutcome) -> None:
    """Have the end of an installation reported."""
    _save(turn, ReportKind.INSTALL, install=outcome)


def report_measurement(turn: Turn, measured: MeasuredVariant) -> None:
    """Have the result of a measure request reported."""
    _save(turn, ReportKind.MEASUREMENT, measurement=measured)


def report_shadow(turn: Turn, shadowed: ShadowedVariant) -> None:
    """Have the end of a shadow request reported."""
    _save(turn, ReportKind.SHADOW, shadow=shadowed)


def report_incident(turn: Turn, incident: Incident) -> None:
    """Have an incident reported, and shown as the latest error; repetitions are counted, not sent."""
    turn.change(last_error=incident.detail)
    swallowed = _swallowed(turn, incident) if incident.code in FLOODING else 0
    if swallowed is None:
        return
    turn.do(Say(f"{incident.code}: {incident.detail}", serious=True))
    lost = f" ({turn.agent.lost} older reports were dropped from the full outbox)" if turn.agent.lost else ""
    said = replace(incident, detail=(incident.detail + lost)[:2000], count=max(incident.count, swallowed + 1))
    turn.change(lost=0)
    _save(turn, ReportKind.INCIDENT, incident=said)


def report_not_started(turn: Turn, model: str, event: RunnerNotStarted) -> None:
    """Have it reported that a runner of ``model`` could not be started: a matter of the device, of no variant."""
    code = IncidentCode.STORAGE_FULL if event.full else IncidentCode.RUNNER_NOT_STARTED
    report_incident(turn, Incident(code=code, detail=f"{model}: {event.detail}"[:2000], model=model))


def _swallowed(turn: Turn, incident: Incident) -> int | None:
    """Return how often it happened unsaid since it was last said; ``None``, and one more, if that was just now."""
    key = _kind(incident)
    said_at, swallowed = turn.agent.quiet.get(key, (None, 0))
    if said_at is not None and turn.now - said_at < QUIET_SECONDS:
        turn.change(quiet={**turn.agent.quiet, key: (said_at, swallowed + 1)})
        return None
    turn.change(quiet={**_recent(turn), key: (turn.now, 0)})
    return swallowed


def said_lately(turn: Turn, incident: Incident) -> bool:
    """Return whether an incident that comes in floods was said in the last hour, or nearly."""
    return _kind(incident) in _recent(turn)


def _kind(incident: Incident) -> str:
    return f"{incident.code}/{incident.model}/{incident.manifest}"


def _recent(turn: Turn) -> dict[str, tuple[float, int]]:
    return {key: entry for key, entry in turn.agent.quiet.items() if turn.now - entry[0] < 100 * QUIET_SECONDS}


def _save(
    turn: Turn,
    kind: ReportKind,
    *,
    measurement: MeasuredVariant | None = None,
    install: InstallOutcome | None = None,
    incident: Incident | None = None,
    shadow: ShadowedVariant | None = None,
) -> None:
    turn.change(counter=turn.agent.counter + 1)
    report = Report(
        id=_new_id(turn, kind),
        device=turn.settings.device,
        session=turn.agent.durable.session,
        recorded_at=turn.wall,
        kind=kind,
        measurement=measurement,
        install=install,
        incident=incident,
        shadow=shadow,
    )
    kept = (*turn.agent.outbox, report.id)
    surplus = _surplus(kept)
    turn.change(outbox=tuple(i for i in kept if i not in surplus), lost=turn.agent.lost + len(surplus))
    payload = codec.encode(report)
    turn.do(SaveReport(report.id, payload), SendReport(payload))
    if surplus:
        turn.do(DropReports(surplus))


def _new_id(turn: Turn, kind: ReportKind) -> str:
    """Return an id that is unique even on a device that lost its state, and sorts by age."""
    device, session, counter = turn.settings.device, turn.agent.durable.session, turn.agent.counter
    unique = hashlib.sha256(f"{device} {session} {counter} {turn.wall!r}".encode()).hexdigest()[:12]
    return f"{session:06d}-{counter:06d}-{kind}-{unique}"


def _surplus(ids: tuple[str, ...]) -> tuple[str, ...]:
    if len(ids) <= OUTBOX_LIMIT:
        return ()
    incidents = [i for i in ids if f"-{ReportKind.INCIDENT}-" in i]
    return (*incidents, *ids)[: len(ids) - OUTBOX_LIMIT]


def acknowledge(turn: Turn, ids: tuple[str, ...]) -> None:
    """Drop the reports that the host has stored; ids that are not ours are ignored."""
    known = tuple(i for i in turn.agent.outbox if i in ids)
    if known:
        turn.change(outbox=tuple(i for i in turn.agent.outbox if i not in known))
        turn.do(DropReports(known))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resending:
    """When the reports are sent again that wait for an acknowledgement.

    Attributes:
        oldest: The first report that waits; another one means that the host does acknowledge.
        pause: Seconds from the latest sending to the next.
        due: When that is; never while nothing waits.
    """

    oldest: str | None = None
    pause: float = RESEND_FIRST_SECONDS
    due: float = math.inf


def resend(before: Resending, outbox: tuple[str, ...], now: float, jitter: float) -> tuple[Resending, bool]:
    """Return the plan at ``now``, and whether everything in ``outbox`` is to be sent again at once.

    ``jitter`` is the device's share from 0 to 1.
    """
    stretch = 1.0 + RESEND_SPREAD * jitter
    oldest = outbox[0] if outbox else None
    if oldest is None:
        return Resending(), False
    if oldest != before.oldest:
        return Resending(oldest=oldest, due=now + RESEND_FIRST_SECONDS * stretch), False
    if now < before.due:
        return before, False
    pause = min(before.pause * 2, RESEND_MAX_SECONDS)
    return replace(before, pause=pause, due=now + pause * stretch), True
