"""The download window: which chunks to ask for next, and what to do with each that comes.

Pure: the shell subscribes, unsubscribes and writes as told. Rules:

- A chunk is asked for by subscribing to its topic, at most ``window`` at a time and eight topics
  per packet; the broker answers with the retained message.
- A chunk is taken only if its bytes hash to its name. It may fill several places, and is fetched once.
- Silence, not age, means loss: on a slow link a full window takes long, but something keeps coming.
  After a silence everything outstanding is asked for again, the window is halved and the patience
  doubled (additive increase, multiplicative decrease, as TCP does). The patience follows the measured
  round-trip times (RFC 6298), within bounds.
- The window begins small and grows with every chunk, but shrinks while chunks take long to come: what
  queues at the broker for a slow link helps nobody and holds up a cancellation.
- Nothing is asked for before ``not_before``: so a rate limit and allowed hours are kept. What was
  asked for already is taken.
- Chunks are taken in batches, as they come; the cost of one does not depend on the size of the file.
- A chunk that stays away is reported once and then asked for at growing intervals, for ever: the
  host may come back. Its subscription stays, so that publishing it delivers it at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgepick_agent.core.settings import FetchSettings

TOPICS_PER_PACKET = 8
"""AWS IoT Core's limit of filters per SUBSCRIBE; other brokers allow more."""
MISSING_WAIT_SECONDS = 60.0
MISSING_WAIT_MAX_SECONDS = 900.0
PATIENCE_MAX_SECONDS = 60.0
PATIENCE_MIN_SECONDS = 2.0
"""Least silence that counts as loss, however quick the link: a radio pauses that long."""
FIRST_WIDTH = 32
"""Window at the beginning, doubled with every round trip up to the configured one."""
SLOW_SECONDS = 4.0
"""A chunk that takes longer has stood in a queue: the window shrinks, and no further than one packet."""
RATE_BURST_SECONDS = 1.0
"""A rate limit is kept on average over this time."""
PAUSE_SPREAD = 0.5
"""Most by which a device lengthens its pauses, so that a fleet does not ask again in step."""


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


class Chunk(NamedTuple):
    """A chunk that arrived: the digest that it was sent under, its bytes, and whether they hash to that.

    A good one is written wherever it belongs before anybody hears of it.
    """

    digest: str
    size: int
    good: bool


class Retry(NamedTuple):
    """A chunk to ask for again: how often it was asked for, and not before when."""

    digest: str
    asked: int
    not_before: float


class Asked(NamedTuple):
    """A chunk asked for and not yet here: how often, and when last."""

    times: int
    at: float


class Asks(NamedTuple):
    """What to tell the broker: chunks to subscribe to, and chunks to unsubscribe from."""

    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()


class Arrival(NamedTuple):
    """What a delivered chunk means: the places that it filled, or that it is corrupt; neither for a duplicate."""

    pieces: tuple[Piece, ...] = ()
    corrupt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """A download in progress.

    Attributes:
        pieces: Where each missing chunk goes; never changed after :func:`begin`.
        order: The missing chunks; those before ``cursor`` have been asked for.
        chunk_size: Bytes of the largest chunk.
        waiting: Chunks asked for and not yet here.
        again: Chunks to be asked for again.
        stale: Chunks that came, still subscribed; dropped eight at a time.
        width: The window now.
        rounds: Silent rounds lately; each doubles the patience.
        heard_at: When the last chunk came, or the first was asked for.
        round_trip: Smoothed time from asking for a chunk to its arrival, and its mean deviation; seconds.
        not_before: Nothing is asked for until then.
        began_at: When the first chunk was asked for.
        claimed: Chunks that another source is to bring; nobody asks the broker for them.
        led: Chunks never asked for are left to another source.
        jitter: The device's share of :data:`PAUSE_SPREAD`, from 0 to 1.
        fetched: Chunks received, corrupt ones and duplicates not counted.
    """

    settings: FetchSettings
    pieces: Mapping[str, tuple[Piece, ...]]
    order: tuple[str, ...]
    chunk_size: int
    cursor: int = 0
    waiting: Mapping[str, Asked]
    again: tuple[Retry, ...] = ()
    stale: tuple[str, ...] = ()
    width: int
    rounds: int = 0
    heard_at: float
    round_trip: tuple[float, float] | None = None
    not_before: float = 0.0
    began_at: float | None = None
    connected: bool = False
    claimed: frozenset[str] = frozenset()
    led: bool = False
    jitter: float = 0.0
    fetched: int = 0
    bytes_fetched: int = 0

    @property
    def finished(self) -> bool:
        """Everything is here."""
        return self.fetched == len(self.order)


