"""A device that is online and gets stuck on the way holds nothing up for ever: at the deadline it has failed."""

from collections import Counter

import pytest

from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import MemberStatus, Plan
from fleet.simulator import Script, World
from fleet.synthetic import release

OLD = release("float32", version="1")
GOOD = release("int8", version="2")
WAVE_SECONDS = 30.0
PLAN = Plan(version="2", variant="int8", waves=(0.5, 1.0), wave_seconds=WAVE_SECONDS, soak_seconds=0)
WORDS = {
    "ignores": "nothing was heard of it",
    "fetching": "it was still fetching",
    "trial": "its trial had not ended",
    "confirming": "it served, but had not confirmed",
}
every_phase = pytest.mark.parametrize("phase", WORDS)


def world(count: int) -> World:
    made = World()
    made.add(count, running=OLD, **{GOOD.manifest: Script()})
    made.publish(OLD)
    made.publish(GOOD)
    made.host_up()
    return made


def until_stage(fleet: World, stage: Stage) -> float:
    """Return the time at which the rollout comes to a stage."""
    while fleet.rollout().stage is not stage:
        fleet.turn()
    return fleet.clock.now()


@every_phase
def test_a_canary_stuck_in_any_phase_has_failed_at_its_deadline(phase):
    """It is called a failure when its time is over and not before, with the phase that it was last heard in."""
    fleet = world(4)
    for device in fleet.devices.values():
        device.scripts[GOOD.manifest] = Script(behaviour=phase)
    fleet.start(PLAN)

    offered = until_stage(fleet, Stage.CANARY)
    gave_up = until_stage(fleet, Stage.REVERTING)
    end = fleet.run()

    failed = [m for m in end.members if m.status is MemberStatus.FAILED]
    assert gave_up - offered >= WAVE_SECONDS
    assert gave_up - offered <= WAVE_SECONDS + 2
    assert [m.reason for m in failed] == [f"not confirmed before the deadline: {WORDS[phase]}"]
    assert sum(GOOD.manifest in d.started for d in fleet.devices.values()) == 1
    assert end.stage is Stage.REVERTED
    assert set(fleet.running().values()) == {OLD.manifest}


@every_phase
def test_a_few_devices_stuck_in_a_wave_hold_it_up_until_its_deadline_and_no_longer(phase):
    """Within the failures that are allowed the rollout goes on without them, and its end names each."""
    fleet = world(40)
    fleet.start(Plan(version="2", variant="int8", waves=(0.5, 1.0), wave_seconds=WAVE_SECONDS, soak_seconds=0))
    until_stage(fleet, Stage.WAVE)
    stuck = [m.device for m in fleet.rollout().members if m.wave == 2][:2]
    for name in stuck:
        fleet.devices[name].scripts[GOOD.manifest] = Script(behaviour=phase)

    end = fleet.run()

    assert end.stage is Stage.DONE
    failed = {m.device: m.reason for m in end.members if m.status is MemberStatus.FAILED}
    assert failed == dict.fromkeys(stuck, f"not confirmed before the deadline: {WORDS[phase]}")
    assert Counter(fleet.running().values()) == {GOOD.manifest: 38, OLD.manifest: 2}


def test_a_return_that_gets_stuck_ends_at_its_deadline_and_names_the_device():
    """A device that does not go back is not waited for beyond the deadline; what it should run stays wanted."""
    fleet = world(2)
    for device in fleet.devices.values():
        device.scripts[GOOD.manifest] = Script(behaviour="confirming")
        device.scripts[OLD.manifest] = Script(behaviour="ignores")
    fleet.start(PLAN)

    began = until_stage(fleet, Stage.REVERTING)
    for device in fleet.devices.values():
        device.state = device.state.__class__(model="digits", phase=device.state.phase, active=GOOD.manifest)
    end = fleet.run()

    assert end.stage is Stage.REVERTED
    assert fleet.clock.now() - began >= WAVE_SECONDS
    assert "not heard back from" in end.reason


def test_a_rollout_gives_its_devices_a_budget_of_bytes():
    """Every device that is offered the winner is told the limit, newcomers included; a return has none."""
    fleet = world(2)
    fleet.start(Plan(version="2", variant="int8", wave_seconds=WAVE_SECONDS, soak_seconds=0, max_bytes=1234))
    end = fleet.run()
    fleet.add(1, running=OLD)
    for _ in range(5):
        fleet.turn()

    told = [(m.active, m.max_bytes) for d in fleet.store.all_desired() for m in d.models if m.active == GOOD.manifest]
    assert end.stage is Stage.DONE
    assert told
    assert {budget for _, budget in told} == {1234}
    assert set(fleet.running().values()) == {GOOD.manifest}


@pytest.mark.parametrize("max_bytes", [None, 1234])
def test_what_a_rollout_has_measured_has_its_budget(max_bytes):
    """Orders that the publication gave without a limit get the rollout's; without one they stay as they are."""
    fleet = world(2)
    fleet.start(Plan(version="2", wave_seconds=WAVE_SECONDS, soak_seconds=0, max_bytes=max_bytes))

    until_stage(fleet, Stage.CANARY)

    common = [m for d in fleet.store.all_desired() if d.target == "pi" for m in d.models]
    orders = [order for model in common for order in model.measure]
    assert orders
    assert {order.max_bytes for order in orders} == {max_bytes}


def test_the_way_back_has_no_budget():
    """What a device ran before may be fetched again at any cost."""
    fleet = world(2)
    for device in fleet.devices.values():
        device.scripts[GOOD.manifest] = Script(behaviour="wrong")
    fleet.start(Plan(version="2", variant="int8", wave_seconds=WAVE_SECONDS, max_bytes=1234))

    end = fleet.run()

    assert end.stage is Stage.REVERTED
    assert {m.max_bytes for d in fleet.store.all_desired() for m in d.models if m.active == OLD.manifest} <= {None}
    assert {m.active for d in fleet.store.all_desired() for m in d.models} >= {OLD.manifest}
