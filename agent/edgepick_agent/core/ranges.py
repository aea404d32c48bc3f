"""Ranges of the same chunks from an HTTPS source beside the broker. Pure.

- One range at a time: missing chunks that lie one after the other in a file as it is. They are
  *claimed*: nobody asks the broker for them meanwhile.
- Preferred to the broker, the source brings what was never asked for; behind it, what the broker does
  not have. Whatever is missing, it brings while there is no broker.
- A chunk counts only if its bytes hash to its name, as over MQTT. Any failure gives the chunks back to
  the broker at once; the source rests, longer each time, and the next one is tried after that.
- Rate limit and hours are the fetch's own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from edgepick_agent.core import fetch as window
from edgepick_agent.core import places
from edgepick_agent.core.effects import FetchRange
from edgepick_agent.core.fetch import Chunk, Fetch, Piece, Retry
from edgepick_agent.core.settings import FetchSettings
from edgepick_wire.manifest import FileEntry
from edgepick_wire.sources import source_url

RANGE_BYTES = 4 * 1024 * 1024
"""Largest range; bounds what waits in memory, and what is under way when the hours end."""
SILENCE_SECONDS = 30.0
"""Longest time without a chunk; a source this slow is no help."""
REST_SECONDS = 30.0
REST_MAX_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A range that was asked for: what it is called, from where, and when a chunk of it came last."""

    key: str
    url: str
    heard_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What HTTPS does for a download.

    Attributes:
        templates: The sources, asked in turn.
        files: Storage name of a partial file -> the file.
        leads: It is preferred to the broker.
        begun: Ranges asked for so far.
        failures: Failures in a row.
        rests_until: Nothing is asked before.
        bytes_fetched: Bytes of good chunks that came this way.
    """

    templates: tuple[str, ...]
    files: Mapping[str, FileEntry]
    leads: bool
    flight: Flight | None = None
    begun: int = 0
    failures: int = 0
    rests_until: float = 0.0
    bytes_fetched: int = 0


def ranges_for(templates: tuple[str, ...], settings: FetchSettings, files: Iterable[FileEntry]) -> Ranges | None:
    """Return the use that is made of HTTPS for these files; ``None`` if there is none."""
    sources = (settings.site_cache,) if settings.site_cache else templates
    found = {places.part(entry.sha256): entry for entry in files}
    if not sources or not found or "https" not in settings.sources:
        return None
    return Ranges(templates=sources, files=found, leads=settings.sources[0] == "https")


def pump(ranges: Ranges, fetch: Fetch, now: float, job: str) -> tuple[Ranges, Fetch, FetchRange | None]:
    """Return both with the next range asked for, if one may be, and what to ask."""
    resting = now < ranges.rests_until
    fetch = replace(fetch, led=ranges.leads and not resting)
    if ranges.flight is not None or resting or now < fetch.not_before:
        return ranges, fetch, None
    run = _run(ranges, fetch)
    if not run:
        return ranges, replace(fetch, led=False), None
    entry = ranges.files[run[0][1].name]
    template = ranges.templates[ranges.failures % len(ranges.templates)]
    url = source_url(template, sha256=entry.sha256, name=entry.name)
    asked = FetchRange(
        key=f"{job}/{now}/{ranges.begun}",
        url=url,
        offset=run[0][1].offset,
        file_size=entry.size,
        chunks=tuple((digest, piece.size) for digest, piece in run),
    )
    flight = Flight(key=asked.key, url=url, heard_at=now)
    return replace(ranges, flight=flight, begun=ranges.begun + 1), _claim(fetch, run, now), asked


def _run(ranges: Ranges, fetch: Fetch) -> list[tuple[str, Piece]]:
    most = max(1, min(RANGE_BYTES, fetch.settings.bytes_per_second or RANGE_BYTES) // fetch.chunk_size)
    run: list[tuple[str, Piece]] = []
    for digest in _candidates(ranges, fetch, most):
        piece = fetch.pieces[digest][0]
        last = run[-1][1] if run else None
        follows = last is None or (piece.name == last.name and piece.offset == last.offset + last.size)
        if piece.name not in ranges.files or not follows or len(run) == most:
            break
        run.append((digest, piece))
    return run


def _candidates(ranges: Ranges, fetch: Fetch, most: int) -> list[str]:
    again = [r.digest for r in fetch.again if not fetch.connected or r.asked >= fetch.settings.retries]
    if again:
        return sorted(again, key=lambda digest: fetch.pieces[digest][0])
    fresh = ranges.leads or not fetch.connected
    return list(fetch.order[fetch.cursor : fetch.cursor + most]) if fresh else []


def _claim(fetch: Fetch, run: list[tuple[str, Piece]], now: float) -> Fetch:
    names = frozenset(digest for digest, _ in run)
    retried = tuple(r.digest for r in fetch.again if r.digest in names)
    return replace(
        fetch,
        claimed=names,
        cursor=fetch.cursor if retried else fetch.cursor + len(run),
        again=tuple(r for r in fetch.again if r.digest not in names),
        stale=fetch.stale + (retried if fetch.connected else ()),
        not_before=window.paid_until(fetch, len(run), now),
        began_at=now if fetch.began_at is None else fetch.began_at,
    )


def accept(ranges: Ranges, fetch: Fetch, chunks: tuple[Chunk, ...], now: float) -> tuple[Ranges, Fetch, int, bool]:
    """Return both with chunks of the range taken note of, how many places they filled, and whether all were good."""
    good = [chunk for chunk in chunks if chunk.digest in fetch.claimed and chunk.good]
    size = sum(chunk.size for chunk in good)
    fetch = replace(
        fetch,
        claimed=fetch.claimed - {chunk.digest for chunk in good},
        fetched=fetch.fetched + len(good),
        bytes_fetched=fetch.bytes_fetched + size,
    )
    flight = replace(ranges.flight, heard_at=now) if ranges.flight is not None else None
    ranges = replace(ranges, flight=flight, bytes_fetched=ranges.bytes_fetched + size)
    filled = sum(len(fetch.pieces[chunk.digest]) for chunk in good)
    return ranges, fetch, filled, len(good) == len(chunks)


def ended(ranges: Ranges, fetch: Fetch, now: float, *, failed: bool) -> tuple[Ranges, Fetch]:
    """Return both without the range; what did not come is due at the broker, and after a failure the source rests."""
    lost = tuple(Retry(digest, 0, now) for digest in fetch.order if digest in fetch.claimed) if fetch.claimed else ()
    fetch = replace(fetch, claimed=frozenset(), again=fetch.again + lost, led=False)
    if not failed and not lost:
        return replace(ranges, flight=None, failures=0), fetch
    rest = min(REST_MAX_SECONDS, REST_SECONDS * float(2 ** min(ranges.failures, 10)))
    return replace(ranges, flight=None, failures=ranges.failures + 1, rests_until=now + rest), fetch


def is_silent(ranges: Ranges, now: float) -> bool:
    """Return whether the range under way has brought nothing for too long."""
    return ranges.flight is not None and now >= ranges.flight.heard_at + SILENCE_SECONDS


def next_wake(ranges: Ranges, fetch: Fetch, now: float) -> float | None:
    """Return when there is something to do, if nothing happens before."""
    if ranges.flight is not None:
        return ranges.flight.heard_at + SILENCE_SECONDS
    return max(ranges.rests_until, fetch.not_before) if max(ranges.rests_until, fetch.not_before) > now else None
