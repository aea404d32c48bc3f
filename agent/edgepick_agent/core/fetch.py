"""The download window: which chunks to ask for next, and what to do with each that comes.

Pure: the shell subscribes, unsubscribes and writes as told. Rules:

- A chunk is asked for by subscribing to its topic, at most ``window`` at a time and eight topics
  per packet; the broker answers with the retained message.
- A chunk is taken only if its bytes hash to its name. It may fill several places, and is fetched once.
- Silence, not age, means loss: on a slow link a full window takes long, but something keeps coming.
  After a silence everything outstanding is asked for again, the window is halved and the patience
  doubled (additive increase, multiplicative decrease, as TCP does).
- A chunk that stays away is reported once and then asked for at growing intervals, for ever: the
  host may come back. Its subscription stays, so that publishing it delivers it at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgepick_agent.core.settings import FetchSettings
from edgepick_wire.ids import digest_of

TOPICS_PER_PACKET = 8
"""AWS IoT Core's limit of filters per SUBSCRIBE; other brokers allow more."""
MISSING_WAIT_SECONDS = 60.0
MISSING_WAIT_MAX_SECONDS = 900.0
PATIENCE_MAX_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file to fill: its storage name, its size, and the digest of each of its chunks in order."""

    name: str
    size: int
    chunk_size: int
    digests: tuple[str, ...]


class Piece(NamedTuple):
    """A place that a chunk fills."""

    name: str
    offset: int
    size: int


class Retry(NamedTuple):
    """A chunk to ask for again: how often it was asked for, and not before when."""

    digest: str
    asked: int
    not_before: float


class Asks(NamedTuple):
    """What to tell the broker: chunks to subscribe to, and chunks to unsubscribe from."""

    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()


class Arrival(NamedTuple):
    """What a delivered chunk means: where to write it, or that it is corrupt; neither for a duplicate."""

    pieces: tuple[Piece, ...] = ()
    corrupt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """A download in progress.

    Attributes:
        pieces: Where each missing chunk goes; never changed after :func:`begin`.
        order: The missing chunks; those before ``cursor`` have been asked for.
        waiting: Chunks asked for and not yet here, with the number of times they were asked for.
        again: Chunks to be asked for again.
        stale: Chunks that came, still subscribed; dropped eight at a time.
        width: The window now.
        rounds: Silent rounds lately; each doubles the patience.
        heard_at: When the last chunk came, or the first was asked for.
        fetched: Chunks received, corrupt ones and duplicates not counted.
    """

    settings: FetchSettings
    pieces: Mapping[str, tuple[Piece, ...]]
    order: tuple[str, ...]
    cursor: int = 0
    waiting: Mapping[str, int]
    again: tuple[Retry, ...] = ()
    stale: tuple[str, ...] = ()
    width: int
    rounds: int = 0
    heard_at: float
    connected: bool = False
    fetched: int = 0
    bytes_fetched: int = 0

    @property
    def finished(self) -> bool:
        """Everything is here."""
        return self.fetched == len(self.order)


def begin(targets: Iterable[Target], present: Mapping[str, frozenset[str]], settings: FetchSettings) -> Fetch:
    """Return a fetch of every chunk of ``targets`` that is not ``present`` in them, not yet connected."""
    pieces: dict[str, tuple[Piece, ...]] = {}
    for target in targets:
        have = present.get(target.name, frozenset())
        for position, digest in enumerate(target.digests):
            if digest not in have:
                pieces[digest] = (*pieces.get(digest, ()), _piece(target, position))
    order = tuple(pieces)
    return Fetch(settings=settings, pieces=pieces, order=order, waiting={}, width=settings.window, heard_at=0.0)


def _piece(target: Target, position: int) -> Piece:
    offset = position * target.chunk_size
    return Piece(target.name, offset, min(target.chunk_size, target.size - offset))


def connected(fetch: Fetch, now: float) -> tuple[Fetch, Asks]:
    """Return the fetch with a fresh session at the broker, and the first asks."""
    return pump(replace(disconnected(fetch, now), connected=True), now)


def disconnected(fetch: Fetch, now: float) -> Fetch:
    """Return the fetch without subscriptions: what was outstanding is due again."""
    lost = tuple(Retry(digest, asked - 1, now) for digest, asked in fetch.waiting.items())
    again = tuple(retry._replace(not_before=min(retry.not_before, now)) for retry in fetch.again)
    return replace(fetch, connected=False, waiting={}, again=lost + again, stale=())


def pump(fetch: Fetch, now: float) -> tuple[Fetch, Asks]:
    """Return the fetch with its window filled, and what to tell the broker for it."""
    if not fetch.connected:
        return fetch, Asks()
    fetch, subscribe = _fill(fetch, now)
    fetch, unsubscribe = _sweep(fetch)
    return fetch, Asks(subscribe, unsubscribe)


def _fill(fetch: Fetch, now: float) -> tuple[Fetch, tuple[str, ...]]:
    due, room = _due(fetch, now), _room(fetch, now)
    if room <= 0:
        return fetch, ()
    # What was never asked for goes first: chunks that are nowhere must not hold up those that are there.
    fresh = fetch.order[fetch.cursor : fetch.cursor + room]
    retried = due[: room - len(fresh)]
    asked = {retry.digest: retry.asked + 1 for retry in retried} | dict.fromkeys(fresh, 1)
    filled = replace(
        fetch,
        cursor=fetch.cursor + len(fresh),
        again=tuple(retry for retry in fetch.again if retry.digest not in asked),
        waiting={**fetch.waiting, **asked},
        heard_at=fetch.heard_at if fetch.waiting else now,
    )
    return filled, tuple(asked)


def _due(fetch: Fetch, now: float) -> tuple[Retry, ...]:
    return tuple(retry for retry in fetch.again if retry.not_before <= now)


def _room(fetch: Fetch, now: float) -> int:
    """Return how many chunks may be asked for now: whole packets, unless fewer are left to ask for."""
    room = fetch.width - len(fetch.waiting)
    available = len(_due(fetch, now)) + len(fetch.order) - fetch.cursor
    if room >= available:
        return available
    packet = min(TOPICS_PER_PACKET, fetch.width)
    return room - room % packet


def _sweep(fetch: Fetch) -> tuple[Fetch, tuple[str, ...]]:
    if len(fetch.stale) < TOPICS_PER_PACKET and not fetch.finished:
        return fetch, ()
    return replace(fetch, stale=()), fetch.stale


def accept(fetch: Fetch, digest: str, data: bytes, now: float) -> tuple[Fetch, Arrival]:
    """Return the fetch with a delivered chunk taken note of, and what it is good for.

    The caller writes the pieces and then calls :func:`pump`.
    """
    if not _outstanding(fetch, digest):
        return fetch, Arrival()
    if digest_of(data) != digest:
        return _spoiled(fetch, digest, now), Arrival(corrupt=True)
    prompt = now - fetch.heard_at < fetch.settings.timeout_seconds
    taken = replace(
        _without(fetch, digest),
        stale=(*fetch.stale, digest),
        heard_at=now,
        rounds=max(0, fetch.rounds - 1) if prompt else fetch.rounds,
        width=min(fetch.settings.window, fetch.width + 1),
        fetched=fetch.fetched + 1,
        bytes_fetched=fetch.bytes_fetched + len(data),
    )
    return taken, Arrival(pieces=fetch.pieces[digest])


def _outstanding(fetch: Fetch, digest: str) -> bool:
    return digest in fetch.waiting or any(retry.digest == digest for retry in fetch.again)


def _without(fetch: Fetch, digest: str) -> Fetch:
    waiting = {key: asked for key, asked in fetch.waiting.items() if key != digest}
    return replace(fetch, waiting=waiting, again=tuple(r for r in fetch.again if r.digest != digest))


def _spoiled(fetch: Fetch, digest: str, now: float) -> Fetch:
    asked = fetch.waiting.get(digest, fetch.settings.retries)
    retry = Retry(digest, asked, now + _pause(fetch, asked))
    rest = _without(fetch, digest)
    return replace(rest, again=(*rest.again, retry), stale=(*fetch.stale, digest), heard_at=now)


def _pause(fetch: Fetch, asked: int) -> float:
    if asked < fetch.settings.retries:
        return fetch.settings.timeout_seconds * float(2 ** (asked - 1))
    return min(MISSING_WAIT_MAX_SECONDS, MISSING_WAIT_SECONDS * float(2 ** min(asked - fetch.settings.retries, 10)))


def tick(fetch: Fetch, now: float) -> tuple[Fetch, Asks, tuple[str, ...]]:
    """Return the fetch at ``now``, what to tell the broker, and the chunks that are missing for good.

    A chunk is named missing once, when it has been asked for ``retries`` times in vain.
    """
    if not fetch.connected:
        return fetch, Asks(), ()
    silent = bool(fetch.waiting) and now >= _silent_from(fetch)
    fetch, missing = _give_up(fetch, now) if silent else (fetch, ())
    fetch, asks = pump(fetch, now)
    return fetch, asks, missing


def _silent_from(fetch: Fetch) -> float:
    """Return when the patience ends; the same number that :func:`next_wake` gives, to the last bit."""
    patience = fetch.settings.timeout_seconds * float(2 ** min(fetch.rounds, 10))
    return fetch.heard_at + min(PATIENCE_MAX_SECONDS, patience)


def _give_up(fetch: Fetch, now: float) -> tuple[Fetch, tuple[str, ...]]:
    retries = fetch.settings.retries
    lost = tuple(
        Retry(digest, asked, now if asked < retries else now + _pause(fetch, asked))
        for digest, asked in fetch.waiting.items()
    )
    missing = tuple(retry.digest for retry in lost if retry.asked == retries)
    narrower = replace(
        fetch, waiting={}, again=fetch.again + lost, width=max(1, fetch.width // 2), rounds=fetch.rounds + 1
    )
    return narrower, missing


def next_wake(fetch: Fetch, now: float) -> float | None:
    """Return when :func:`tick` has something to do after ``now``, if nothing arrives before."""
    if not fetch.connected:
        return None
    # A retry that is due already waits for room, which an arrival or the silence makes.
    times = [retry.not_before for retry in fetch.again if retry.not_before > now]
    if fetch.waiting:
        times.append(_silent_from(fetch))
    return min(times, default=None)


def subscribed(fetch: Fetch) -> tuple[str, ...]:
    """Return every chunk topic that the broker still holds for us, to be dropped when the fetch ends."""
    return (*fetch.waiting, *(retry.digest for retry in fetch.again), *fetch.stale) if fetch.connected else ()
