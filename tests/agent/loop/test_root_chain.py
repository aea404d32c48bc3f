"""How a device follows its fleet's root documents, one by one, however long it was away."""

from dataclasses import replace

import pytest

from edgepick_agent.core.control import Command, ControlReply
from edgepick_agent.core.state import decode_state
from edgepick_wire import envelope, topics
from edgepick_wire.messages import Assignment, IncidentCode, Outcome, Phase, RefusalCode
from edgepick_wire.trust import RootDocument
from fakes.agent_bench import Bench
from fakes.host_stand_in import CAMPAIGN, RELEASE, STRANGER, bundle
from wire.wire_keys import role, root, signed_root

ONE, TWO = bundle("1"), bundle("2")
HIGH = 2**40


@pytest.fixture
def bench() -> Bench:
    made = Bench().boot()
    made.host.publish(ONE)
    made.host.publish(TWO)
    made.host.want(ONE)
    return made.run(15)


def chain() -> list[bytes]:
    """Return versions 2 to 4: a new campaign key, then other root keys (2 of 3), then the release key is replaced."""
    second = replace(root(2), campaign=role(STRANGER))
    third = replace(second, version=3, root=role(0, 1, 2, threshold=2))
    fourth = replace(third, version=4, root=role(1, 2), release=role(0))
    return [
        envelope.pack(signed_root(second, 0)),
        envelope.pack(signed_root(third, 0, 1)),
        envelope.pack(signed_root(fourth, 1, 2)),
    ]


def publish(bench: Bench, documents: list[bytes]) -> None:
    """Publish as a host does: every version on its topic, then the newest on the fleet's."""
    for version, raw in enumerate(documents, start=2):
        bench.broker.publish(topics.root_version("demo", version), raw)
    bench.broker.publish(topics.root("demo"), documents[-1])


def trusted(bench: Bench) -> RootDocument | None:
    return decode_state(bench.storage.read("state.json")).root


def refused(bench: Bench) -> list[str]:
    return [i.detail for i in bench.incidents if i.code is IncidentCode.DESIRED_REFUSED]


def test_a_device_that_was_away_for_three_rotations_follows_them(bench):
    """Each version leads to the next; the newest keys' documents hold, and nothing was refused on the way."""
    bench.transport.disconnect()
    publish(bench, chain())
    bench.broker.publish(bench.host.topic(), bench.host.desired(Assignment(model="digits", active=ONE.digest), key=3))
    bench.transport.connect()

    bench.run(15)

    found = trusted(bench)
    assert found is not None
    assert (found.version, found.release) == (4, role(0))
    assert refused(bench) == []
    assert bench.reported.sequence == bench.host.sequence
    assert bench.model().phase is Phase.CONFIRMED


def test_the_way_is_remembered_wherever_the_power_fails(bench):
    """Every step is on disk before the next is asked for: the way goes on from there after a power cut."""
    links = chain()
    for version, raw in enumerate(links, start=2):
        bench.broker.publish(topics.root_version("demo", version), raw)
        bench.run(2)
        bench.cut_power()
        bench.boot().run(3)

        found = trusted(bench)
        assert found is not None
        assert found.version == version


def test_a_root_document_ahead_waits_for_those_before_it(bench):
    """The newest alone is not followed; as soon as the missing ones are there, it is."""
    links = chain()
    bench.broker.publish(topics.root("demo"), links[-1])
    bench.run(4)
    alone = trusted(bench)

    publish(bench, links)
    bench.run(4)

    found = trusted(bench)
    assert alone is None
    assert found is not None
    assert found.version == 4
    assert refused(bench) == []


def test_a_chain_with_a_hole_is_refused_once_and_mended_later(bench):
    """Where a version is missing the device says which, keeps its keys and goes on; published, it is followed."""
    links = chain()
    bench.broker.publish(topics.root("demo"), links[-1])
    bench.run(60)
    said, before = refused(bench), trusted(bench)
    bench.transport.disconnect()
    bench.transport.connect()
    bench.run(60)
    repeated = refused(bench)

    publish(bench, links)
    bench.run(5)

    found = trusted(bench)
    assert (len(said), before) == (1, None)
    assert "version 4 is out, version 2 that leads to it is not" in said[0]
    assert repeated == said
    assert found is not None
    assert found.version == 4


