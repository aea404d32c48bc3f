"""From a wanted digest to a complete bundle in the store: manifest, survey, chunks, whole files.

Every stage can be entered again: what is on disk decides what is left to do.
"""

from dataclasses import replace

from edgepick_agent.core import absence, places, range_delivery, shadowing, shortfall
from edgepick_agent.core import fetch as window
from edgepick_agent.core.admission import (
    SPACE_MARGIN_BYTES,
    Admitted,
    admit,
    label_of,
    no_space,
    refuse,
    verified_manifest,
)
from edgepick_agent.core.effects import (
    CollectGarbage,
    DiscardDownload,
    ExpectChunks,
    ExtractBundle,
    Link,
    ReadManifest,
    Reserve,
    Say,
    StoreBundle,
    Subscribe,
    TakeSurvey,
    Unsubscribe,
)
from edgepick_agent.core.endings import park_job, refuse_job
from edgepick_agent.core.events import (
    BundleExtracted,
    BundleStored,
    Holding,
    ManifestRead,
    RangeDelivered,
    RangeEnded,
    StoreFailed,
    Survey,
    Surveyed,
)
from edgepick_agent.core.fetch import Asks
from edgepick_agent.core.garbage import bundles_in_use
from edgepick_agent.core.hours import seconds_until_open
from edgepick_agent.core.outbox import report_incident
from edgepick_agent.core.ranges import ranges_for
from edgepick_agent.core.trial import start_run
from edgepick_agent.core.turn import Job, JobKind, Stage, Turn
from edgepick_wire import topics
from edgepick_wire.manifest import Manifest
from edgepick_wire.messages import Incident, IncidentCode, Refusal, RefusalCode

STORE_PAUSE_SECONDS = 60.0
"""Pause after a storage failure that is not a want of space."""


def begin(turn: Turn, job: Job) -> None:
    """Take up a job: look for its manifest in the store first."""
    turn.change(job=job)
    turn.set_job(began_at=turn.now)
    if job.raw is None:
        turn.do(ReadManifest(job.manifest))
    else:
        _judge(turn, job, job.raw)


def _at(turn: Turn, manifest: str, stage: Stage) -> Job | None:
    """Return the job if the news is about it and what it waits for; anything else is late."""
    job = turn.agent.job
    return job if job is not None and job.manifest == manifest and job.stage is stage else None


# --- the manifest ---------------------------------------------------------------------------------


def on_manifest_read(turn: Turn, event: ManifestRead) -> None:
    """Go on with a stored manifest that still verifies; ask the broker for any other."""
    job = _at(turn, event.manifest, Stage.MANIFEST)
    if job is None:
        return
    stored = event.raw is not None and isinstance(verified_manifest(event.raw, job.manifest, turn.trust), Manifest)
    if event.raw is not None and stored:
        _judge(turn, job, event.raw)
        return
    job = turn.set_job(listening=True)
    if turn.agent.connected:
        _ask_for_manifest(turn, job)


def _ask_for_manifest(turn: Turn, job: Job) -> None:
    turn.change(job=replace(job, silent_from=turn.now + absence.patience_seconds(turn.settings.fetch)))
    turn.do(Subscribe((topics.manifest(turn.settings.fleet, job.manifest),), 1))


def on_manifest_delivered(turn: Turn, digest: str, raw: bytes) -> None:
    """Judge a manifest that the job waits for."""
    job = _at(turn, digest, Stage.MANIFEST)
    if job is not None and raw:
        _judge(turn, job, raw)


def _judge(turn: Turn, job: Job, raw: bytes) -> None:
    content = verified_manifest(raw, job.manifest, turn.trust)
    if isinstance(content, Refusal):
        refuse_job(turn, content)
        return
    verdict = _same_model(content, job) or admit(content, turn.facts())
    if isinstance(verdict, Refusal):
        refuse_job(turn, verdict)
        return
    turn.set_job(raw=raw, content=content, runtimes=verdict.runtimes, stage=Stage.SURVEY)
    _survey(turn, job, content)


