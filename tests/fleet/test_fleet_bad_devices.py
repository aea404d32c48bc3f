"""Devices that lie, flood, or speak for others: refused by name, and everybody else gets what they would have got."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepick_host.core.decision import parse_record
from edgepick_host.core.gates import GateName
from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import MemberStatus, Plan
from edgepick_host.service.inbox import MOST_OF_ONE
from edgepick_wire import codec, limits, topics
from edgepick_wire.messages import Outcome
from edgepick_wire.topics import DeviceTopic
from fleet.liars import LIAR, NEW, OLD, PLAN, Document, honest, honest_fleet, join, liar, measured_figures
from fleet.simulator import FLEET, Script, SimDevice, World
from fleet.synthetic import birth, fell_back, installed, measured, measurement

COUNT = 8
FIGURES = [
    ("latency", "p50_ns"),
    ("latency", "p95_ns"),
    ("latency", "min_ns"),
    ("memory", "peak_rss_bytes"),
    ("memory", "arena_bytes"),
    ("energy", "gross_uj"),
    ("golden", "agreement"),
]
NO_NUMBERS = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b'"fast"', b"true", b"[1]", b"{}", b"1" + b"0" * 400)
IMPOSSIBLE = st.integers(-(2**63) + 1, -1) | st.integers(2**62, 2**63 - 1)


def send(world: World, kind: DeviceTopic, payload: bytes, *, device: str = LIAR) -> None:
    world.air.publish(topics.device(FLEET, device, kind), payload, retain=kind is not DeviceTopic.REPORT)


def decisions(world: World) -> list:
    return [parse_record(document).decision for _, document in world.store.decisions("digits")]


def undisturbed(world: World, lied: str = "") -> None:
    """Assert that the rollout ends as without the liar: by the same figures, with the winner on every honest device."""
    world.start(PLAN)
    end = world.run()
    (decision,) = decisions(world)
    effect = next(e for e in decision.effects if e.metric == "latency")
    assert (decision.winner, effect.ratio, effect.devices) == (NEW.manifest, pytest.approx(0.5), COUNT)
    assert end.stage is Stage.DONE, end.reason
    assert Counter(honest(world).values()) == {NEW.manifest: COUNT}
    gate = next(g for g in decision.candidates[0].gates if g.name is GateName.MEASURED)
    assert lied in gate.detail


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(figure=st.sampled_from(FIGURES), value=IMPOSSIBLE)
def test_a_figure_that_cannot_be_is_refused_by_name(figure, value):
    """Below zero or absurdly large: the decision is that of the others, and its record names device and figure."""
    world, (part, name) = honest_fleet(COUNT), figure
    named = "an energy" if part == "energy" else f"{part}.{name}"
    liar(world, lambda document: measured_figures(document, lambda found: found[part].update({name: value})))

    undisturbed(world, lied=f"{LIAR}: it reports what cannot be: {named}")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(figure=st.sampled_from(FIGURES), value=st.sampled_from(NO_NUMBERS))
def test_what_is_no_number_is_refused_by_the_name_of_its_field(figure, value):
    """NaN, infinity, another type, four hundred digits: not stored, the service says where, nobody is disturbed."""
    world, (part, name) = honest_fleet(COUNT), figure

    def spoil(document: Document) -> bytes:
        measured_figures(document, lambda found: found[part].update({name: "@"}))
        return json.dumps(document).encode().replace(b'"@"', value)

    liar(world, spoil)

    undisturbed(world)
    assert not [r for r in world.store.reports() if r.device == LIAR and r.measurement]
    refused = next(line for line in world.lines if "refused" in line)
    assert f"/d/{LIAR}/report: Report.measurement.measurement.{part}.{name}" in refused


@pytest.mark.parametrize("when", [0.0, -4e9, 1e308, 4e9], ids=["1970", "1843", "end-of-time", "2096"])
def test_clocks_years_apart_decide_nothing(when):
    """Each device counts by its own session and clock, whatever year it takes it for."""
    world = honest_fleet(COUNT)

    liar(world, lambda document: document.update(recorded_at=when))
    world.start(PLAN)
    end = world.run()

    (decision,) = decisions(world)
    assert end.stage is Stage.DONE
    assert decision.effects[0].devices == COUNT + 1
    assert set(world.running().values()) == {NEW.manifest}


def test_one_that_lies_after_its_installation_has_failed():
    """A latency below zero keeps no limit of --check: the device fails by that figure's name, and goes back alone."""
    world = honest_fleet(COUNT)

    def spoil(document: Document) -> None:
        asked = document["measurement"] and document["measurement"]["request"]
        if asked == "after-r-1":
            measured_figures(document, lambda found: found["latency"].update(p95_ns=-5))

    liar(world, spoil)
    world.start(replace(PLAN, checks="p95 <= +10%", max_failures=0.5, tolerated=0))

    end = world.run()

    (member,) = [m for m in end.members if m.device == LIAR]
    assert end.stage is Stage.DONE
    assert Counter(honest(world).values()) == {NEW.manifest: COUNT}
    assert world.running()[LIAR] == OLD.manifest
    assert member.status is MemberStatus.FAILED
    assert "latency.p95_ns is -5; possible is more than 0" in member.reason


