"""What a device makes of another root document in its configuration: a person's word, or one that it knows."""

import json
from dataclasses import replace

import pytest

from edgepick_agent.core import places
from edgepick_agent.core.assignments import Configured, configured
from edgepick_agent.core.control import Command
from edgepick_agent.core.state import ROOTS_KEPT, AgentState, decode_state
from edgepick_wire import envelope, topics
from edgepick_wire.messages import Assignment, IncidentCode, Phase
from edgepick_wire.trust import RootDocument
from fakes.agent_bench import SETTINGS, Bench
from fakes.host_stand_in import CAMPAIGN, STRANGER, HostStandIn, bundle
from fakes.transport import FakeBroker
from wire.wire_keys import check, role, root, signed_root

ONE = bundle("1", security_epoch=3)
FRESH = replace(root(), root=role(1), release=role(STRANGER), campaign=role(2))
FRESH_CAMPAIGN = 2
SECOND = replace(root(2), release=role(4, STRANGER))
THIRD = replace(SECOND, version=3, campaign=role(STRANGER))


def signed(document: RootDocument, *keys: int) -> bytes:
    return envelope.pack(signed_root(document, *keys))


def given(document: RootDocument, *keys: int) -> Configured:
    return configured(signed(document, *keys), check)


def state(bench: Bench) -> AgentState:
    return decode_state(bench.storage.read(places.STATE))


def refused(bench: Bench) -> list[str]:
    return [i.detail for i in bench.incidents if i.code is IncidentCode.DESIRED_REFUSED]


@pytest.fixture
def bench() -> Bench:
    """Provide a device of fleet ``demo`` that has followed version 2, and the fifth order."""
    made = Bench().boot()
    made.host.publish(ONE)
    made.host.sequence = 4
    made.host.want(ONE)
    made.broker.publish(topics.root_version("demo", 2), signed(SECOND, 0))
    return made.run(15)


def moved(bench: Bench, document: Configured, fleet: str = "demo") -> Bench:
    """Return the device with this root document, restarted at the empty broker of a host that begins to count."""
    bench.cut_power()
    bench.broker = FakeBroker()
    bench.host = HostStandIn(bench.broker, fleet=fleet)
    bench.root, bench.settings = document, replace(SETTINGS, fleet=fleet)
    return bench


def test_a_fleet_that_lost_its_root_keys_reaches_its_devices_again(bench):
    """With the new root document its keys count at once, from their first order on, whatever was followed before."""
    moved(bench, given(FRESH, 1)).boot()
    new = bench.host.publish(bundle("2", key=STRANGER, security_epoch=3))
    bench.broker.publish(
        bench.host.topic(), bench.host.desired(Assignment(model="digits", active=new.digest), key=FRESH_CAMPAIGN)
    )
    bench.run(15)
    bench.cut_power()
    bench.boot().run(15)

    assert bench.host.sequence == 1
    assert bench.model().active == new.digest
    assert (state(bench).root, state(bench).security_epoch) == (None, 3)
    assert refused(bench) == []
    assert len([line for line in bench.log if "trust begins anew with its version 1, of fleet 'demo'" in line]) == 1


def test_what_the_lost_keys_signed_no_longer_counts(bench):
    """An order of the old keys is refused once a person has put the new document there."""
    moved(bench, given(FRESH, 1)).boot()

    bench.broker.publish(
        bench.host.topic(), bench.host.desired(Assignment(model="digits", active=ONE.digest), sequence=9)
    )
    bench.run(5)

    assert [text.partition(":")[0] for text in refused(bench)] == ["bad-signature"]


def test_a_device_of_another_fleet_begins_to_count_anew(bench):
    """In its new fleet it follows the first order, and variants of a lower epoch; what it had serves until then."""
    moved(bench, given(root(fleet="plant"), 0), "plant").boot().run(5)
    before = bench.launcher.alive()
    new = bench.host.publish(bundle("2", fleet="plant", security_epoch=1))
    bench.host.want(new)
    bench.run(15)

    assert before == ["1"]
    assert bench.model().phase is Phase.CONFIRMED
    assert bench.model().active == new.digest
    assert state(bench).security_epoch == 1
    assert state(bench).lineage.fleet == "plant"