def begin(
    targets: Iterable[Target], present: Mapping[str, frozenset[str]], settings: FetchSettings, jitter: float = 0.0
) -> Fetch:
    """Return a fetch of every chunk of ``targets`` that is not ``present`` in them, not yet connected."""
    pieces: dict[str, tuple[Piece, ...]] = {}
    chunk_size = 1
    for target in targets:
        chunk_size = max(chunk_size, min(target.chunk_size, target.size))
        have = present.get(target.name, frozenset())
        for position, digest in enumerate(target.digests):
            if digest not in have:
                pieces[digest] = (*pieces.get(digest, ()), _piece(target, position))
    order = tuple(pieces)
    width = min(FIRST_WIDTH, settings.window)
    return Fetch(
        settings=settings,
        pieces=pieces,
        order=order,
        chunk_size=chunk_size,
        waiting={},
        width=width,
        heard_at=0.0,
        jitter=jitter,
    )


def _piece(target: Target, position: int) -> Piece:
    offset = position * target.chunk_size
    return Piece(target.name, offset, min(target.chunk_size, target.size - offset))


def connected(fetch: Fetch, now: float) -> tuple[Fetch, Asks]:
    """Return the fetch with a fresh session at the broker, and the first asks."""
    return pump(replace(disconnected(fetch, now), connected=True), now)


def disconnected(fetch: Fetch, now: float) -> Fetch:
    """Return the fetch without subscriptions: what was outstanding is due again."""
    lost = tuple(Retry(digest, asked.times - 1, now) for digest, asked in fetch.waiting.items())
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
    fresh = () if fetch.led else fetch.order[fetch.cursor : fetch.cursor + room]
    retried = due[: room - len(fresh)]
    asked = {retry.digest: Asked(retry.asked + 1, now) for retry in retried} | dict.fromkeys(fresh, Asked(1, now))
    filled = replace(
        fetch,
        cursor=fetch.cursor + len(fresh),
        again=tuple(retry for retry in fetch.again if retry.digest not in asked),
        waiting={**fetch.waiting, **asked},
        heard_at=fetch.heard_at if fetch.waiting else now,
        not_before=paid_until(fetch, len(asked), now),
        began_at=now if fetch.began_at is None and asked else fetch.began_at,
    )
    return filled, tuple(asked)


def paid_until(fetch: Fetch, count: int, now: float) -> float:
    """Return before when nothing more may be asked for, if ``count`` chunks are now."""
    rate = fetch.settings.bytes_per_second
    return now + count * fetch.chunk_size / rate if rate and count else fetch.not_before


def _due(fetch: Fetch, now: float) -> tuple[Retry, ...]:
    return tuple(retry for retry in fetch.again if retry.not_before <= now)