@pytest.mark.parametrize(
    "raw",
    [
        envelope.pack(signed_root(replace(root(HIGH), root=role(STRANGER)), STRANGER)),
        envelope.pack(signed_root(replace(root(HIGH), campaign=role(STRANGER)), 0)),
    ],
    ids=["by-a-stranger", "by-the-root-key"],
)
def test_a_fast_forward_is_refused_and_blocks_nothing(bench, raw):
    """A version far ahead, whoever signed it, is refused; the true next one is followed all the same."""
    bench.broker.publish(topics.root("demo"), raw)
    bench.run(60)
    said, before = refused(bench), trusted(bench)

    bench.broker.publish(topics.root_version("demo", 2), chain()[0])
    bench.run(5)

    found = trusted(bench)
    assert (len(said), before) == (1, None)
    assert found is not None
    assert found.version == 2


@pytest.mark.parametrize(
    "raw",
    [
        envelope.pack(signed_root(root(2), STRANGER)),
        envelope.pack(signed_root(replace(root(2), root=role(STRANGER)), STRANGER)),
        envelope.pack(signed_root(replace(root(2), root=role(0, 1, threshold=2)), 0)),
        envelope.pack(signed_root(root(2, fleet="other"), 0)),
        b"rubbish",
    ],
    ids=["stranger", "only-its-own", "too-few-new", "other-fleet", "rubbish"],
)
def test_a_bad_link_is_refused(bench, raw):
    """A next version that both root roles have not signed for this fleet changes no key, and is reported once."""
    for _ in range(3):
        bench.broker.publish(topics.root_version("demo", 2), raw)
        bench.run(20)

    assert trusted(bench) is None
    assert len(refused(bench)) == 1
    assert bench.launcher.alive() == ["1"]


def test_a_lower_version_is_ignored(bench):
    """After the chain was followed, an old root document brings no old key back, and is not even worth a word."""
    links = chain()
    publish(bench, links)
    bench.run(5)

    for old in (envelope.pack(signed_root(root(), 0)), links[0], links[1]):
        bench.broker.publish(topics.root("demo"), old)
        bench.broker.publish(topics.root_version("demo", 5), old)
        bench.run(15)

    found = trusted(bench)
    assert found is not None
    assert found.version == 4
    assert refused(bench) == []


def test_a_revoked_release_key_installs_nothing_new_but_what_runs_runs_on(bench):
    """A manifest by the revoked key is refused for its signature, restarts included; the installed variant serves."""
    publish(bench, chain())
    bench.broker.publish(bench.host.topic(), bench.host.desired(Assignment(model="digits", active=TWO.digest), key=3))
    bench.run(20)
    bench.cut_power()
    bench.boot().run(10)

    refusal = bench.model().refusal
    assert refusal is not None
    assert refusal.code == "bad-signature"
    assert bench.model().active == ONE.digest
    assert bench.launcher.alive() == ["1"]
    assert all(outcome.outcome is not Outcome.CONFIRMED for outcome in bench.outcomes[1:])


def test_the_same_manifest_signed_again_installs(bench):
    """The digest is of the payload: signed by the new key under the same name, it is what was asked for."""
    publish(bench, chain())
    again = bundle("2", key=0)
    bench.host.publish(again)
    bench.broker.publish(bench.host.topic(), bench.host.desired(Assignment(model="digits", active=TWO.digest), key=3))

    bench.run(20)

    assert again.digest == TWO.digest
    assert bench.model().active == TWO.digest


def test_a_stolen_campaign_keys_highest_sequence_is_forgotten_with_the_key(bench):
    """A thief's sequence beyond all reach does not lock the host out once the key is replaced; nor is he obeyed."""
    theft = bench.host.desired(Assignment(model="digits", active=TWO.digest), sequence=HIGH)
    bench.broker.publish(bench.host.topic(), theft)
    bench.run(15)
    stolen = bench.model().active

    publish(bench, chain()[:1])
    bench.broker.publish(bench.host.topic(), bench.host.desired(Assignment(model="digits", active=ONE.digest), key=3))
    bench.run(15)
    recovered = bench.model().active
    bench.broker.publish(bench.host.topic(), theft)
    bench.run(15)
    repeated = refused(bench)
    again = bench.host.desired(Assignment(model="digits", active=TWO.digest), sequence=HIGH + 1)
    bench.broker.publish(bench.host.topic(), again)
    bench.run(15)

    assert (stolen, recovered) == (TWO.digest, ONE.digest)
    assert bench.model().active == ONE.digest
    assert repeated == []
    assert refused(bench)[0].startswith("bad-signature")