def _survey(turn: Turn, job: Job, content: Manifest) -> None:
    """Have what is there looked at; a bundle file holds every file as it is."""
    algorithms = turn.context.algorithms if job.path is None else frozenset()
    turn.do(TakeSurvey(job.manifest, content, algorithms, job.avoid))


def _same_model(content: Manifest, job: Job) -> Refusal | None:
    if content.model == job.model:
        return None
    detail = f"{label_of(content)} was assigned to model {job.model!r}"
    return refuse(RefusalCode.MALFORMED, detail, "Assign it to the model that its manifest names.")


# --- the survey -----------------------------------------------------------------------------------


def on_surveyed(turn: Turn, event: Surveyed) -> None:
    """Go on with whatever the device lacks of the bundle, if there is room for it."""
    job = _at(turn, event.survey.manifest, Stage.SURVEY)
    if job is None or job.content is None:
        return
    lost = shortfall.no_way_left(job, job.content, event.survey)
    if lost is not None:
        turn.do(DiscardDownload(job.content))
        refuse_job(turn, lost)
        return
    missing = shortfall.missing_bytes(job.content, event.survey)
    verdict = admit(job.content, turn.facts(missing_bytes=missing, free_bytes=event.survey.free_bytes))
    if isinstance(verdict, Admitted):
        verdict = shortfall.over_budget(job, job.content, event.survey) or verdict
    if isinstance(verdict, Admitted):
        _supply(turn, job, job.content, event.survey)
    elif verdict.code is RefusalCode.NO_SPACE and not job.sweeps:
        _make_room(turn, job, job.content)
    else:
        refuse_job(turn, verdict)


def _make_room(turn: Turn, job: Job, content: Manifest) -> None:
    turn.set_job(sweeps=job.sweeps + 1)
    turn.do(
        CollectGarbage(bundles_in_use(turn.agent), content.downloads),
    )
    _survey(turn, job, content)


def _supply(turn: Turn, job: Job, content: Manifest, survey: Survey) -> None:
    pairs = shortfall.files(content, survey)
    reused = sum(shortfall.present(entry, held) for entry, held in pairs)
    ways = tuple(held.way for _, held in pairs if held.way is not None)
    job = turn.set_job(reused=max(job.reused, reused), done=reused, ways=ways)
    for entry, held in pairs:
        if held.holding is Holding.ELSEWHERE and held.source is not None:
            turn.do(Link(job.manifest, held.source, places.bundle_file(job.manifest, entry.name)))
    partial = shortfall.partial(content, survey)
    if not partial:
        _store(turn, job)
    elif job.path is not None:
        turn.set_job(stage=Stage.EXTRACT)
        turn.do(ExtractBundle(job.manifest, content, job.path))
    else:
        _begin_fetch(turn, job, partial)


def _store(turn: Turn, job: Job) -> None:
    assert job.content is not None
    assert job.raw is not None
    turn.set_job(stage=Stage.STORE, fetch=None)
    turn.do(StoreBundle(job.manifest, job.content, job.raw, job.ways))


# --- the chunks -----------------------------------------------------------------------------------


def _begin_fetch(turn: Turn, job: Job, partial: list[shortfall.Held]) -> None:
    targets = [shortfall.target(entry, held) for entry, held in partial]
    present = {target.name: shortfall.here(held) for target, (_, held) in zip(targets, partial, strict=True)}
    fetch = window.begin(targets, present, turn.settings.fetch, turn.context.jitter)
    plain = [entry for entry, held in partial if held.way is None and held.index is not None]
    ranges = ranges_for(job.content.sources if job.content else (), turn.settings.fetch, plain)
    turn.set_job(stage=Stage.FETCH, fetch=_held(turn, fetch), ranges=ranges)
    turn.do(*(Reserve(job.manifest, target.name, target.size) for target in targets))
    encoded = (entry for entry, held in partial if held.way is not None)
    turn.do(*(Reserve(job.manifest, places.part(entry.sha256), entry.size) for entry in encoded))
    turn.do(ExpectChunks(job.manifest, fetch.pieces))
    if not turn.agent.connected or (ranges is not None and ranges.leads):
        range_delivery.ask(turn)
    if turn.agent.connected:
        resume(turn)
    _go_on_if_finished(turn)


