"""The power is cut at every storage operation of an installation, an upgrade and a measurement."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepick_agent.adapters.storage import FileStorage
from edgepick_agent.core import places
from edgepick_agent.core.state import decode_state
from edgepick_agent.loop.bundles import Bundles
from edgepick_wire.messages import MeasureRequest, Outcome, Phase
from fakes.agent_bench import Bench
from fakes.host_stand_in import bundle
from fakes.storage import CuttingStorage, MemoryStorage, PowerCut

ONE, TWO = bundle("1"), bundle("2")
REQUEST = MeasureRequest(id="measure-1", manifest=TWO.digest)


def install(bench: Bench) -> None:
    bench.host.publish(ONE)
    bench.host.want(ONE, rollout="r1")


def upgrade(bench: Bench) -> None:
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="r2")


def measure(bench: Bench) -> None:
    bench.host.publish(TWO)
    bench.host.want(ONE, rollout="r1", measure=(REQUEST,))


def prepared(story: str) -> MemoryStorage:
    """Return the disk before the story: empty, or with the first variant confirmed."""
    bench = Bench(MemoryStorage())
    if story == "install":
        return bench.storage
    bench.boot()
    install(bench)
    bench.run(15)
    assert bench.model().phase is Phase.CONFIRMED
    return bench.storage.cut()


STORIES: dict[str, Callable[[Bench], None]] = {"install": install, "upgrade": upgrade, "measure": measure}


def operations(story: str) -> int:
    """Return how many storage operations the undisturbed story takes."""
    bench = play(story, CuttingStorage(prepared(story)))
    check_end(story, bench)
    return int(bench.storage.count)


def play(story: str, storage: CuttingStorage) -> Bench:
    bench = Bench(storage)
    bench.host.sequence = 0 if story == "install" else 1
    try:
        tell(bench, story)
    except PowerCut:
        bench.cut_power()
        after_the_cut(story, bench)
    return bench


def tell(bench: Bench, story: str) -> None:
    bench.boot()
    STORIES[story](bench)
    bench.run(20)


def after_the_cut(story: str, bench: Bench) -> None:
    check_invariants(story, bench)
    bench.broker.retained.clear()
    bench.host.sequence = 0 if story == "install" else 1
    bench.host.publish(ONE)
    STORIES[story](bench)
    bench.boot().run(40)


def check_invariants(story: str, bench: Bench) -> None:
    """Check the disk alone: the state is readable, and what it calls installed is whole."""
    raw = bench.storage.read(places.STATE)
    if raw is None:
        assert story == "install"
        return
    state = decode_state(raw)
    slots = [slot for record in state.models.values() for slot in (record.a, record.b) if slot is not None]
    checked = Bundles(bench.storage, bench.reader).check(tuple(slot.manifest for slot in slots))
    assert checked.broken == {}
    if story != "install":
        current = state.models["digits"].current
        assert current is not None
        assert current.manifest in {ONE.digest, TWO.digest}


def check_end(story: str, bench: Bench) -> None:
    """Check that the story has the end that it would have had."""
    wanted = ONE if story in {"install", "measure"} else TWO
    assert bench.model().active == wanted.digest
    assert bench.model().phase is Phase.CONFIRMED
    assert bench.launcher.alive() == [wanted.content.version]
    if story == "measure":
        assert {m.request for m in bench.measured if m.measurement} == {"measure-1"}
    else:
        told = {(o.manifest, o.outcome) for o in bench.outcomes}
        assert (wanted.digest, Outcome.CONFIRMED) in told
        assert all(outcome is Outcome.CONFIRMED for _, outcome in told)


@pytest.mark.parametrize("torn", [False, True], ids=["clean", "torn"])
@pytest.mark.parametrize("story", sorted(STORIES))
def test_a_power_cut_at_any_storage_operation_is_survived(story, torn):
    """Wherever the power goes, the disk is consistent and one more run ends as if it had never gone."""
    total = operations(story)

    for cut_at in range(1, total + 1):
        bench = play(story, CuttingStorage(prepared(story), cut_at, torn=torn))

        check_end(story, bench)
    assert total > 10


def test_two_power_cuts_in_one_upgrade_are_survived():
    """A second cut during the recovery from the first changes nothing."""
    total = operations("upgrade")

    for first in range(1, total, 3):
        bench = Bench(CuttingStorage(prepared("upgrade"), first))
        bench.host.sequence = 1
        with pytest.raises(PowerCut):
            tell(bench, "upgrade")
        bench.cut_power()
        bench.host.sequence = 1
        upgrade(bench)
        bench.storage = CuttingStorage(bench.storage, max(1, total - first) // 2 + 1)
        try:
            bench.boot().run(20)
        except PowerCut:
            bench.cut_power()
            check_invariants("upgrade", bench)
            bench.boot().run(40)

        check_end("upgrade", bench)


def test_real_files_survive_being_cut_off_anywhere(tmp_path: Path):
    """The same upgrade on the file system, the process gone at every fifth operation, ends as it should."""
    total = operations("upgrade")

    for cut_at in range(2, total, 5):
        folder = tmp_path / str(cut_at)
        folder.mkdir()
        for name, data in prepared("upgrade").files.items():
            FileStorage(folder).write(name, data)
        bench = play("upgrade", CuttingStorage(FileStorage(folder), cut_at))

        check_end("upgrade", bench)