def test_a_campaign_key_that_still_counts_keeps_its_sequence(bench):
    """As long as old documents verify, a new root document makes no replay possible."""
    old = bench.host.desired(Assignment(model="digits", active=TWO.digest), sequence=1)
    bench.host.want(ONE)
    bench.run(5)
    both = replace(root(2), campaign=role(CAMPAIGN, STRANGER))
    publish(bench, [envelope.pack(signed_root(both, 0))])
    bench.run(5)

    bench.broker.publish(bench.host.topic(), old)
    bench.run(15)

    assert bench.model().active == ONE.digest
    assert refused(bench)[-1].startswith("older-sequence")


def test_an_older_version_of_the_same_epoch_is_a_rollback_that_is_obeyed(bench):
    """Versions may go down on purpose: only the security epoch may not."""
    bench.host.want(TWO)
    bench.run(15)
    newer = bench.model().active
    bench.host.want(ONE)
    bench.run(15)

    assert (newer, bench.model().active) == (TWO.digest, ONE.digest)
    assert ONE.content.version < TWO.content.version


def test_a_confirmed_epoch_is_never_left_downwards(bench):
    """After a variant of a higher epoch was confirmed, one of a lower is refused, whatever its version."""
    withdrawing, newest = bundle("0", security_epoch=2), bundle("9", security_epoch=1, key=RELEASE)
    bench.host.publish(withdrawing)
    bench.host.publish(newest)
    bench.host.want(withdrawing)
    bench.run(15)
    raised = bench.model().active

    bench.host.want(newest)
    bench.run(15)

    refusal = bench.model().refusal
    assert raised == withdrawing.digest == bench.model().active
    assert refusal is not None
    assert refusal.code == "lower-epoch"


STICK = "/media/usb/digits.edgepick"


def from_a_stick(roots: list[bytes]) -> tuple[Bench, ControlReply]:
    """Return a device without a network to which a bundle came that the newest release key signed."""
    bench = Bench()
    bench.reader.files_at[STICK] = bundle("2", key=0)
    bench.reader.roots_at[STICK] = tuple(roots)
    bench.boot(online=False).run(5)
    return bench, bench.ask(Command.INSTALL, path=STICK)


def test_a_bundle_brings_the_keys_that_signed_it():
    """A device that was away for three rotations follows them from the stick, and keeps what it has followed."""
    bench, reply = from_a_stick(chain())

    assert reply.ok, reply
    assert trusted(bench).version == 4
    assert bench.launcher.alive() == ["2"]


@pytest.mark.parametrize("present", [[], [1, 2], [0, 2], [2, 1, 0]], ids=["none", "no first", "a gap", "backwards"])
def test_a_bundle_whose_chain_does_not_lead_to_its_key_is_refused(present):
    """Only versions that follow one another from the device's own count; what they do not vouch for is refused."""
    documents = chain()

    bench, reply = from_a_stick([documents[i] for i in present])

    assert not reply.ok
    assert reply.refusal is not None
    assert reply.refusal.code is RefusalCode.BAD_SIGNATURE
    assert (trusted(bench) or root()).version == (2 if 0 in present else 1)


def test_a_strangers_root_document_on_a_stick_is_passed_over():
    """A next version that the present root keys did not sign changes nothing, and does not stop a good bundle."""
    forged = envelope.pack(signed_root(replace(root(2), release=role(STRANGER)), STRANGER))
    bench = Bench()
    bench.reader.files_at[STICK] = TWO
    bench.reader.roots_at[STICK] = (forged,)
    bench.boot(online=False).run(5)

    reply = bench.ask(Command.INSTALL, path=STICK)

    assert reply.ok
    assert trusted(bench) is None