def resume(turn: Turn) -> None:
    """Take the job up again in a fresh session at the broker."""
    job = turn.agent.job
    if job is None:
        return
    if job.listening and job.stage is Stage.MANIFEST:
        _ask_for_manifest(turn, job)
    if job.fetch is not None:
        fetch, asks = window.connected(_held(turn, job.fetch), turn.now)
        if turn.settings.fetch.hours and fetch.not_before > turn.now and not fetch.waiting:
            turn.do(Say(f"{job.model}: waits for the hours of downloads, {turn.settings.fetch.hours}"))
        turn.set_job(fetch=fetch)
        _tell(turn, asks)


def interrupt(turn: Turn) -> None:
    """Take note that the broker forgot the job's subscriptions."""
    job = turn.agent.job
    if job is not None and job.fetch is not None:
        turn.set_job(fetch=window.disconnected(job.fetch, turn.now))
        range_delivery.ask(turn)
    elif job is not None:
        turn.change(job=replace(job, silent_from=None))


def on_chunks(turn: Turn, chunks: tuple[window.Chunk, ...]) -> None:
    """Take note of what came, and ask for more."""
    job = turn.agent.job
    if job is None or job.fetch is None:
        return
    fetch, arrivals = window.accept_all(job.fetch, chunks, turn.now)
    filled = _count(turn, job, chunks, arrivals)
    before = job.fetch
    fetch, asks = window.pump(_held(turn, fetch), turn.now)
    counted = replace(
        job,
        fetch=fetch,
        heard_at=turn.now,
        done=job.done + filled,
        fetched=job.fetched + fetch.fetched - before.fetched,
        bytes_fetched=job.bytes_fetched + fetch.bytes_fetched - before.bytes_fetched,
    )
    turn.change(job=counted)
    _tell(turn, asks)
    _go_on_if_finished(turn)


def _count(turn: Turn, job: Job, chunks: tuple[window.Chunk, ...], arrivals: tuple[window.Arrival, ...]) -> int:
    """Return how many places of files chunks have filled; report those that are not what they were sent as."""
    for chunk, arrival in zip(chunks, arrivals, strict=True):
        if arrival.corrupt:
            detail, code = f"chunk {chunk.digest[:12]} does not hash to its name", IncidentCode.CHUNK_CORRUPT
            report_incident(turn, Incident(code=code, detail=detail, model=job.model, manifest=job.manifest))
    return sum(piece.name.endswith(".part") for arrival in arrivals for piece in arrival.pieces)


def _held(turn: Turn, fetch: window.Fetch) -> window.Fetch:
    """Return the fetch keeping to the hours in which downloads are allowed."""
    hours = turn.settings.fetch.hours
    closed = seconds_until_open(hours, turn.context.time_of_day(turn.wall)) if hours else 0.0
    return window.hold(fetch, turn.now + closed) if closed > 0 else fetch


def _tell(turn: Turn, asks: Asks) -> None:
    fleet = turn.settings.fleet
    if asks.subscribe:
        turn.do(Subscribe(tuple(topics.chunk(fleet, digest) for digest in asks.subscribe), 0))
    if asks.unsubscribe:
        turn.do(Unsubscribe(tuple(topics.chunk(fleet, digest) for digest in asks.unsubscribe)))


def _go_on_if_finished(turn: Turn) -> None:
    job = turn.agent.job
    if job is None or job.fetch is None or not job.fetch.finished or job.content is None:
        return
    _tell_cost(turn, job.fetch)
    range_delivery.tell(turn, job)
    if _fetched_an_index(job.fetch):
        turn.set_job(stage=Stage.SURVEY, fetch=None)
        _survey(turn, job, job.content)
    else:
        _store(turn, job)


def _tell_cost(turn: Turn, fetch: window.Fetch) -> None:
    if fetch.began_at is not None:
        took = turn.now - fetch.began_at
        turn.do(Say(f"fetched {fetch.fetched} chunks, {fetch.bytes_fetched} bytes in {took:.3f} s"))


