"""The disk is full from any storage operation on; then there is room again."""

import pytest

from edgepick_agent.core import places
from edgepick_agent.errors import StorageFullError
from edgepick_wire.messages import IncidentCode, Outcome, Phase, RefusalCode
from fakes.agent_bench import Bench
from fakes.host_stand_in import bundle
from fakes.storage import FullStorage, MemoryStorage

ONE, TWO = bundle("1"), bundle("2")


def confirmed_one() -> MemoryStorage:
    bench = Bench(MemoryStorage()).boot()
    bench.host.publish(ONE)
    bench.host.want(ONE, rollout="r1")
    bench.run(15)
    return bench.storage.cut()


def upgrade(full_at: int) -> Bench:
    bench = Bench(FullStorage(confirmed_one(), full_at))
    bench.host.sequence = 1
    bench.boot()
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="r2")
    return bench.run(20)


def takes() -> int:
    return int(upgrade(10_000).storage.count)


def test_a_full_disk_never_disturbs_the_running_model_and_heals_by_itself():
    """From whatever operation on the disk is full, the old variant serves on; with room again the new one comes."""
    total = takes()

    for full_at in range(1, total + 1):
        bench = upgrade(full_at)
        serving = bench.launcher.alive()
        bench.storage.healed = True
        bench.run(1500, step=5.0)  # a refusal is looked at again after 15 minutes and a spread per device

        assert serving in (["1"], ["2"], ["1", "2"])
        assert bench.model().active == TWO.digest
        assert bench.model().phase is Phase.CONFIRMED
        assert bench.launcher.alive() == ["2"]
    assert total >= 6


def test_a_download_that_does_not_fit_is_refused_before_its_first_byte():
    """Too little space is a refusal that says how much is needed; nothing is asked of the broker."""
    bench = Bench(MemoryStorage(capacity=5 * 1024 * 1024)).boot()
    large = bench.host.publish(bundle("large", model_size=2 * 1024 * 1024, chunk_size=64 * 1024))

    bench.host.want(large, rollout="r1")
    bench.run(5)

    outcome = bench.outcomes[-1]
    assert (outcome.outcome, outcome.chunks_fetched) == (Outcome.REFUSED, 0)
    assert outcome.refusal is not None
    assert outcome.refusal.code is RefusalCode.NO_SPACE
    assert "Free at least" in outcome.refusal.hint
    assert bench.storage.names(places.DOWNLOADS) == []


def test_a_disk_that_fills_up_during_a_download_ends_it_with_a_refusal_and_no_leftovers():
    """ENOSPC in the middle is refused as no-space, the part is removed, and a newer sequence tries again."""
    bench = Bench(MemoryStorage()).boot()
    one = bench.host.publish(ONE)
    bench.storage.write_at = _full

    bench.host.want(one, rollout="r1")
    bench.run(5)
    del bench.storage.write_at
    refused = bench.outcomes[-1]
    left = bench.storage.names(places.DOWNLOADS)
    bench.host.want(one, rollout="r1")
    bench.run(15)

    assert refused.refusal is not None
    assert refused.refusal.code is RefusalCode.NO_SPACE
    assert left == []
    assert IncidentCode.STORAGE_FULL in {i.code for i in bench.incidents}
    assert bench.model().phase is Phase.CONFIRMED


def _full(*_args: object) -> None:
    raise StorageFullError("downloads/x.part: No space left on device")


@pytest.mark.parametrize("full_at", [1, 2])
def test_an_agent_starts_on_a_full_disk(full_at):
    """A disk without a free block does not keep the active model from being served."""
    bench = Bench(FullStorage(confirmed_one(), full_at))
    bench.boot().run(5)

    assert bench.launcher.alive() == ["1"]
    assert bench.model().active == ONE.digest
