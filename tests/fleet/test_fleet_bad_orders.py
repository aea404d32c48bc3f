"""Orders that make no sense, or only for a part of the fleet: refused before anything starts, or held up there."""

from collections import Counter
from dataclasses import replace

import pytest

from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import Plan
from edgepick_host.errors import StateError
from edgepick_host.service.campaigns import checked_plan
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import Reported
from fleet.liars import NEW, OLD, PLAN, Document, Liar, honest_fleet, join, measured_figures
from fleet.simulator import Script, World


class Metered(Liar):
    """A device with a power sensor."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.spoil = self._measured

    def _measured(self, document: Document) -> None:
        asked = document["measurement"]
        energy = 900.0 if asked and asked["manifest"] == NEW.manifest else 1800.0
        measured_figures(document, lambda found: found["energy"].update(gross_uj=energy))


def test_an_objective_that_a_kind_of_device_cannot_measure_holds_up_that_kind_alone():
    """Boards with a sensor get what needs less energy; of the others the reason says that nobody measured it."""
    both = ("pi", "metered")
    world = World()
    world.add(4, running=OLD, **{NEW.manifest: Script(p50_ms=5)})
    for number in range(4):
        name = f"metered-{number}"
        join(world, Metered(name=name, profile="metered", air=world.air, scripts={}, running=OLD.manifest))
    world.publish(replace(OLD, profiles=both))
    world.publish(replace(NEW, profiles=both))
    world.host_up()
    world.start(replace(PLAN, objective="minimise energy"))

    end = world.run()

    held = next(lane for lane in end.lanes if lane.profile == "pi")
    assert end.stage is Stage.DONE
    assert "nobody measured its energy" in held.reason
    assert Counter((d.profile, d.state.active) for d in world.devices.values()) == {
        ("pi", OLD.manifest): 4,
        ("metered", NEW.manifest): 4,
    }


def test_a_query_that_matches_nobody_ends_at_once():
    """Nobody is touched, and the rollout says that no device matches; the next one is not held up."""
    world = honest_fleet(4)
    world.start(replace(PLAN, only="site=nowhere"))
    first = world.run()
    world.start(PLAN, "r-2")

    assert first.stage is Stage.INCONCLUSIVE
    assert "no device of this profile matches 'site=nowhere'" in first.lanes[0].reason
    assert world.run(rollout="r-2").stage is Stage.DONE


def test_waves_that_match_nobody_are_passed():
    """A step whose query nobody keeps is empty; the others reach everybody."""
    world = honest_fleet(6)
    world.start(replace(PLAN, steps=("site=nowhere", "100%")))

    assert world.run().stage is Stage.DONE
    assert set(world.running().values()) == {NEW.manifest}


@pytest.mark.parametrize(
    ("model", "plan", "words"),
    [
        ("dogs", Plan(version=""), "no variant of model 'dogs' was ever published; published are: digits"),
        ("digits", Plan(version="9"), "model 'digits' has no version '9'; it has: 1, 2"),
        ("digits", Plan(version="2", variant="int2"), "model 'digits' has no variant 'int2'; it has: new"),
        ("digits", Plan(version="2", profiles=("toaster",)), "model 'digits' has no profile 'toaster'; it has: pi"),
    ],
)
def test_what_was_never_published_is_refused_with_what_was(model, plan, words):
    """The message says what there is, and nothing is started."""
    world = honest_fleet(1)

    with pytest.raises(StateError) as refused:
        checked_plan(world.store, model, plan)

    assert words in str(refused.value)
    assert world.store.rollouts() == []


def epochs(world: World, *least: int) -> None:
    """Have the first devices say below which security epoch they accept nothing."""
    names = list(world.devices)[: len(least)]
    for name, epoch in zip(names, least, strict=True):
        said = Reported(device=name, session=1, sequence=1, security_epoch=epoch)
        world.store.heard_reported(said, 0.0)


def test_a_version_that_every_device_would_refuse_is_not_started():
    """All have confirmed a higher security epoch than it has; the hint says how it could run again."""
    world = honest_fleet(2)
    world.turn()
    world.store.save_release(replace(NEW, version="3", manifest=digest_of(b"3"), security_epoch=5), b"signed")
    epochs(world, 5, 4)

    with pytest.raises(StateError, match=r"epoch 0; each of 2 device\(s\) accepts 4 or more") as refused:
        checked_plan(world.store, "digits", Plan(version="2"))

    assert "--epoch 4" in refused.value.hint
    assert checked_plan(world.store, "digits", Plan(version="3")).version == "3"


def test_one_device_cannot_keep_a_version_from_the_others():
    """A device that claims an absurd epoch refuses for itself; the rollout is started."""
    world = honest_fleet(2)
    world.turn()
    world.store.save_release(replace(NEW, version="3", manifest=digest_of(b"3"), security_epoch=5), b"signed")
    epochs(world, 2**60, 0)

    assert checked_plan(world.store, "digits", Plan(version="2")).version == "2"
