"""What an operator may ask of a rollout, in a whole fleet: parts of it, groups, windows, one after another."""

from collections import Counter
from dataclasses import replace

import pytest

from edgepick_host.core.rollout_state import RequestKind, Stage
from edgepick_host.core.waves import Plan
from edgepick_host.errors import StateError
from edgepick_host.service.campaigns import ask, checked_plan, start
from edgepick_host.service.requests import load_rollouts
from fleet.simulator import Script, SimDevice, World
from fleet.synthetic import manifest_of, release

OLD, NEW = release("old", version="1"), release("new", version="2")


def fleet_of(*sites: str, each: int = 6) -> World:
    """Return a world with devices at these sites, all of them running the old variant; the new one is faster."""
    world = World()
    for site in sites:
        world.add(each, running=OLD, labels={"site": site}, **{NEW.manifest: Script(p50_ms=5)})
    world.publish(OLD)
    world.publish(NEW)
    world.host_up()
    return world


def at(world: World, site: str) -> Counter:
    return Counter(d.state.active for d in world.devices.values() if d.labels.get("site") == site)


def test_a_rollout_may_be_limited_to_a_part_of_the_fleet():
    """With --only the devices that match get the winner; the others are asked nothing and keep what they run."""
    world = fleet_of("lab", "plant")
    world.start(Plan(version="2", wave_seconds=30, only="site=lab"))

    end = world.run()

    assert end.stage is Stage.DONE
    assert len(end.members) == 6
    assert at(world, "lab") == {NEW.manifest: 6}
    assert at(world, "plant") == {OLD.manifest: 6}


def test_groups_are_reached_in_the_order_of_the_waves():
    """While the wave of one site is under way, nobody of the other site has been touched, but the canary."""
    world = fleet_of("lab", "plant")
    world.start(Plan(version="2", wave_seconds=30, steps=("site=plant", "100%"), soak_seconds=3))
    canary = None
    while world.rollout().wave == 0:
        world.turn()
        canary = next((m.device for m in world.rollout().members if m.wave == 0), None)

    touched = {m.device for m in world.rollout().members if m.touched} - {canary}

    assert touched
    assert {world.devices[name].labels["site"] for name in touched} == {"plant"}
    assert world.run().stage is Stage.DONE
    assert set(world.running().values()) == {NEW.manifest}


def test_waves_that_grow_reach_everybody():
    """The number of waves follows from the largest stratum, and each is confirmed before the next."""
    world = fleet_of("lab", each=40)
    world.start(Plan(version="2", wave_seconds=30, steps=("exponential:3",), soak_seconds=0))

    end = world.run()

    assert (end.stage, end.waves) == (Stage.DONE, 3)
    assert [sum(m.wave == n for m in end.members) for n in range(4)] == [1, 3, 9, 27]


def test_devices_that_appear_join_the_last_wave():
    """A device that is heard of in the middle of a rollout gets the winner with the others, supervised like them."""
    world = fleet_of("lab")
    world.start(Plan(version="2", wave_seconds=30, only="site=lab", soak_seconds=3))
    while world.rollout().wave == 0:
        world.turn()
    world.add(1, running=OLD, labels={"site": "lab"}, **{NEW.manifest: Script(p50_ms=5)})
    world.add(1, running=OLD, labels={"site": "plant"}, **{NEW.manifest: Script(p50_ms=5)})

    end = world.run()

    assert end.stage is Stage.DONE
    assert len(end.members) == 7
    assert at(world, "lab") == {NEW.manifest: 7}
    assert at(world, "plant") == {OLD.manifest: 1}


