"""``edgepick prune`` while something is published: what is under way is neither cleared nor skipped."""

import contextlib

import pytest

from edgepick_host import app
from edgepick_host.errors import BusyError, StateError
from edgepick_host.service.claims import CLEARING_SECONDS, PUBLISHING_SECONDS, Clearing, publishing
from edgepick_host.service.ledger import BATCH
from edgepick_host.service.prepare import Selection
from edgepick_host.service.publisher import Activation
from edgepick_host.service.targets import Targets
from fakes.clock import FakeClock
from fakes.host_site import blob, missing_at, variant, write_variants
from fakes.store import MemoryStore

CHUNK = 65536
PLACE = "broker:1883"


def one_variant(folder, seed: int, chunks: int):
    content = blob(1, CHUNK) + blob(10 + seed, chunks * CHUNK)  # the first chunk is the same in every version
    return write_variants(folder, [(variant("float32", content), content)])


def test_prune_in_the_midst_of_a_publication_takes_nothing_from_it(broker, site):
    """A publication that meets a prune halfway ends with every chunk at the broker, also those that it left out."""
    settings = site.settings(broker=broker.url)
    selection = Selection(fleet=settings.fleet, version="1")
    app.publish(settings, one_variant(site.folder / "1", 1, 2), selection=selection, activation=Activation())
    pruned = []

    def prune_once(_progress) -> None:
        with app.store_of(settings) as store:
            is_written_down = len(store.known_chunks(settings.broker.place)) > BATCH
        if is_written_down and not pruned:
            pruned.append(app.prune(settings))

    done = app.publish(
        settings,
        one_variant(site.folder / "2", 2, BATCH + 10),
        selection=Selection(fleet=settings.fleet, version="2"),
        activation=Activation(activate="float32"),
        on_progress=prune_once,
    )

    assert [p.chunks for p in pruned] == [0]
    assert done.variants[0].chunks_known > 0
    assert missing_at(broker.url, site, done.variants[0].manifest) == set()
    assert app.prune(settings).releases[0].version == "1"


def test_a_version_that_is_published_once_more_keeps_its_manifest(broker, site, monkeypatch):
    """A prune between the manifest and the order that names it does not clear it, though nothing needed it before."""
    settings = site.settings(broker=broker.url)
    folders = {version: one_variant(site.folder / version, int(version), 2) for version in ("1", "2")}

    def publish(version: str):
        selection = Selection(fleet=settings.fleet, version=version)
        return app.publish(settings, folders[version], selection=selection, activation=Activation(activate="float32"))

    first = publish("1")
    publish("2")
    tell, pruned = Targets.tell, []

    def prune_and_tell(self, wishes):
        pruned.append(app.prune(settings))
        return tell(self, wishes)

    with monkeypatch.context() as patch:
        patch.setattr(Targets, "tell", prune_and_tell)
        publish("1")

    assert [p.releases for p in pruned] == [()]
    assert missing_at(broker.url, site, first.variants[0].manifest) == set()


def test_nothing_is_published_while_prune_clears(broker, site, edgepick):
    """A publication that would begin meanwhile is refused before it sends anything, and works afterwards."""
    folder = one_variant(site.folder / "1", 1, 2)
    settings = site.settings(broker=broker.url)
    with app.store_of(settings) as store:
        clearing = Clearing(store, app.clock(), settings.broker.place)
        with clearing.alone():
            refused = edgepick("publish", folder, "--broker", broker.url)
            second = edgepick("prune", "--broker", broker.url)
    done = edgepick("publish", folder, "--broker", broker.url, "--json").json()

    assert (refused.code, second.code) == (1, 1)
    assert "`edgepick prune` is clearing broker" in refused.err
    assert "another `edgepick prune`" in second.err
    assert done["variants"][0]["chunks_known"] == 0


def test_who_was_killed_is_not_waited_for():
    """A killed prune holds nobody up for longer than its lease, a killed publication for no longer than a day."""
    store, clock = MemoryStore(), FakeClock()
    store.begin_publication("killed", PLACE, ["a"], until=clock.now() + PUBLISHING_SECONDS)
    Clearing(store, clock, PLACE).go_on()
    clock.advance(CLEARING_SECONDS)

    with publishing(store, clock, PLACE, ["b"]):
        both = Clearing(store, clock, PLACE).needed()
    clock.advance(PUBLISHING_SECONDS)
    later = Clearing(store, clock, PLACE).needed()

    assert (both, later) == ({"a", "b"}, frozenset())


def test_who_stood_still_for_too_long_does_not_go_on():
    """A publication that was given up is an error, and so is a prune beside which another may have begun."""
    store, clock = MemoryStore(), FakeClock()
    under_way = contextlib.ExitStack()
    go_on = under_way.enter_context(publishing(store, clock, PLACE, ["a"]))
    clock.advance(PUBLISHING_SECONDS)
    Clearing(store, clock, PLACE).needed()
    clearing = Clearing(store, clock, PLACE)

    with pytest.raises(StateError, match="over a day"):
        go_on()
    with pytest.raises(StateError, match="over a day"):
        under_way.close()
    with clearing.alone():
        clock.advance(CLEARING_SECONDS)
        with pytest.raises(BusyError):
            clearing.go_on()
