"""What happens to a device in the tests of its storage: stories, the disk before each, and what must hold after."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from edgepick_agent.core import places
from edgepick_agent.core.control import Command
from edgepick_agent.core.effects import FetchRange
from edgepick_agent.core.events import Event, RangeDelivered, RangeEnded
from edgepick_agent.core.settings import FetchSettings
from edgepick_agent.core.state import decode_state
from edgepick_agent.errors import StorageError
from edgepick_agent.ports import TakeChunk
from edgepick_host.core import delta
from edgepick_wire import envelope
from edgepick_wire.envelope import DocumentType
from edgepick_wire.manifest import ALGORITHMS, ZSTD, manifest_digest
from edgepick_wire.messages import Phase
from fakes.agent_bench import SETTINGS, Bench
from fakes.host_stand_in import Bundle, bundle, noise
from fakes.storage import CuttingStorage, MemoryStorage
from wire.wire_keys import check, root


def made_of(version: str, model: bytes, base: bytes | None = None) -> Bundle:
    """Return a variant that also travels compressed, and as a difference to ``base`` if that is given."""
    forms = [(ZSTD, delta.zstd(model), None)]
    if base is not None:
        found = delta.difference(model, base, lambda _: (), below=len(model))
        assert found is not None
        forms.append((found.algorithm, found.data, base))
    return bundle(version, model_bytes=model, encoded=forms)


WEIGHTS = noise("weights", 4000) + bytes(4000)
TUNED = bytes((byte + (i % 50 == 0)) % 256 for i, byte in enumerate(WEIGHTS))

ONE, TWO, THREE = bundle("1"), bundle("2"), bundle("3")
FOUR = bundle("4")
PACKED, CHANGED = made_of("5", WEIGHTS), made_of("6", TUNED, WEIGHTS)
VERSIONS = (ONE, TWO, THREE, FOUR, PACKED, CHANGED)
STICK = "/media/usb/digits.edgepick"
LEFT_BEHIND = "0" * 64
"""A download that nobody wants any more."""


@dataclass(frozen=True)
class Story:
    """One thing that happens to a device.

    Attributes:
        before: Variants installed one after the other before it begins.
        wants: The variants that the host wants during it, after those.
        ends: What is active in the end.
        asks: What a technician asks for.
        pins: It ends pinned until it is unpinned, to what it ends with.
        prepare: Changes the disk before it begins.
        encoded: The device decodes what travels compressed or as a difference.
        site: It fetches by HTTPS first.
    """

    before: tuple[Bundle, ...]
    wants: tuple[Bundle, ...]
    ends: Bundle
    asks: Command | None = None
    pins: bool = False
    prepare: Callable[[MemoryStorage], None] = lambda disk: None
    encoded: bool = False
    site: bool = False


def unnumbered(disk: MemoryStorage) -> None:
    """Make the state one of schema 0."""
    document = json.loads(disk.files[places.STATE])
    del document["schema"]
    disk.write(places.STATE, json.dumps(document).encode())


def littered(disk: MemoryStorage) -> None:
    """Leave a download behind that nobody wants."""
    disk.write(places.part(LEFT_BEHIND), bytes(1000))
    disk.write(places.index(LEFT_BEHIND), bytes(32))


def held(disk: MemoryStorage) -> None:
    """Pin what is active."""
    document = json.loads(disk.files[places.STATE])
    document["models"]["digits"]["held"] = True
    disk.write(places.STATE, json.dumps(document).encode())


STORIES = {
    "install": Story((), (ONE,), ONE),
    "upgrade": Story((ONE,), (TWO,), TWO),
    "rollback by a technician": Story((ONE, TWO), (), ONE, asks=Command.ROLLBACK),
    "rollback by the host": Story((ONE, TWO), (ONE,), ONE),
    "garbage collection": Story((ONE, TWO), (THREE,), THREE, prepare=littered),
    "state migration": Story((ONE, TWO), (), TWO, prepare=unnumbered),
    "install of a compressed form": Story((), (PACKED,), PACKED, encoded=True),
    "upgrade by a difference": Story((PACKED,), (CHANGED,), CHANGED, encoded=True),
    "upgrade from an HTTPS site": Story((ONE,), (TWO,), TWO, site=True),
    "install from a stick": Story((ONE,), (), TWO, asks=Command.INSTALL),
    "pin": Story((ONE, TWO), (), TWO, asks=Command.PIN, pins=True),
    "pin of the previous variant": Story((ONE, TWO), (), ONE, asks=Command.PIN, pins=True),
    "unpin": Story((ONE, TWO), (THREE,), THREE, asks=Command.UNPIN, prepare=held),
}


class SiteInMemory:
    """Keeps ``edgepick_agent.ports.RangeSource`` for a site that has every file and answers at once."""

    def __init__(self, _settings: FetchSettings, sink: Callable[[Event], None], take: TakeChunk) -> None:
        self._sink = sink
        self._take = take

    def begin(self, asked: FetchRange) -> None:
        chunks = {digest: data for made in VERSIONS for digest, data in made.chunks.items()}
        taken = [self._take(digest, chunks[digest]) for digest, _ in asked.chunks]
        self._sink(RangeDelivered(asked.key, tuple(chunk for chunk in taken if chunk is not None)))
        self._sink(RangeEnded(asked.key, None))

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def equipped(name: str, bench: Bench) -> Bench:
    """Return the device with what the story needs on it."""
    story = STORIES[name]
    bench.algorithms = ALGORITHMS if story.encoded else frozenset()
    bench.reader.files_at[STICK] = story.ends
    if story.site:
        fetch = replace(SETTINGS.fetch, sources=("https", "mqtt"), site_cache="https://site/{sha256}")
        bench.settings = replace(SETTINGS, fetch=fetch)
        bench.range_source = SiteInMemory
    return bench


def _want(bench: Bench, wanted: tuple[Bundle, ...], first: int = 1) -> None:
    for number, made in enumerate(wanted, first):
        bench.host.publish(made)
        bench.host.want(made, rollout=f"r{number}")


@cache
def _before(name: str) -> MemoryStorage:
    story, bench = STORIES[name], equipped(name, Bench(MemoryStorage()))
    if story.before:
        bench.boot()
    for number, made in enumerate(story.before, 1):
        _want(bench, (made,), number)
        bench.run(15)
        assert bench.model().phase is Phase.CONFIRMED
    disk = bench.storage.cut()
    story.prepare(disk)
    return disk


def disk_before(name: str) -> MemoryStorage:
    """Return a copy of the disk before a story."""
    return _before(name).cut()


def let_happen(name: str, bench: Bench, seconds: float = 20) -> None:
    """Start the device, and let the story happen."""
    story = STORIES[name]
    bench.boot()
    if story.asks is not None:
        bench.run(3)
        bench.ask_and_forget(story.asks, **_with(story))
    bench.run(seconds)


def _with(story: Story) -> dict[str, str]:
    if story.asks is Command.INSTALL:
        return {"path": STICK}
    return {"manifest": story.ends.digest} if story.asks is Command.PIN else {}


def prepare(name: str, bench: Bench) -> Bench:
    """Put into the broker what the host wants in the end."""
    story = STORIES[name]
    everything = (*story.before, *story.wants)
    equipped(name, bench)
    bench.broker.retained.clear()
    for made in everything:
        bench.host.publish(made)
    bench.host.sequence = len(everything) - 1
    bench.host.want(everything[-1], rollout=f"r{len(everything)}")
    return bench


def check_disk(name: str, storage: Any) -> None:
    """Check the disk alone: at most one variant is active, one of those that were, and signed; none is lost."""
    raw = storage.read(places.STATE)
    if raw is None:
        assert not STORIES[name].before
        return
    state = decode_state(raw)
    record = state.model("digits")
    if STORIES[name].before:
        assert record.current is not None
    for slot in (record.a, record.b):
        if slot is not None:
            check_bundle(storage, slot.manifest)


def check_bundle(storage: Any, digest: str) -> None:
    """Check a stored bundle with nothing of the agent: signature, digest, and every file."""
    known = {made.digest: made for made in VERSIONS}
    signed = envelope.unpack(storage.read(places.manifest_file(digest)))
    payload = envelope.verify(signed, DocumentType.MANIFEST, root().release, check)
    assert manifest_digest(payload) == digest
    for file, data in known[digest].files.items():
        assert storage.read(places.bundle_file(digest, file)) == data


def check_end(name: str, bench: Bench) -> None:
    """Check that exactly the wanted variant is active, serves alone and is signed, and no download is left over."""
    story = STORIES[name]
    if story.asks is not None and (bench.model().active, _held(bench)) != (story.ends.digest, story.pins):
        bench.ask(story.asks, **_with(story))  # the cut came before the question was heard
        bench.run(15)
    assert bench.model().active == story.ends.digest
    assert bench.model().pinned if story.asks not in {None, Command.UNPIN} else bench.model().phase is Phase.CONFIRMED
    assert _held(bench) == story.pins
    assert bench.launcher.alive() == [story.ends.content.version]
    check_disk(name, bench.storage)
    assert bench.storage.names(places.DOWNLOADS) == []


def check_way(name: str, bench: Bench) -> None:
    """Check that the undisturbed story went the way that it is about."""
    story = STORIES[name]
    size = sum(len(data) for data in story.ends.files.values())
    if story.encoded:
        assert bench.outcomes[-1].bytes_fetched < size * 0.75
    if story.site:
        assert any("over HTTPS, 0 over MQTT" in line for line in bench.log)
    if story.asks is Command.INSTALL:
        assert bench.outcomes[-1].bytes_fetched == 0


def check_cleared(bench: Bench) -> None:
    """Check that, unpinned, with the next confirmed variant nothing is stored but what is in a slot."""
    bench.ask(Command.UNPIN)
    bench.host.publish(FOUR)
    bench.host.want(FOUR, rollout="r4")
    bench.run(15, step=1.0)
    assert bench.model().active == FOUR.digest
    assert set(bench.storage.names(places.STORE)) == {slot.manifest for slot in _slots(bench)}


def _held(bench: Bench) -> bool:
    return decode_state(bench.storage.read(places.STATE)).model("digits").held


def _slots(bench: Bench) -> list[Any]:
    record = decode_state(bench.storage.read(places.STATE)).model("digits")
    return [slot for slot in (record.a, record.b) if slot is not None]


@cache
def operations(name: str) -> tuple[tuple[str, str], ...]:
    """Return the changing operations of the undisturbed story, and check its end."""
    storage = CuttingStorage(disk_before(name))
    bench = prepare(name, Bench(storage))
    let_happen(name, bench)
    seen = tuple(storage.seen)
    check_end(name, bench)
    check_way(name, bench)
    assert set(bench.storage.names(places.STORE)) == {slot.manifest for slot in _slots(bench)}
    return seen


def boot_until_it_runs(bench: Bench, seconds: float) -> None:
    """Start the device again and again, as its service manager does."""
    for _ in range(5):
        try:
            bench.boot().run(seconds, step=1.0)
        except StorageError:
            continue
        return
    raise AssertionError("the agent does not start")
