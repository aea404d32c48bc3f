"""Every changing storage operation of a device's life, one by one: power cut at it, disk full, disk broken."""

from collections import Counter

import pytest

from edgepick_agent.errors import StorageError, StorageFullError
from fakes.agent_bench import Bench
from fakes.storage import CuttingStorage, FaultyStorage, PowerCut
from powercut.lives import (
    STORIES,
    boot_until_it_runs,
    check_cleared,
    check_disk,
    check_end,
    disk_before,
    let_happen,
    operations,
    prepare,
)

every_story = pytest.mark.parametrize("name", list(STORIES))


@every_story
@pytest.mark.parametrize("torn", [False, True], ids=["clean", "torn"])
def test_a_power_cut_at_every_operation_is_survived(name, torn, tell):
    """Whichever operation was the last, whole or by half, one signed variant is active, and the device converges."""
    total = len(operations(name))

    for cut_at in range(1, total + 1):
        bench = prepare(name, Bench(CuttingStorage(disk_before(name), cut_at, torn=torn)))
        with pytest.raises(PowerCut):
            let_happen(name, bench)
        bench.cut_power()
        check_disk(name, bench.storage)
        bench.boot().run(40, step=1.0)

        check_end(name, bench)
        check_cleared(bench)
    assert total >= 1
    if not torn:
        tell(counted(name))


@every_story
@pytest.mark.parametrize(
    ("error", "lasting"),
    [(StorageFullError, False), (StorageFullError, True), (StorageError, False), (StorageError, True)],
    ids=["ENOSPC", "ENOSPC-lasting", "EIO", "EIO-lasting"],
)
def test_a_failure_of_every_operation_is_survived(name, error, lasting):
    """Whichever operation fails, the disk stays whole; when it is well and the device started again, it converges."""
    for fail_at in range(1, len(operations(name)) + 1):
        storage = FaultyStorage(disk_before(name), fail_at, error, lasting=lasting)
        bench = prepare(name, Bench(storage))
        try:
            let_happen(name, bench, 10)
        except StorageError:
            assert error is StorageError or fail_at == 1, "only a disk that fails at the start keeps the agent from it"
        check_disk(name, storage)
        storage.healed = True
        bench.cut_power()
        check_disk(name, bench.storage)
        boot_until_it_runs(bench, 40)

        check_end(name, bench)
        check_cleared(bench)


def counted(name: str) -> str:
    """Return how many operations there are to fail at, by kind."""
    kinds = Counter(kind for kind, _ in operations(name))
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{len(operations(name))} storage operations ({counts})"