def test_a_lie_about_what_ran_before_sets_no_limit():
    """What --check compares with is not a figure that cannot be: that device is held to the median of the others."""
    world = honest_fleet(COUNT)

    def spoil(document: Document) -> None:
        if document["measurement"] and document["measurement"]["manifest"] == OLD.manifest:
            measured_figures(document, lambda found: found["latency"].update(p95_ns=-5))

    liar(world, spoil)
    world.start(replace(PLAN, checks="p95 <= +10%"))

    end = world.run()

    (member,) = [m for m in end.members if m.device == LIAR]
    assert end.stage is Stage.DONE
    assert member.limits[0].before == pytest.approx(12e6)


def test_a_report_that_is_too_large_is_left_where_it_is():
    """Nothing of it is stored or acknowledged, and the limit is named."""
    world = honest_fleet(COUNT)
    liar(world, lambda document: json.dumps(document).encode() + b" " * limits.MAX_PAYLOAD_BYTES)

    undisturbed(world)
    assert any(f"at most {limits.MAX_PAYLOAD_BYTES} are accepted" in line for line in world.lines)


def test_reports_about_what_nobody_asked_for_change_nothing():
    """An installation, a fall and figures of a variant that the device was never given move no rollout."""
    world = honest_fleet(COUNT)
    other = "f" * 64
    stranger = measured(LIAR, replace(OLD, manifest=other), measurement(0.001), number=7)
    for report in (
        stranger,
        installed(LIAR, other, Outcome.REVERTED, rollout="r-1", number=8),
        installed(LIAR, NEW.manifest, Outcome.REVERTED, rollout="r-of-yesterday", number=9),
        fell_back(LIAR, other, number=10),
    ):
        send(world, DeviceTopic.REPORT, codec.encode(report))

    undisturbed(world)
    assert len([r for r in world.store.reports() if r.device == LIAR]) == 4


def test_a_flood_takes_no_room_from_the_others():
    """Of one device so many reports wait and no more; the others' are taken in meanwhile, and none of them is lost."""
    world = honest_fleet(COUNT)
    world.start(PLAN)
    flood = [codec.encode(fell_back(LIAR, OLD.manifest, number=n)) for n in range(MOST_OF_ONE * 2)]
    most = 0
    for _ in range(60):
        for payload in flood:
            send(world, DeviceTopic.REPORT, payload)
        world.turn()
        most = max(most, len([r for r in world.store.reports() if r.device == LIAR]))
        if world.rollout().settled:
            break

    assert world.rollout().stage is Stage.DONE
    assert Counter(honest(world).values()) == {NEW.manifest: COUNT}
    assert most <= 2 * MOST_OF_ONE
    assert not any(device.outbox for device in world.devices.values())


def test_a_flood_of_what_is_no_message_fills_no_log():
    """The first is said at once, then at most one line a minute, with how many there were in between."""
    world = honest_fleet(COUNT)
    for _ in range(70):
        for _ in range(20):
            send(world, DeviceTopic.REPORT, b"{")
        world.turn()

    lines = [line for line in world.lines if "refused a message" in line]
    assert len(lines) == 2
    assert "1199 more like it in between" in lines[1]


def test_two_devices_with_one_name_are_said_to_be_two():
    """Births that alternate between two machines are told to the operator; the rest of the fleet goes on."""
    world = honest_fleet(COUNT)
    twins = [replace(birth(LIAR, "pi", session=s), machine=f"board {s}") for s in (7, 2)]
    for turn in range(4):
        send(world, DeviceTopic.BIRTH, codec.encode(twins[turn % 2]))
        world.turn()

    assert len([line for line in world.lines if "two machines use its name" in line]) == 1
    assert any("session 7 of board 7, test, and now in session 2 of board 2, test" in line for line in world.lines)
    undisturbed(world)