def test_nothing_is_offered_before_the_window_opens():
    """Whatever has been decided, the canary waits for the window; the host may be replaced meanwhile."""
    world = fleet_of("lab")
    world.clock.time = 86_400.0 * 20 + 7 * 3600
    world.start(Plan(version="2", wave_seconds=30, window="daily 08:00-10:00"))
    for _ in range(40):
        world.turn()
    waiting = world.rollout()
    world.host_up()
    before = at(world, "lab")
    world.clock.time = 86_400.0 * 20 + 8 * 3600

    end = world.run()

    assert (waiting.upcoming, waiting.opens_at) == (0, 86_400.0 * 20 + 8 * 3600)
    assert before == {OLD.manifest: 6}
    assert end.stage is Stage.DONE


def test_a_second_rollout_of_a_model_is_refused_while_the_first_runs():
    """Two plans for one model would want two things of one device; the message names the one that runs."""
    world = fleet_of("lab")
    start(world.store, "digits", Plan(version="2"), rollout="r-1", now=0.0)

    with pytest.raises(StateError, match="r-1 of digits is measuring") as refused:
        start(world.store, "digits", Plan(version="2"), rollout="r-2", now=0.0)

    assert "--replace" in refused.value.hint
    assert [state.id for state in load_rollouts(world.store)] == ["r-1"]


def test_a_rollout_that_replaces_another_waits_until_its_devices_are_back():
    """What the first one touched returns; only then does the second one offer anything, and it reaches everybody."""
    world = fleet_of("lab")
    newest = release("newest", version="3")
    world.publish(newest)
    world.start(Plan(version="2", wave_seconds=30, soak_seconds=5, variant="new"))
    while world.rollout().wave == 0:
        world.turn()

    start(world.store, "digits", Plan(version="3", variant="newest"), rollout="r-2", now=0.0, replace_running=True)
    while not world.rollout("r-1").settled:
        world.turn()
        assert world.rollout("r-2").lanes == ()
    between = at(world, "lab")
    end = world.run(rollout="r-2")

    assert world.rollout("r-1").stage is Stage.ABORTED
    assert between == {OLD.manifest: 6}
    assert (end.stage, {m.previous for m in end.members}) == (Stage.DONE, {OLD.manifest})
    assert at(world, "lab") == {newest.manifest: 6}


def test_replacing_ends_everything_that_waits_before_it():
    """Of three in a row the last one is carried out; the second never offers anything."""
    world = fleet_of("lab")
    for name in ("r-1", "r-2", "r-3"):
        start(world.store, "digits", Plan(version="2"), rollout=name, now=0.0, replace_running=True)

    end = world.run(rollout="r-3")

    assert [state.stage for state in load_rollouts(world.store)] == [Stage.ABORTED, Stage.ABORTED, Stage.DONE]
    assert end.after == "r-2"


@pytest.mark.parametrize("kind", [RequestKind.PAUSE, RequestKind.RESUME])
def test_an_abort_that_nobody_has_taken_in_yet_is_not_lost(kind):
    """Between two looks, nothing can be asked that takes its place: it is refused, and every device goes back."""
    world = fleet_of("lab")
    world.start(Plan(version="2", wave_seconds=30, soak_seconds=5))
    while world.rollout().wave == 0:
        world.turn()

    ask(world.store, "r-1", RequestKind.ABORT, request="a")
    with pytest.raises(StateError, match=f"was asked to abort and cannot be asked to {kind}"):
        ask(world.store, "r-1", kind, request="b")
    ask(world.store, "r-1", RequestKind.ABORT, request="c")
    end = world.run()

    assert end.stage is Stage.ABORTED
    assert at(world, "lab") == {OLD.manifest: 6}


def test_a_rollout_that_is_being_replaced_cannot_be_kept_going():
    """The abort that a replacement files stands like an operator's own; the new rollout has its turn."""
    world = fleet_of("lab")
    start(world.store, "digits", Plan(version="2"), rollout="r-1", now=0.0)
    start(world.store, "digits", Plan(version="2"), rollout="r-2", now=0.0, replace_running=True)

    with pytest.raises(StateError, match="r-1 was asked to abort"):
        ask(world.store, "r-1", RequestKind.RESUME, request="b")
    end = world.run(rollout="r-2")

    assert (world.rollout("r-1").stage, end.stage) == (Stage.ABORTED, Stage.DONE)


