"""The roster: who is in the fleet, from messages in any order."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.records import Device, is_online, newer_presence
from edgepick_host.core.roster import Roster, filters
from edgepick_wire import codec, topics
from edgepick_wire.messages import Birth, Presence, Reported
from edgepick_wire.topics import DeviceTopic

FLEET = "main"


def birth(session: int, device: str = "pi-1") -> Birth:
    return Birth(
        device=device,
        session=session,
        profile="raspberry-pi-4",
        agent_version="0.1.0",
        machine="aarch64",
        system="Linux",
        python="3.11",
        runtimes=(),
        memory_bytes=1,
        disk_free_bytes=1,
    )


def on(kind: DeviceTopic, message: object, device: str = "pi-1") -> tuple[str, bytes]:
    return topics.device(FLEET, device, kind), codec.encode(message)


def heard(*messages: tuple[str, bytes]) -> Roster:
    roster = Roster(FLEET)
    for topic, payload in messages:
        roster.hear(topic, payload)
    return roster


ALL = (
    on(DeviceTopic.BIRTH, birth(3)),
    on(DeviceTopic.PRESENCE, Presence(session=3, online=True)),
    on(DeviceTopic.REPORTED, Reported(device="pi-1", session=3, sequence=4, security_epoch=0)),
)


@pytest.mark.parametrize("order", list(itertools.permutations(ALL)))
def test_any_order_gives_the_same(order):
    """Birth, presence and reported state make the same device in whatever order they come."""
    (device,) = heard(*order).devices()

    assert (device.device, device.online, device.birth.session, device.reported.sequence) == ("pi-1", True, 3, 4)


@pytest.mark.parametrize("order", list(itertools.permutations(ALL[:2])))
def test_late_will_is_ignored(order):
    """A last will of the session before does not make a device offline."""
    late = on(DeviceTopic.PRESENCE, Presence(session=2, online=False))

    assert heard(*order, late).devices()[0].online


def test_late_will_that_is_retained():
    """A late last will that overwrote the retained presence says nothing of the session that was born since."""
    roster = heard(ALL[0], on(DeviceTopic.PRESENCE, Presence(session=2, online=False)))

    assert roster.devices()[0].online


def test_end_of_the_session():
    """The last will of the running session makes the device offline."""
    assert not heard(*ALL, on(DeviceTopic.PRESENCE, Presence(session=3, online=False))).devices()[0].online


def test_unreadable_message_is_noted():
    """A message that cannot be read is named, and the other devices are listed all the same."""
    bad = topics.device(FLEET, "pi-2", DeviceTopic.BIRTH)
    roster = heard(*ALL, (bad, b"{"))

    assert [d.device for d in roster.devices()] == ["pi-1"]
    assert "not JSON" in roster.unreadable[bad]


def test_impostor_is_noted():
    """A birth that names another device than its topic is not believed."""
    roster = heard(on(DeviceTopic.BIRTH, birth(1, "pi-2"), device="pi-1"))

    assert roster.devices() == ()
    assert "pi-2" in next(iter(roster.unreadable.values()))


def test_mended_message_is_no_longer_noted():
    """A message that replaces an unreadable one clears the note."""
    topic, good = ALL[0]

    assert heard((topic, b"{"), (topic, good)).unreadable == {}


def test_cleared_device_is_gone():
    """A device whose retained messages are cleared is no longer listed."""
    assert heard(*ALL, *((topic, b"") for topic, _ in ALL)).devices() == ()


def test_store_fills_in():
    """A device that only the store remembers is listed as offline; the broker's word wins where both speak."""
    known = {"pi-0": Device(device="pi-0", birth=birth(1, "pi-0"), online=True, last_seen=5.0)}
    known["pi-1"] = Device(device="pi-1", birth=birth(1), last_seen=6.0)
    roster = Roster(FLEET, known)
    for topic, payload in ALL:
        roster.hear(topic, payload)

    old, new = roster.devices()

    assert (old.device, old.online, old.last_seen) == ("pi-0", False, 5.0)
    assert (new.birth.session, new.online, new.last_seen) == (3, True, 6.0)


@given(payload=st.binary(max_size=200), kind=st.sampled_from(list(DeviceTopic)))
def test_nothing_that_arrives_breaks_the_roster(payload, kind):
    """Whatever bytes arrive on a device's topic, the roster goes on."""
    roster = heard(*ALL, (topics.device(FLEET, "pi-9", kind), payload))

    assert "pi-1" in [d.device for d in roster.devices()]


def test_filters_are_the_retained_topics():
    """A roster listens to births, presences and reported states of every device."""
    assert filters(FLEET) == tuple(f"edgepick/1/main/d/+/{kind}" for kind in ("birth", "presence", "reported"))


@given(events=st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=10))
def test_only_the_newest_session_ends_a_presence(events):
    """However presences are mixed up, an end counts only for the session that was last seen online."""
    known: Presence | None = None
    for session, online in events:
        before = known
        known = newer_presence(known, Presence(session=session, online=online))
        if before is not None and before.online and not online and session < before.session:
            assert known == before

    if events and events[-1][1]:
        assert is_online(None, known)
