"""A comparison between devices with a real coordinator: a crashing candidate goes home, a healthy one goes on."""

from collections import Counter

from edgepick_host.core.experiment.between import Between
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.waves import Plan
from fleet.simulator import Script, World
from fleet.synthetic import release

OLD = release("float32", version="1")
NEW = release("int8", version="2")
PLAN = Plan(
    version="2",
    variant="int8",
    between=Between(share=0.5, seconds=20.0, max_excess=0.3),
    max_failures=0.99,
    tolerated=0.0,
    soak_seconds=0,
)


def compared(behaviour: str) -> tuple[World, RolloutState]:
    """Return a fleet of forty after a rollout whose candidate behaves so on half of the devices, none the canary."""
    fleet = World()
    fleet.add(40, running=OLD, **{NEW.manifest: Script()})
    fleet.publish(OLD)
    fleet.publish(NEW)
    fleet.host_up()
    fleet.start(PLAN)
    while fleet.rollout().stage is not Stage.WAVE:
        fleet.turn()
    for name in [m.device for m in fleet.rollout().members if m.wave][::2]:
        fleet.devices[name].scripts[NEW.manifest] = Script(behaviour=behaviour)
    return fleet, fleet.run()


def test_a_candidate_that_crashes_in_service_goes_home_and_the_other_arm_never_sees_it():
    """Confirmed first and crashing later, it is found by pairs; nobody outside of its arm has started it."""
    fleet, end = compared("crash")

    assert end.stage is Stage.REVERTED
    assert "pairs of devices of which one failed, the candidate's was the first" in end.reason
    assert set(fleet.running().values()) == {OLD.manifest}
    assert not any(NEW.manifest in fleet.devices[m.device].started for m in end.members if m.wave > 1)


def test_a_healthy_candidate_reaches_everybody_after_the_comparison():
    """The bound is in the record of what happened, before the second half of the fleet is offered anything."""
    fleet, end = compared("good")

    assert end.stage is Stage.DONE
    assert Counter(fleet.running().values()) == {NEW.manifest: 40}
    said = [line.text for line in end.history]
    shown = next(n for n, text in enumerate(said) if "more devices fail than before" in text)
    assert said[shown].startswith("pi: 19 pairs of devices: at most 17.6% more devices fail")
    assert "wave 2 of 2: offered" in said[shown + 1]