def test_a_variant_that_another_fleet_left_here_raises_no_epoch(bench):
    """Gone back to by hand it serves and is confirmed; the new fleet's variants are no less welcome for it."""
    moved(bench, given(root(fleet="plant"), 0), "plant").boot()
    bench.host.want(bench.host.publish(bundle("2", fleet="plant", security_epoch=1)))
    bench.run(15)

    back = bench.ask(Command.ROLLBACK, model="digits")
    bench.run(15)

    record = state(bench).model("digits")
    assert back.ok
    assert (record.current.manifest, record.confirmed) == (ONE.digest, True)
    assert bench.launcher.alive() == ["1"]
    assert state(bench).security_epoch == 1


@pytest.mark.parametrize("document", [given(root(), 0), given(SECOND, 0), given(THIRD, 0)], ids=["1", "2", "3"])
def test_a_document_that_trust_came_by_changes_nothing(bench, document):
    """Whichever version of its own chain is copied to the device, before or after it was followed."""
    bench.broker.publish(topics.root_version("demo", 3), signed(THIRD, 0))
    bench.run(5)
    before = state(bench)
    bench.cut_power()
    bench.root = document

    bench.boot().run(15)

    after = state(bench)
    assert before.root == THIRD
    assert (after.root, after.lineage, after.security_epoch) == (before.root, before.lineage, 3)
    assert not any("anew" in line for line in bench.log)


def test_a_newer_document_that_the_old_hosts_still_sign_by_makes_no_replay_possible(bench):
    """A version that was copied here ahead of the chain counts at once; an older order of its keys stays old."""
    old = bench.host.desired(Assignment(model="digits", active=ONE.digest), sequence=2)
    moved(bench, given(replace(root(7), campaign=role(CAMPAIGN, STRANGER)), 0)).boot()

    bench.broker.publish(bench.host.topic(), old)
    bench.run(15)

    assert [text.partition(":")[0] for text in refused(bench)] == ["older-sequence"]
    assert state(bench).seen["device"].sequence == 5


@pytest.mark.parametrize("followed", [False, True], ids=["born", "followed"])
def test_a_state_from_before_the_chain_was_noted_is_read_as_unchanged(bench, followed):
    """An older agent's state keeps what it followed and has seen; from then on another document is noticed."""
    document = json.loads(bench.storage.read(places.STATE))
    del document["lineage"]
    if not followed:
        document["root"] = None
    bench.cut_power()
    bench.storage.write(places.STATE, json.dumps(document).encode())
    bench.boot(online=False).run(5)
    kept = state(bench)
    moved(bench, given(FRESH, 1)).boot().run(5)

    assert kept.root == (SECOND if followed else None)
    assert kept.sequence == 5
    assert kept.lineage is not None
    assert (state(bench).root, state(bench).sequence) == (None, 0)


def test_a_state_from_before_the_chain_was_noted_knows_another_fleet(bench):
    """Who followed a root document before is known to come from that one's fleet."""
    document = json.loads(bench.storage.read(places.STATE))
    del document["lineage"]
    bench.cut_power()
    bench.storage.write(places.STATE, json.dumps(document).encode())

    moved(bench, given(root(fleet="plant"), 0), "plant").boot()

    assert (state(bench).root, state(bench).sequence, state(bench).security_epoch) == (None, 0, 0)


def test_the_chain_that_is_remembered_is_bounded(bench):
    """However often keys change, the state grows no further, and the newest documents are known again."""
    for version in range(3, ROOTS_KEPT + 10):
        newest = replace(SECOND, version=version)
        bench.broker.publish(topics.root_version("demo", version), signed(newest, 0))
        bench.run(0.5)

    found = state(bench)
    assert found.root == newest
    assert len(found.lineage.digests) == ROOTS_KEPT
    assert found.lineage.digests[-1] == given(newest, 0).digest
