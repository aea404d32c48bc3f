"""What the broker was asked for in vain: a manifest or chunks that nobody published, or that it has lost.

It is said once and waited for: the subscription stays, since the host may publish it again.
"""

from dataclasses import replace

from edgepick_agent.core.fetch import PATIENCE_MAX_SECONDS, Fetch
from edgepick_agent.core.outbox import report_incident, said_lately
from edgepick_agent.core.settings import FetchSettings
from edgepick_agent.core.turn import Agent, Job, Stage, Turn
from edgepick_wire.messages import Incident, IncidentCode


def patience_seconds(settings: FetchSettings) -> float:
    """Return the silence after which a manifest counts as missing.

    As long as a chunk is asked for in vain, each time with twice the patience, and at most as long as a job
    waits before it makes way for another.
    """
    return min(PATIENCE_MAX_SECONDS, settings.timeout_seconds * float(2 ** min(settings.retries, 10) - 1))


def next_wake(job: Job) -> float | None:
    """Return when the broker will have been silent about the manifest for too long, if that is to be said."""
    return job.silent_from if job.stage is Stage.MANIFEST and not job.unheard else None


def look(turn: Turn) -> None:
    """Report a manifest that the broker does not have; once, however often the job makes way for others."""
    job = turn.agent.job
    due = next_wake(job) if job is not None else None
    if job is None or due is None or turn.now < due:
        return
    turn.change(job=replace(job, unheard=True))
    incident = _incident(job, _manifest(job))
    if not said_lately(turn, incident):
        report_incident(turn, incident)


def report_chunks(turn: Turn, job: Job, missing: tuple[str, ...]) -> None:
    """Report chunks that were asked for as often as may be."""
    asked = turn.settings.fetch.retries
    report_incident(turn, _incident(job, f"{_chunks(missing)}; asked {asked} times"))


def absent(agent: Agent) -> str | None:
    """Return what the job under way waits for in vain, in words; ``None`` if it does not."""
    job = agent.job
    if job is None or not agent.connected:
        return None
    lost = _lost(job.fetch) if job.fetch is not None else ()
    found = _manifest(job) if job.stage is Stage.MANIFEST and job.unheard else _chunks(lost) if lost else None
    return f"{job.model}: {found}" if found is not None else None


def _lost(fetch: Fetch) -> tuple[str, ...]:
    retries = fetch.settings.retries
    waiting = (digest for digest, asked in fetch.waiting.items() if asked.times > retries)
    return (*waiting, *(retry.digest for retry in fetch.again if retry.asked >= retries))


def _manifest(job: Job) -> str:
    return f"manifest {job.manifest[:12]}: the broker does not have it"


def _chunks(missing: tuple[str, ...]) -> str:
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"chunk {missing[0][:12]}{more}: the broker does not have it"


def _incident(job: Job, detail: str) -> Incident:
    return Incident(code=IncidentCode.CHUNK_MISSING, detail=detail, model=job.model, manifest=job.manifest)
