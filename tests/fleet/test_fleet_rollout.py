"""Many devices, one host, one broker, in memory: the whole way from measurements to the fleet's state."""

from collections import Counter

import pytest

from edgepick_host.core.decision import Judgement, first_break, parse_record
from edgepick_host.core.replay import Outcome, replay
from edgepick_host.core.rollout_state import RequestKind, Stage
from edgepick_host.core.waves import Plan
from edgepick_host.service.requests import Request, file_request
from fleet.simulator import Script, World
from fleet.synthetic import release

OLD = release("float32", version="1")
GOOD = release("int8", version="2", size=50_000)
SLOW = release("float16", version="2", size=90_000, rank=1)
PLAN = Plan(version="2", wave_seconds=30, measure_seconds=60)


def world(count: int = 50, *, scripts: dict[str, Script], **options) -> World:
    made = World(**options)
    made.add(count, running=OLD, **scripts)
    made.publish(OLD)
    made.publish(GOOD, SLOW)
    return made


def fast() -> dict[str, Script]:
    return {OLD.manifest: Script(p50_ms=10), GOOD.manifest: Script(p50_ms=5), SLOW.manifest: Script(p50_ms=8)}


@pytest.mark.parametrize("seed", range(3))
def test_a_good_variant_reaches_every_device(seed):
    """Fifty devices measure, the better variant is chosen, and all of them confirm it, over a lossy network."""
    fleet = world(scripts=fast(), seed=seed, loss=0.2, doubling=0.2)
    fleet.host_up()
    fleet.start(PLAN)

    end = fleet.run()

    assert end.stage is Stage.DONE
    assert Counter(fleet.running().values()) == {GOOD.manifest: 50}
    assert sum(device.outbox != {} for device in fleet.devices.values()) == 0


@pytest.mark.parametrize("behaviour", ["crash", "silent"])
def test_a_variant_that_harms_is_taken_back(behaviour):
    """A variant that measures well but fails in use touches the canary only, and every device returns."""
    scripts = {**fast(), GOOD.manifest: Script(behaviour=behaviour, p50_ms=5)}
    fleet = world(scripts=scripts)
    fleet.host_up()
    fleet.start(PLAN)

    end = fleet.run()

    assert end.stage is Stage.REVERTED
    assert sum(GOOD.manifest in device.started for device in fleet.devices.values()) == 1
    assert Counter(fleet.running().values()) == {OLD.manifest: 50}
    last = parse_record(fleet.store.decisions("digits")[-1][1]).decision
    assert last.verdict is Judgement.ROLLBACK
    assert last.candidates[0].manifest == GOOD.manifest


def test_a_variant_that_fails_in_a_later_wave_is_taken_back_from_all():
    """Devices that had confirmed go back too when more than the allowed share of a wave fails."""
    fleet = world(scripts=fast())
    for device in list(fleet.devices.values())[::2]:
        device.scripts[GOOD.manifest] = Script(behaviour="wrong", p50_ms=5)
        device.done.update(order.id for order in fleet.store.all_desired()[0].models[0].measure)
    fleet.host_up()
    fleet.start(Plan(version="2", variant="int8", canary=1, wave_seconds=30))
    end = fleet.run()

    assert end.stage is Stage.REVERTED
    assert Counter(fleet.running().values()) == {OLD.manifest: 50}


def test_a_variant_with_wrong_answers_is_never_offered():
    """A variant that fails its golden inputs on a device loses at the gate, and the next best is rolled out."""
    scripts = {**fast(), GOOD.manifest: Script(behaviour="wrong", p50_ms=5)}
    fleet = world(6, scripts=scripts)
    fleet.host_up()
    fleet.start(PLAN)

    end = fleet.run()

    assert end.stage is Stage.DONE
    assert not any(GOOD.manifest in device.started for device in fleet.devices.values())
    assert Counter(fleet.running().values()) == {SLOW.manifest: 6}


def test_no_measurements_means_no_rollout():
    """When no device answers before the deadline, nothing is rolled out, and the record says what is missing."""
    fleet = world(3, scripts=fast())
    for device in fleet.devices.values():
        device.vanish()
    fleet.host_up()
    fleet.start(PLAN)

    end = fleet.run()

    assert end.stage is Stage.INCONCLUSIVE
    decision = parse_record(fleet.store.decisions("digits")[-1][1]).decision
    assert decision.verdict is Judgement.INCONCLUSIVE
    assert "no measurement from pi-0-0" in " ".join(decision.reasons)


