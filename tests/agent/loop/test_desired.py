"""Which desired states and root documents are followed, and what is said about the others."""

from dataclasses import replace
from typing import Any

import pytest

from edgepick_agent.core.state import decode_state
from edgepick_wire import envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.limits import MAX_PAYLOAD_BYTES
from edgepick_wire.messages import Assignment, IncidentCode, Phase, TargetKind
from fakes.agent_bench import Bench
from fakes.host_stand_in import CAMPAIGN, RELEASE, STRANGER, bundle
from wire.wire_keys import role, root, sign, signed_root

ONE, TWO = bundle("1"), bundle("2")


@pytest.fixture
def bench() -> Bench:
    made = Bench().boot()
    made.host.publish(ONE)
    made.host.publish(TWO)
    made.host.sequence = 10
    made.host.want(ONE, rollout="r1")
    return made.run(15)


def assign(made: Any = TWO, **rest: Any) -> Assignment:
    return Assignment(model="digits", active=made.digest, **rest)


def refusals(bench: Bench) -> list[str]:
    return [i.detail.partition(":")[0] for i in bench.incidents if i.code is IncidentCode.DESIRED_REFUSED]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": STRANGER}, "bad-signature"),
        ({"key": RELEASE}, "bad-signature"),
        ({"sequence": 3}, "older-sequence"),
        ({"fleet": "other"}, "wrong-fleet"),
        ({"target": "pi-2"}, "wrong-device"),
        ({"target_kind": TargetKind.PROFILE, "target": "generic-linux"}, "wrong-device"),
    ],
)
def test_a_desired_state_that_is_not_for_this_device_is_refused_with_its_code(bench, changes, code):
    """A forged, replayed or misaddressed document changes nothing and is reported once, however often it comes."""
    before = bench.reported
    raw = bench.host.desired(assign(), **changes)

    for _ in range(3):
        bench.broker.publish(bench.host.topic(), raw)
        bench.run(40, step=5.0)

    assert refusals(bench) == [code]
    assert bench.reported == before
    assert bench.launcher.alive() == ["1"]


def test_a_document_on_the_profiles_topic_must_name_the_profile(bench):
    """A device's document copied to its profile's topic is refused as for the wrong profile."""
    bench.broker.publish(bench.host.topic(TargetKind.PROFILE), bench.host.desired(assign()))

    bench.run(3)

    assert refusals(bench) == ["wrong-profile"]


@pytest.mark.parametrize("rubbish", [b"hello", b"{}\n{}", b"\xff" * 100, b'{"signatures":[],"type":"manifest"}\nx'])
def test_rubbish_on_the_desired_topic_is_refused(bench, rubbish):
    """Whatever bytes arrive, the agent says no and goes on."""
    bench.broker.publish(bench.host.topic(), rubbish)

    bench.run(3)

    assert len(refusals(bench)) == 1
    assert bench.launcher.alive() == ["1"]


def test_an_oversized_message_is_dropped_with_an_incident(bench):
    """More than a payload may hold is never parsed; the agent says how much came."""
    bench.broker.publish(bench.host.topic(), b"x" * (MAX_PAYLOAD_BYTES + 1))

    bench.run(3)

    assert refusals(bench) == ["malformed"]
    assert str(MAX_PAYLOAD_BYTES) in bench.incidents[-1].detail
    assert bench.launcher.alive() == ["1"]


def test_the_same_document_again_is_no_news(bench):
    """The broker repeats retained messages at every connection; nothing is reported or done twice."""
    before = (len(bench.reports), len(bench.launcher.started))

    for _ in range(3):
        bench.transport.disconnect()
        bench.transport.connect()
        bench.run(5)

    assert (len(bench.reports), len(bench.launcher.started)) == before


def test_a_replay_after_a_restart_is_refused(bench):
    """The sequence survives the process: an old genuine document is refused by the next session too."""
    old = bench.host.desired(assign(), sequence=5)
    bench.cut_power()
    bench.broker.publish(bench.host.topic(), old)

    bench.boot().run(10)

    assert refusals(bench) == ["older-sequence"]
    assert bench.model().active == ONE.digest