def _room(fetch: Fetch, now: float) -> int:
    """Return how many chunks may be asked for now: whole packets, unless fewer are left to ask for."""
    if now < fetch.not_before:
        return 0
    room = fetch.width - len(fetch.waiting)
    available = len(_due(fetch, now)) + (0 if fetch.led else len(fetch.order) - fetch.cursor)
    rate = fetch.settings.bytes_per_second
    if rate:
        return min(room, available, max(1, int(rate * RATE_BURST_SECONDS) // fetch.chunk_size))
    if room >= available:
        return available
    packet = min(TOPICS_PER_PACKET, fetch.width)
    return room - room % packet


def _sweep(fetch: Fetch) -> tuple[Fetch, tuple[str, ...]]:
    if len(fetch.stale) < TOPICS_PER_PACKET and not fetch.finished:
        return fetch, ()
    return replace(fetch, stale=()), fetch.stale


def hold(fetch: Fetch, until: float) -> Fetch:
    """Return the fetch asking for nothing before ``until``."""
    return replace(fetch, not_before=max(fetch.not_before, until))


def accept_all(fetch: Fetch, deliveries: Iterable[Chunk], now: float) -> tuple[Fetch, tuple[Arrival, ...]]:
    """Return the fetch with delivered chunks taken note of, and what each was good for; :func:`pump` comes next."""
    ledger = _Ledger(fetch, now)
    arrivals = tuple(map(ledger.take, deliveries))
    return ledger.entered(), arrivals


class _Ledger:
    """One batch of chunks; the parts of the fetch that they change are copied once for all of them."""

    def __init__(self, fetch: Fetch, now: float) -> None:
        self._fetch = fetch
        self._now = now
        self._waiting = dict(fetch.waiting)
        self._again = {retry.digest: retry for retry in fetch.again}
        self._stale = list(fetch.stale)
        self._width, self._rounds, self._heard_at = fetch.width, fetch.rounds, fetch.heard_at
        self._round_trip = fetch.round_trip
        self._fetched, self._bytes_fetched = fetch.fetched, fetch.bytes_fetched

    def take(self, chunk: Chunk) -> Arrival:
        """Take note of one chunk."""
        digest = chunk.digest
        asked = self._waiting.get(digest)
        if asked is None and digest not in self._again:
            return Arrival()
        if not chunk.good:
            self._spoiled(digest, asked)
            return Arrival(corrupt=True)
        self._measure(asked)
        self._forget(digest)
        if self._now - self._heard_at < self._fetch.settings.timeout_seconds:
            self._rounds = max(0, self._rounds - 1)
        self._heard_at = self._now
        self._fetched += 1
        self._bytes_fetched += chunk.size
        return Arrival(pieces=self._fetch.pieces[digest])

    def _forget(self, digest: str) -> None:
        self._waiting.pop(digest, None)
        self._again.pop(digest, None)
        self._stale.append(digest)

    def _spoiled(self, digest: str, asked: Asked | None) -> None:
        times = asked.times if asked else self._fetch.settings.retries
        self._forget(digest)
        self._again[digest] = Retry(digest, times, self._now + _pause(self._fetch, times))
        self._heard_at = self._now

    def _measure(self, asked: Asked | None) -> None:
        """Adapt window and patience to how long it took, if it is known which ask was answered (Karn's rule)."""
        took = self._now - asked.at if asked is not None and asked.times == 1 else None
        if took is None or took < SLOW_SECONDS:
            self._width = min(self._fetch.settings.window, self._width + 1)
        else:
            self._width = max(min(self._width, TOPICS_PER_PACKET), self._width - 1)
        if took is not None:
            self._round_trip = _smoothed(self._round_trip, took)

    def entered(self) -> Fetch:
        """Return the fetch with everything taken note of."""
        return replace(
            self._fetch,
            waiting=self._waiting,
            again=tuple(self._again.values()),
            stale=tuple(self._stale),
            width=self._width,
            rounds=self._rounds,
            heard_at=self._heard_at,
            round_trip=self._round_trip,
            fetched=self._fetched,
            bytes_fetched=self._bytes_fetched,
        )


def _smoothed(before: tuple[float, float] | None, took: float) -> tuple[float, float]:
    """Return the smoothed time and its deviation (RFC 6298, section 2)."""
    if before is None:
        return took, took / 2
    mean, deviation = before
    return 0.875 * mean + 0.125 * took, 0.75 * deviation + 0.25 * abs(mean - took)


def _pause(fetch: Fetch, asked: int) -> float:
    """Return how long to wait before a chunk is asked for again: doubling, bounded, and another for every device."""
    if asked < fetch.settings.retries:
        pause = fetch.settings.timeout_seconds * float(2 ** (asked - 1))
    else:
        late = min(asked - fetch.settings.retries, 10)
        pause = min(MISSING_WAIT_MAX_SECONDS, MISSING_WAIT_SECONDS * float(2**late))
    return pause * (1 + PAUSE_SPREAD * fetch.jitter)


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
    patience = _first_patience(fetch) * float(2 ** min(fetch.rounds, 10))
    return fetch.heard_at + min(PATIENCE_MAX_SECONDS, patience)


def _first_patience(fetch: Fetch) -> float:
    longest = fetch.settings.timeout_seconds
    if fetch.round_trip is None:
        return longest
    mean, deviation = fetch.round_trip
    return min(longest, max(PATIENCE_MIN_SECONDS, mean + 4 * deviation))


def _give_up(fetch: Fetch, now: float) -> tuple[Fetch, tuple[str, ...]]:
    retries = fetch.settings.retries
    lost = tuple(
        Retry(digest, asked.times, now if asked.times < retries else now + _pause(fetch, asked.times))
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
    if fetch.not_before > now and not fetch.finished:
        times.append(fetch.not_before)
    return min(times, default=None)


def subscribed(fetch: Fetch) -> tuple[str, ...]:
    """Return every chunk topic that the broker still holds for us, to be dropped when the fetch ends."""
    return (*fetch.waiting, *(retry.digest for retry in fetch.again), *fetch.stale) if fetch.connected else ()