def test_newcomers_get_the_old_variant_until_the_end_and_then_the_winner():
    """A device that is born during a rollout is not part of it; after its end it gets the winner."""
    fleet = world(10, scripts=fast())
    fleet.publish(OLD)
    fleet.host_up()
    fleet.start(PLAN)
    while fleet.rollout().stage is not Stage.WAVE:
        fleet.turn()

    fleet.add(1, running=OLD, **fast())
    fleet.turn()
    newcomer = list(fleet.devices.values())[-1]
    during = newcomer.state.active
    fleet.run()

    assert during == OLD.manifest
    assert newcomer.state.active == GOOD.manifest


def test_an_offline_device_does_not_stop_the_rest_and_gets_the_winner_later():
    """Devices that were off the whole time are no failure; when they come back they follow the profile."""
    fleet = world(20, scripts=fast())
    away = list(fleet.devices.values())[:4]
    for device in away:
        device.vanish()
    fleet.host_up()
    fleet.start(PLAN)

    end = fleet.run()
    for device in away:
        device.boot()
    for _ in range(5):
        fleet.turn()

    assert end.stage is Stage.DONE
    assert Counter(fleet.running().values()) == {GOOD.manifest: 20}


def test_publishing_in_the_middle_of_a_rollout_disturbs_no_device():
    """A publication rewrites its profiles' documents; devices of the running rollout keep what they got."""
    fleet = world(10, scripts=fast())
    fleet.host_up()
    fleet.start(PLAN)
    while fleet.rollout().wave < 2:
        fleet.turn()

    fleet.publish(release("int4", version="3"))
    end = fleet.run()

    assert end.stage is Stage.DONE
    assert Counter(fleet.running().values()) == {GOOD.manifest: 10}


def test_abort_returns_every_device():
    """An operator's abort in the middle of a wave sends every touched device back."""
    fleet = world(20, scripts=fast())
    fleet.host_up()
    fleet.start(PLAN)
    while fleet.rollout().wave < 1:
        fleet.turn()

    file_request(fleet.store, "r-1", Request(id="a", kind=RequestKind.ABORT))
    end = fleet.run()

    assert end.stage is Stage.ABORTED
    assert Counter(fleet.running().values()) == {OLD.manifest: 20}


def test_a_paused_rollout_touches_nobody_new_until_resumed():
    """Pause holds the next wave however much time passes; resume goes on to the end."""
    fleet = world(20, scripts=fast())
    fleet.host_up()
    fleet.start(PLAN)
    while fleet.rollout().wave < 1:
        fleet.turn()

    file_request(fleet.store, "r-1", Request(id="a", kind=RequestKind.PAUSE))
    for _ in range(50):
        fleet.turn()
    held = Counter(fleet.running().values())[GOOD.manifest]
    file_request(fleet.store, "r-1", Request(id="b", kind=RequestKind.RESUME))
    end = fleet.run()

    assert held < 20
    assert end.stage is Stage.DONE
    assert Counter(fleet.running().values()) == {GOOD.manifest: 20}


def test_each_kind_of_device_gets_its_own_verdict():
    """A profile whose devices said nothing stays as it is while another profile is rolled out."""
    fleet = World()
    both = release("int8", version="2", profiles=("pi", "coral"))
    fleet.add(4, "pi", running=OLD, **fast())
    fleet.add(2, "coral", running=OLD, **fast())
    fleet.publish(OLD, both)
    for device in fleet.devices.values():
        if device.profile == "coral":
            device.vanish()
    fleet.host_up()
    fleet.start(PLAN)

    end = fleet.run()

    verdicts = {lane.profile: lane.verdict for lane in end.lanes}
    assert end.stage is Stage.DONE
    assert verdicts == {"coral": Judgement.INCONCLUSIVE, "pi": Judgement.PROMOTE}
    assert Counter(fleet.running().values()) == {both.manifest: 4, OLD.manifest: 2}


def test_decision_records_form_an_unbroken_chain():
    """Every record names the one before it, over several rollouts."""
    fleet = world(4, scripts=fast())
    fleet.host_up()
    fleet.start(PLAN)
    fleet.run()
    fleet.start(Plan(version="1", variant="float32", wave_seconds=30), rollout="r-2")
    fleet.run(rollout="r-2")

    records = [document for _, document in fleet.store.decisions()]

    assert len(records) == 2
    assert first_break(records) is None
    assert first_break(records[1:]) == 0


def test_every_decision_of_a_rollout_is_derived_again_from_the_store():
    """After a rollout over a lossy network, each record in the store comes out of the log of reports bit for bit."""
    fleet = world(scripts=fast(), seed=4, loss=0.2, doubling=0.2)
    fleet.host_up()
    fleet.start(PLAN)
    fleet.run()

    records = [document for _, document in fleet.store.decisions()]
    found = replay(records, fleet.store.releases(), fleet.store.reports())

    assert [r.outcome for r in found] == [Outcome.SAME] * len(records)
    assert records