def test_another_document_with_the_same_sequence_is_refused(bench):
    """A sequence number is used once; a second document under it is a replay of some kind."""
    bench.broker.publish(bench.host.topic(), bench.host.desired(assign(), sequence=11))

    bench.run(5)

    assert refusals(bench) == ["older-sequence"]


def test_of_two_addresses_the_higher_sequence_holds(bench):
    """A newer document for the profile overrules the device's, and a newer one for the device that again."""
    profile = {"target_kind": TargetKind.PROFILE, "target": "generic-linux"}
    bench.broker.publish(bench.host.topic(TargetKind.PROFILE), bench.host.desired(assign(TWO), **profile))
    bench.run(15)
    by_profile = bench.model().active
    bench.host.want(ONE, rollout="r9")
    bench.run(15)

    assert by_profile == TWO.digest
    assert bench.model().active == ONE.digest
    assert bench.reported.sequence == 13


def test_an_older_profile_document_does_nothing_until_the_newer_device_document_is_there(bench):
    """After a restart the order of arrival decides nothing: the lower sequence is not acted on for a moment."""
    profile = {"target_kind": TargetKind.PROFILE, "target": "generic-linux", "sequence": 4}
    bench.broker.publish(bench.host.topic(TargetKind.PROFILE), bench.host.desired(assign(TWO), **profile))
    held = bench.broker.retained.pop(bench.host.topic())
    bench.cut_power()
    bench.boot().run(10)
    alone = bench.model().wanted

    bench.broker.publish(bench.host.topic(), held)
    bench.run(10)

    assert alone is None
    assert [p.spec.version for p in bench.launcher.started if p.spec.version == "2"] == []
    assert bench.model().wanted == ONE.digest


def test_an_empty_desired_topic_changes_nothing(bench):
    """Clearing the retained message takes nothing away from the device."""
    bench.broker.publish(bench.host.topic(), b"")

    bench.run(5)

    assert bench.model().phase is Phase.CONFIRMED
    assert refusals(bench) == []


def new_root(*signers: int, version: int = 2) -> bytes:
    document = replace(root(version), campaign=role(STRANGER))
    return envelope.pack(signed_root(document, *signers))


def test_a_newer_root_document_is_followed_and_remembered(bench):
    """Once the root role signs a new campaign key, its documents hold and the old key's do not, restarts included."""
    bench.broker.publish(topics.root("demo"), new_root(0))
    bench.broker.publish(bench.host.topic(), bench.host.desired(assign(), key=STRANGER))
    bench.run(15)
    bench.cut_power()
    bench.boot().run(10)
    bench.broker.publish(bench.host.topic(), bench.host.desired(assign(ONE), key=CAMPAIGN))
    bench.run(10)

    state = decode_state(bench.storage.read("state.json"))
    assert state.root is not None
    assert state.root.version == 2
    assert bench.model().active == TWO.digest
    assert refusals(bench)[-1] == "bad-signature"


@pytest.mark.parametrize("raw", [new_root(STRANGER), b"rubbish"])
def test_a_root_document_that_breaks_the_chain_is_refused(bench, raw):
    """Signed by strangers, or no document at all: the trusted keys stay."""
    bench.broker.publish(topics.root("demo"), raw)

    bench.run(5)

    assert len(refusals(bench)) == 1
    assert decode_state(bench.storage.read("state.json")).root is None


def test_the_current_root_document_is_no_news(bench):
    """The retained root document that the device already has is passed over in silence."""
    bench.broker.publish(topics.root("demo"), envelope.pack(signed_root(root(), 0)))

    bench.run(5)

    assert refusals(bench) == []


def test_a_root_document_of_another_fleet_is_refused(bench):
    """A root document signed by its own keys for another fleet is not ours."""
    document = root(2, fleet="other")
    raw = envelope.pack(sign(DocumentType.ROOT, __import__("edgepick_wire.codec").codec.encode(document), [0]))
    bench.broker.publish(topics.root("demo"), raw)

    bench.run(5)

    assert refusals(bench) == ["bad-signature"]