def test_a_restart_is_no_second_device():
    """A later session, or the same one from the same machine, is what every device does."""
    world = honest_fleet(1)
    for session in (1, 1, 2, 5):
        send(world, DeviceTopic.BIRTH, codec.encode(birth(LIAR, "pi", session=session)))
        world.turn()

    assert not [line for line in world.lines if "two machines" in line]


@pytest.mark.parametrize(
    "told",
    [
        {"active": "here"},
        {"previous": "../../etc"},
        {"active": "a" * 5000},
        {"model": "digits\0"},
        {"chunks_done": 10**30},
        {"phase": "sleeping"},
    ],
    ids=str,
)
def test_a_state_that_cannot_be_is_refused_whole(told):
    """What a device says that it runs is where it would be sent back to: no digest, no such state."""
    world = honest_fleet(COUNT)
    state = {"model": "digits", "phase": "confirmed", "active": OLD.manifest} | told
    reported = {"device": LIAR, "session": 1, "sequence": 0, "security_epoch": 0, "models": [state]}
    send(world, DeviceTopic.BIRTH, codec.encode(birth(LIAR, "pi")))
    send(world, DeviceTopic.REPORTED, json.dumps(reported).encode())

    undisturbed(world)
    assert any(f"/d/{LIAR}/reported: Reported" in line for line in world.lines)


def test_a_model_told_of_twice_stops_nothing():
    """The message is refused whole, and the service goes on."""
    world = honest_fleet(COUNT)
    state = {"model": "digits", "phase": "confirmed", "active": OLD.manifest}
    reported = {"device": LIAR, "session": 1, "sequence": 0, "security_epoch": 0, "models": [state, state]}
    send(world, DeviceTopic.REPORTED, json.dumps(reported).encode())

    undisturbed(world)
    assert any("one model is told of twice" in line for line in world.lines)


def test_a_device_of_another_fleet_with_the_same_name_is_not_heard():
    """Topics carry the fleet: what a namesake says elsewhere is nobody's here."""
    world = honest_fleet(COUNT)
    namesake = next(iter(world.devices))
    elsewhere = topics.device("elsewhere", namesake, DeviceTopic.REPORT)
    world.air.publish(elsewhere, codec.encode(fell_back(namesake, NEW.manifest)), retain=False)

    undisturbed(world)
    assert not [r for r in world.store.reports() if r.incident]


def test_a_device_that_calls_itself_another_kind_is_left_alone():
    """A profile that nothing was published for gets nothing, and no rollout waits for it."""
    world = honest_fleet(COUNT)
    join(world, SimDevice(name=LIAR, profile="toaster", air=world.air, scripts={}, running=OLD.manifest))

    undisturbed(world)
    assert world.running()[LIAR] == OLD.manifest


def test_a_slow_device_that_may_be_true_is_judged_like_every_other():
    """Ten minutes an inference can be: the limit is broken on that device, by name, and --only leaves it out."""
    world = honest_fleet(COUNT)
    liar(world, lambda document: measured_figures(document, lambda found: found["latency"].update(p95_ns=600 * 10**9)))
    world.start(PLAN)
    first = world.run()
    world.start(replace(PLAN, only=f"device!={LIAR}"), "r-2")
    second = world.run(rollout="r-2")

    assert first.stage is Stage.INCONCLUSIVE
    assert any(LIAR in g.detail for g in decisions(world)[0].candidates[0].gates)
    assert second.stage is Stage.DONE
    assert Counter(honest(world).values()) == {NEW.manifest: COUNT}


def test_a_stratum_of_one_device_does_not_hold_up_the_others():
    """Alone it proves nothing about a variant of the same version; the large stratum is promoted all the same."""
    world = World()
    better = replace(NEW, version="1", manifest=NEW.manifest, profiles=("pi", "cam"))
    world.add(10, running=OLD, pairs=True, **{NEW.manifest: Script(p50_ms=5)})
    world.add(1, "cam", running=OLD, **{NEW.manifest: Script(p50_ms=5)})
    world.publish(replace(OLD, profiles=("pi", "cam")), better)
    world.host_up()
    world.start(Plan(version="1", wave_seconds=60, soak_seconds=0, measure_seconds=30))

    end = world.run()

    alone = next(lane for lane in end.lanes if lane.profile == "cam")
    assert end.stage is Stage.DONE
    assert alone.winner is None
    assert "1 device(s) are too few" in alone.reason
    assert {d.profile: d.state.active for d in world.devices.values()} == {"pi": NEW.manifest, "cam": OLD.manifest}
