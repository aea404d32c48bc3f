"""The download window, against a broker that loses, repeats, damages and disconnects."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_agent.core import fetch as window
from edgepick_agent.core.fetch import TOPICS_PER_PACKET, Chunk, Fetch, Target
from edgepick_agent.core.settings import FetchSettings
from edgepick_wire.ids import digest_of

SETTINGS = FetchSettings(window=16, timeout_seconds=5.0, retries=3)


def chunks(count: int, size: int = 64) -> list[bytes]:
    return [bytes([i % 256, i // 256]) * (size // 2) for i in range(count)]


def target(data: list[bytes], name: str = "a.part") -> Target:
    size = sum(map(len, data))
    return Target(name=name, size=size, chunk_size=len(data[0]), digests=tuple(digest_of(c) for c in data))


def started(data: list[bytes], config: FetchSettings = SETTINGS) -> tuple[Fetch, tuple[str, ...]]:
    fetch, asks = window.connected(window.begin([target(data)], {}, config), 0.0)
    return fetch, asks.subscribe


def accept(fetch: window.Fetch, digest: str, data: bytes, now: float) -> tuple[window.Fetch, window.Arrival]:
    """Take in one chunk that came under ``digest``."""
    fetch, arrivals = window.accept_all(fetch, [Chunk(digest, len(data), digest_of(data) == digest)], now)
    return fetch, arrivals[0]


def test_a_full_window_is_asked_for_at_first():
    """The first asks fill the window and no more."""
    fetch, asked = started(chunks(40))

    assert len(asked) == SETTINGS.window
    assert len(fetch.waiting) == SETTINGS.window


def test_more_is_asked_for_in_whole_packets():
    """While there is much to come, subscriptions and unsubscriptions go out eight at a time."""
    data = chunks(200)
    by_digest = {digest_of(c): c for c in data}
    fetch, asked = started(data)
    todo, sizes = list(asked), []

    while todo:
        digest = todo.pop(0)
        fetch, _ = accept(fetch, digest, by_digest[digest], 0.0)
        fetch, asks = window.pump(fetch, 0.0)
        todo += asks.subscribe
        sizes += [len(asks.subscribe), len(asks.unsubscribe)]

    assert fetch.finished
    assert set(sizes) - {0} == {TOPICS_PER_PACKET}


def test_a_chunk_is_taken_only_if_it_hashes_to_its_name():
    """A flipped bit is reported, not written, and the chunk is asked for again after a pause."""
    data = chunks(3)
    fetch, asked = started(data)
    flipped = bytes([data[0][0] ^ 1]) + data[0][1:]

    fetch, arrival = accept(fetch, asked[0], flipped, 1.0)
    _, at_once = window.pump(fetch, 1.0)
    fetch, later, _ = window.tick(fetch, 1.0 + SETTINGS.timeout_seconds)

    assert arrival.corrupt
    assert arrival.pieces == ()
    assert asked[0] not in at_once.subscribe
    assert asked[0] in later.subscribe


def test_a_chunk_that_occurs_twice_is_asked_for_once_and_fills_both_places():
    """Content that repeats within a file or between files travels once."""
    same, other = chunks(2)
    fetch = window.begin([target([same, other, same]), target([same], "b.part")], {}, SETTINGS)
    fetch, asks = window.connected(fetch, 0.0)

    _, arrival = accept(fetch, digest_of(same), same, 0.0)

    assert len(asks.subscribe) == 2
    assert [(p.name, p.offset) for p in arrival.pieces] == [("a.part", 0), ("a.part", 128), ("b.part", 0)]


def test_a_second_copy_of_a_chunk_is_ignored():
    """A duplicate delivery writes nothing and counts nothing."""
    data = chunks(3)
    fetch, asked = started(data)
    by_digest = {digest_of(c): c for c in data}
    fetch, _ = accept(fetch, asked[0], by_digest[asked[0]], 0.0)

    again, arrival = accept(fetch, asked[0], by_digest[asked[0]], 0.0)

    assert arrival == window.Arrival()
    assert again == fetch


def test_what_is_present_is_not_asked_for():
    """Chunks found on disk are left out; with all of them there the fetch is finished at once."""
    data = chunks(4)
    have = frozenset(digest_of(c) for c in data)

    fetch = window.begin([target(data)], {"a.part": have}, SETTINGS)

    assert fetch.finished


def test_silence_narrows_the_window_and_puts_what_did_not_come_last():
    """After the timeout the window is half as wide, and chunks not yet asked for go before those that did not come."""
    fetch, asked = started(chunks(100))

    early, asks_early, _ = window.tick(fetch, 4.9)
    fetch, asks, missing = window.tick(fetch, 5.0)

    assert asks_early.subscribe == ()
    assert early.width == SETTINGS.window
    assert fetch.width == SETTINGS.window // 2
    assert len(asks.subscribe) == SETTINGS.window // 2
    assert set(asks.subscribe).isdisjoint(asked)
    assert missing == ()


def test_a_slow_link_is_not_taken_for_a_lost_message():
    """As long as something arrives within the timeout, nothing is asked for twice."""
    data = chunks(16)
    by_digest = {digest_of(c): c for c in data}
    fetch, asked = started(data)

    for number, digest in enumerate(asked):
        now = 4.0 * (number + 1)
        fetch, asks, _ = window.tick(fetch, now)
        assert asks.subscribe == ()
        fetch, _ = accept(fetch, digest, by_digest[digest], now)

    assert fetch.finished


def test_a_missing_chunk_is_reported_once_and_asked_for_ever_more_rarely():
    """A chunk that never comes is named missing exactly once; the waits grow up to their bound."""
    fetch, _ = started(chunks(1))
    now, missing, asked_at = 0.0, [], []

    while now < 20_000:
        now += 1.0
        fetch, asks, gone = window.tick(fetch, now)
        missing += gone
        asked_at += [now] * len(asks.subscribe)

    pauses = [b - a for a, b in itertools.pairwise(asked_at)]
    assert len(missing) == 1
    assert max(pauses) <= window.MISSING_WAIT_MAX_SECONDS + window.PATIENCE_MAX_SECONDS
    assert pauses[-1] > 100 * 1.0
    assert len(asked_at) < 50


def test_a_reconnection_asks_again_without_counting_it_as_a_failure():
    """What was outstanding when the connection went is asked for at once in the next session."""
    fetch, asked = started(chunks(8))

    for _ in range(10):
        fetch = window.disconnected(fetch, 1.0)
        silent, nothing, missing = window.tick(fetch, 100.0)
        fetch, asks = window.connected(fetch, 1.0)

        assert (silent, nothing, missing) == (window.disconnected(silent, 1.0), window.Asks(), ())
        assert set(asks.subscribe) == set(asked)
        assert {asked.times for asked in fetch.waiting.values()} == {1}


def test_a_rate_limit_is_kept_on_average():
    """With 640 bytes a second, chunks of 64 bytes are asked for ten a second and never more at once."""
    data = chunks(100)
    by_digest = {digest_of(c): c for c in data}
    limited = FetchSettings(window=64, bytes_per_second=640)
    fetch, asked = started(data, limited)
    now, todo, largest = 0.0, list(asked), len(asked)

    while not fetch.finished:
        for digest in todo:
            fetch, _ = accept(fetch, digest, by_digest[digest], now)
        later = window.next_wake(fetch, now)
        fetch, asks, _ = window.tick(fetch, later or now)
        now, todo, largest = later or now, list(asks.subscribe), max(largest, len(asks.subscribe))

    assert largest == 10
    assert 9.0 <= now <= 10.0


def test_a_limit_below_one_chunk_a_second_still_makes_progress():
    """However low the limit, one chunk is asked for, and the next when that is paid for."""
    fetch, asked = started(chunks(3), FetchSettings(bytes_per_second=16))

    assert len(asked) == 1
    assert window.next_wake(fetch, 0.0) == 4.0


def test_nothing_is_asked_for_while_the_fetch_is_held():
    """Outside the allowed hours nothing goes out; what was asked for before is still taken; then it goes on."""
    data = chunks(40)
    fetch, asked = started(data)
    fetch = window.hold(fetch, 3600.0)

    for number, digest in enumerate(asked):
        fetch, arrival = accept(fetch, digest, data[number], 1.0)
        assert arrival.pieces
    fetch, while_held = window.pump(fetch, 1.0)
    wake = window.next_wake(fetch, 1.0)
    _, after, _ = window.tick(fetch, 3600.0)

    assert while_held.subscribe == ()
    assert wake == 3600.0
    assert after.subscribe


def test_chunks_that_stand_in_a_queue_narrow_the_window_to_one_packet():
    """On a link so slow that chunks take long, less is asked for at once, but never less than a packet."""
    data = chunks(200)
    by_digest = {digest_of(c): c for c in data}
    fetch, asked = started(data, FetchSettings(window=32))
    todo, now, widths = list(asked), 0.0, []

    while todo:
        now += 0.5
        digest = todo.pop(0)
        fetch, _ = accept(fetch, digest, by_digest[digest], now)
        fetch, asks = window.pump(fetch, now)
        todo += asks.subscribe
        widths.append(fetch.width)

    assert fetch.finished
    assert min(widths) == TOPICS_PER_PACKET
    assert widths[-1] < 16


def test_a_quick_link_grows_the_window_and_shortens_the_patience():
    """Prompt answers open the window up to its bound, and a silence is noticed sooner than on a slow link."""
    data = chunks(400)
    by_digest = {digest_of(c): c for c in data}
    fetch, asked = started(data, FetchSettings(window=128, timeout_seconds=30.0))
    todo, now = list(asked), 0.0

    while len(todo) > 1:
        now += 0.001
        digest = todo.pop(0)
        fetch, _ = accept(fetch, digest, by_digest[digest], now)
        fetch, asks = window.pump(fetch, now)
        todo += asks.subscribe

    assert len(asked) < 128
    assert fetch.width == 128
    assert window.next_wake(fetch, now) == now + window.PATIENCE_MIN_SECONDS


def test_a_batch_means_what_its_chunks_mean_one_by_one():
    """Taking several chunks at once leaves the same fetch as taking them one after the other."""
    data = chunks(16)
    fetch, _ = started(data)
    batch = [Chunk(digest_of(c), len(c), good=True) for c in (*data[:5], data[2])]
    batch.append(Chunk(digest_of(data[6]), 5, good=False))

    together, arrivals = window.accept_all(fetch, batch, 1.0)
    one_by_one = fetch
    for chunk in batch:
        one_by_one, _ = window.accept_all(one_by_one, [chunk], 1.0)

    assert together == one_by_one
    assert [bool(a.pieces) for a in arrivals] == [True] * 5 + [False, False]
    assert [a.corrupt for a in arrivals] == [False] * 6 + [True]


class Link:
    """A fetch and its link, which does what it is told to each message."""

    def __init__(self, content: list[bytes], config: FetchSettings) -> None:
        self.by_digest = {digest_of(c): c for c in content}
        self.fetch, asked = started(content, config)
        self.wire = list(asked)
        self.written: dict[tuple[str, int], bytes] = {}
        self.now = 0.0
        self.widest = len(self.fetch.waiting)

    def deliver(self, digest: str, payload: bytes) -> None:
        self.fetch, arrival = accept(self.fetch, digest, payload, self.now)
        for piece in arrival.pieces:
            assert (piece.name, piece.offset) not in self.written
            self.written[piece.name, piece.offset] = payload
        self.fetch, asks = window.pump(self.fetch, self.now)
        self.wire += asks.subscribe
        self.widest = max(self.widest, len(self.fetch.waiting))

    def tick(self, now: float) -> None:
        self.now = now
        self.fetch, asks, _ = window.tick(self.fetch, now)
        self.wire += asks.subscribe

    def suffer(self, event: str, position: int) -> None:
        self.now += 0.1
        if event == "wait" or not self.wire:
            self.tick(self.now + 10.0)
        elif event == "disconnect":
            self.fetch, asks = window.connected(window.disconnected(self.fetch, self.now), self.now)
            self.wire = list(asks.subscribe)
        else:
            self.suffer_message(event, self.wire.pop(position % len(self.wire)))

    def suffer_message(self, event: str, digest: str) -> None:
        payload = self.by_digest[digest]
        copies = {"lose": [], "corrupt": [payload + b"!"], "repeat": [payload, payload]}.get(event, [payload])
        for copy in copies:
            self.deliver(digest, copy)

    def heal(self) -> None:
        """Let everything arrive from now on, and time pass as far as the fetch itself asks for."""
        for _ in range(400):
            while self.wire:
                digest = self.wire.pop(0)
                self.deliver(digest, self.by_digest[digest])
            if self.fetch.finished:
                return
            self.tick(max(self.now, window.next_wake(self.fetch, self.now) or self.now))


TROUBLE = st.sampled_from(["deliver", "lose", "corrupt", "repeat", "disconnect", "wait"])


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 60),
    events=st.lists(st.tuples(TROUBLE, st.integers(0, 99)), max_size=200),
    width=st.integers(1, 20),
)
def test_every_chunk_arrives_once_whatever_the_link_does(count, events, width):
    """Through any trouble no chunk is written twice or wrongly, the window holds, and in the end all are there."""
    content = chunks(count)
    link = Link(content, FetchSettings(window=width, timeout_seconds=5.0, retries=3))

    for event, position in events:
        link.suffer(event, position)
    link.heal()

    assert link.fetch.finished
    assert b"".join(link.written[key] for key in sorted(link.written)) == b"".join(content)
    assert link.widest <= width


def test_devices_do_not_ask_again_in_step():
    """Two devices that miss the same chunk at the same time ask for it again at different times."""
    data, wrong = chunks(1), Chunk(digest_of(chunks(1)[0]), 5, good=False)
    wakes = []

    for jitter in (0.0, 1.0):
        fetch, _ = window.connected(window.begin([target(data)], {}, SETTINGS, jitter), 0.0)
        fetch, _ = window.accept_all(fetch, [wrong], 1.0)
        wakes.append(window.next_wake(fetch, 1.0) - 1.0)

    assert wakes[1] == pytest.approx(wakes[0] * (1 + window.PAUSE_SPREAD))