def _fetched_an_index(fetch: window.Fetch) -> bool:
    return any(piece.name.endswith(".index") for pieces in fetch.pieces.values() for piece in pieces)


def on_range(turn: Turn, event: RangeDelivered | RangeEnded) -> None:
    """Take what came over HTTPS; ask for more of it there, or at the broker."""
    if isinstance(event, RangeDelivered):
        range_delivery.take(turn, event)
    else:
        range_delivery.end(turn, event.key, event.problem)
    _ask_all(turn)
    _go_on_if_finished(turn)


def _ask_all(turn: Turn) -> None:
    if turn.agent.job is None or turn.agent.job.fetch is None:
        return
    turn.set_job(fetch=_held(turn, turn.agent.job.fetch))
    range_delivery.ask(turn)
    fetch, asks = window.pump(turn.agent.job.fetch, turn.now)
    turn.set_job(fetch=fetch)
    _tell(turn, asks)


def on_tick(turn: Turn) -> None:
    """Ask again for what did not come; report what seems to be nowhere."""
    range_delivery.look(turn)
    absence.look(turn)
    job = turn.agent.job
    if job is None or job.fetch is None:
        return
    fetch, asks, missing = window.tick(_held(turn, job.fetch), turn.now)
    turn.change(job=replace(job, fetch=fetch))
    _tell(turn, asks)
    if missing:
        absence.report_chunks(turn, job, missing)
    range_delivery.ask(turn)


# --- the whole ------------------------------------------------------------------------------------


def on_extracted(turn: Turn, event: BundleExtracted) -> None:
    """Go on with the files of a bundle file, or refuse it."""
    job = _at(turn, event.manifest, Stage.EXTRACT)
    if job is None:
        return
    if event.refusal is not None:
        refuse_job(turn, event.refusal)
    else:
        _store(turn, job)


def on_stored(turn: Turn, event: BundleStored) -> None:
    """Try or measure the variant; refuse a bundle whose files are not what the manifest says."""
    job = _at(turn, event.manifest, Stage.STORE)
    if job is None or job.content is None:
        return
    if event.undecoded:
        _go_another_way(turn, job, job.content, event.undecoded)
        return
    if not event.bad:
        _leave_topic(turn, job)
        shadowing.begin(turn) if job.kind is JobKind.SHADOW else start_run(turn)
        return
    turn.do(DiscardDownload(job.content))
    detail = f"{label_of(job.content)}: the digest of {', '.join(event.bad)} is not what the manifest says"
    refuse_job(turn, refuse(RefusalCode.DIGEST_MISMATCH, detail, "Bundle and publish the variant again."))


def _go_another_way(turn: Turn, job: Job, content: Manifest, undecoded: tuple[str, ...]) -> None:
    """Look again without the encoded forms that were useless; the next smaller way is taken, at last none."""
    named = ", ".join(digest[:12] for digest in undecoded)
    turn.do(Say(f"{label_of(content)}: {named} did not decode to the right file; fetching it otherwise", serious=True))
    job = turn.set_job(stage=Stage.SURVEY, avoid=job.avoid | frozenset(undecoded))
    _survey(turn, job, content)


def _leave_topic(turn: Turn, job: Job) -> None:
    if job.listening and turn.agent.connected:
        turn.do(Unsubscribe((topics.manifest(turn.settings.fleet, job.manifest),)))
    turn.set_job(listening=False)


def on_store_failed(turn: Turn, event: StoreFailed) -> None:
    """Refuse what does not fit; put off what the disk would not take for another reason."""
    job = turn.agent.job
    if job is None or job.manifest != event.manifest:
        return
    if event.full and job.content is not None:
        report_incident(turn, Incident(code=IncidentCode.STORAGE_FULL, detail=event.detail, model=job.model))
        refuse_job(turn, no_space(label_of(job.content), job.content.size + SPACE_MARGIN_BYTES))
        return
    turn.fail(event.detail)
    park_job(turn, STORE_PAUSE_SECONDS)
