"""The host is killed before each single write to its store and each single message, and started again."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from edgepick_host.core.decision import first_break
from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import Plan
from fakes.store import MemoryStore
from fleet.simulator import PowerCut, Script, World
from fleet.synthetic import release

OLD = release("float32", version="1")
GOOD = release("int8", version="2", size=50_000)
PLAN = Plan(version="2", waves=(0.5, 1.0), wave_seconds=60, measure_seconds=60, soak_seconds=2)
WRITES = ("save_desired", "add_reports", "append_decision", "save_rollout", "next_sequence", "hear")


@dataclass
class Fuse:
    """Counts the host's operations and ends it before the one with number ``blows_at``."""

    blows_at: int | None = None
    count: int = 0

    def burn(self) -> None:
        self.count += 1
        if self.count == self.blows_at:
            raise PowerCut


class FusedStore:
    """The store as the host sees it, each write burning the fuse."""

    def __init__(self, store: MemoryStore, burn: Callable[[], None]):
        self._store = store
        self._burn = burn

    def __getattr__(self, name: str):
        method = getattr(self._store, name)
        if name not in WRITES:
            return method

        def fused(*arguments, **named):
            self._burn()
            return method(*arguments, **named)

        return fused


def outcome(behaviour: str, blows_at: int | None) -> tuple[World, Fuse, int]:
    """Run a rollout over four devices; the host dies once and is started again."""
    fleet = World()
    scripts = {OLD.manifest: Script(), GOOD.manifest: Script(behaviour=behaviour, p50_ms=5)}
    fleet.add(4, running=OLD, **scripts)
    fleet.publish(OLD)
    fleet.publish(GOOD)
    fuse, deaths = Fuse(blows_at), 0
    store = FusedStore(fleet.store, fuse.burn)
    fleet.start(PLAN)
    for _ in range(120):
        deaths += not lives_through_turn(fleet, store, fuse)
    return fleet, fuse, deaths


def lives_through_turn(fleet: World, store: FusedStore, fuse: Fuse) -> bool:
    try:
        if fleet.host is None:
            fleet.host_up(store, fuse.burn)
        fleet.turn()
    except PowerCut:
        fleet.host = None
        return False
    return True


ENDS = {"good": (Stage.DONE, {GOOD.manifest: 4}), "crash": (Stage.REVERTED, {OLD.manifest: 4})}


@pytest.mark.parametrize("behaviour", ENDS)
def test_a_host_killed_at_any_operation_comes_to_the_same_end(behaviour):
    """Wherever the host dies, its successor brings rollout, devices and records to the same end."""
    stage, running = ENDS[behaviour]
    _, whole, _ = outcome(behaviour, None)

    for moment in range(1, whole.count + 1):
        fleet, _, deaths = outcome(behaviour, moment)

        assert deaths == 1, moment
        assert fleet.rollout().stage is stage, moment
        assert fleet.rollout().settled, moment
        assert Counter(fleet.running().values()) == running, moment
        assert all(device.outbox == {} for device in fleet.devices.values()), moment
        records = [document for _, document in fleet.store.decisions()]
        assert len(records) == (1 if stage is Stage.DONE else 2), moment
        assert first_break(records) is None, moment