def test_two_models_are_rolled_out_to_the_same_devices_at_once():
    """One model's rollout ends well and the other's is taken back; neither changes what the other wants."""
    world = fleet_of("lab", each=0)
    heard = [replace(r, model="wake", manifest=manifest_of(r.version, "wake")) for r in (OLD, NEW)]
    world.add(6, running=OLD, **{NEW.manifest: Script(p50_ms=5)})
    for device in world.devices.values():
        bad = {heard[1].manifest: Script(behaviour="crash", p50_ms=5)}
        twin = SimDevice(
            name=device.name,
            profile=device.profile,
            air=world.air,
            scripts=bad,
            running=heard[0].manifest,
            model="wake",
            session=device.session,
            counter=99,
        )
        device.twin, twin.twin = twin, device
        twin.boot()
    world.publish(*heard[:1])
    world.publish(*heard[1:])
    world.start(Plan(version="2", wave_seconds=30, soak_seconds=5), "r-good")
    world.start(Plan(version="2", wave_seconds=30, soak_seconds=5), "r-bad", model="wake")

    world.run(rollout="r-bad")
    good = world.run(rollout="r-good")

    assert (good.stage, world.rollout("r-bad").stage) == (Stage.DONE, Stage.REVERTED)
    assert set(world.running().values()) == {NEW.manifest}
    assert {d.twin.state.active for d in world.devices.values()} == {heard[0].manifest}


def test_a_variant_that_is_slower_where_it_is_installed_is_taken_back():
    """It measured well beside what ran; in its place it is 40 % slower than what ran before, and the canary says so."""
    world = World()
    world.add(6, running=OLD, **{OLD.manifest: Script(p50_ms=10), NEW.manifest: Script(p50_ms=5, installed_ms=14)})
    world.publish(OLD)
    world.publish(NEW)
    world.host_up()
    world.start(Plan(version="2", wave_seconds=30, checks="p95 <= +10%"))

    end = world.run()

    assert end.stage is Stage.REVERTED
    assert "p95 is 16.8 ms after the installation, +40% of 12 ms before; at most 13.2 ms" in end.reason
    assert sum(m.touched for m in end.members) == 1
    assert set(world.running().values()) == {OLD.manifest}


def test_a_variant_that_keeps_its_figures_where_it_is_installed_goes_on():
    """Every device has measured once more before it counts as confirmed, and each only once."""
    world = fleet_of("lab")
    world.start(Plan(version="2", wave_seconds=30, checks="p95 <= +10% and memory <= 60 MiB", soak_seconds=0))

    end = world.run()

    again = [r for r in world.store.reports() if r.measurement and r.measurement.request == "after-r-1"]
    assert end.stage is Stage.DONE
    assert all(m.checked for m in end.members)
    assert sorted(r.device for r in again) == sorted(world.devices)


def test_a_device_that_does_not_measure_again_has_failed_at_the_deadline():
    """What is not known is not kept: the device confirmed, but its figures never came."""
    world = fleet_of("lab")
    for device in world.devices.values():
        device.done.add("after-r-1")
    world.start(Plan(version="2", wave_seconds=20, checks="latency <= +5%"))

    end = world.run()

    assert end.stage is Stage.REVERTED
    assert "it had confirmed, but its figures had not come" in end.reason


def test_a_check_of_what_nobody_measures_is_refused():
    """Before anything starts if it is known by then, and at the decision otherwise."""
    world = fleet_of("lab")
    known = checked_plan(world.store, "digits", Plan(version="2", checks="energy <= +10%"))
    world.start(known)

    end = world.run()

    assert end.stage is Stage.INCONCLUSIVE
    assert "no device has measured energy of what runs there" in end.lanes[0].held
    with pytest.raises(StateError, match="no device has ever reported energy of 'digits'"):
        checked_plan(world.store, "digits", known)
