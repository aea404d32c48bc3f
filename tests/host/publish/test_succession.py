"""What a broker is given after the keys changed: the chain, and everything that is wanted signed again."""

import shutil

import pytest

from edgepick_host import app
from edgepick_host.adapters.store_sql import SqlStore
from edgepick_host.app.trust import succession_of
from edgepick_host.errors import StateError, UnreachableError, VerificationError
from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.errors import SignatureError
from edgepick_wire.manifest import manifest_digest
from edgepick_wire.messages import Desired
from edgepick_wire.trust import first_root, next_root
from fakes.host_broker import MemoryBroker
from fakes.host_site import FLEET
from host.publish.test_publisher import Press


@pytest.fixture
def press(site, variants) -> Press:
    made = Press(site)
    made.publish(made.prepare(variants))
    return made


def verified(press: Press) -> dict[str, bytes]:
    """Return the payload of every signed document that the broker retains, by topic, each signed by who may now."""
    document, _ = app.read_root(press.site.settings())
    roles = {"m": (DocumentType.MANIFEST, document.release), "p": (DocumentType.DESIRED, document.campaign)}
    return {
        topic: envelope.verify(envelope.unpack(data), *roles[topic.split("/")[3]], app.verify_signature())
        for topic, data in press.broker.retains.items()
        if topic.split("/")[3] in roles
    }


def succession(press: Press):
    return succession_of(press.site.settings(), press.broker, press.store)


def rotate(edgepick, *roles: str) -> None:
    for role in roles:
        assert edgepick("keys", "rotate", role).code == 0


def test_everything_wanted_is_signed_again_under_its_name(press, edgepick):
    """After both keys changed, manifests and desired states verify again, with the very payloads they had."""
    before = verified(press)
    rotate(edgepick, "release", "campaign")
    with pytest.raises(SignatureError):
        verified(press)

    done = succession(press).renew()

    after = verified(press)
    manifests = {topic.rpartition("/")[2] for topic in after if topic.split("/")[3] == "m"}
    assert after == before
    assert (set(done.manifests), done.desired, done.waiting) == (manifests, len(after) - len(manifests), ())
    assert all(manifest_digest(after[topics.manifest(FLEET, digest)]) == digest for digest in manifests)
    assert all(press.store.manifest(d) == press.broker.retains[topics.manifest(FLEET, d)] for d in manifests)
    assert all(codec.decode(Desired, p).sequence for t, p in after.items() if t.endswith("desired"))


def test_the_chain_leads_from_the_first_version_to_the_newest(press, edgepick):
    """Every version from 2 on lies under its number, the newest on the fleet's topic too, written after all else."""
    first = first_root(envelope.unpack(press.broker.retains[topics.root(FLEET)]), app.verify_signature())
    rotate(edgepick, "release", "root", "campaign")
    press.broker.published.clear()

    done = succession(press).renew()

    trusted = first
    for version in (2, 3, 4):
        link = envelope.unpack(press.broker.retains[topics.root_version(FLEET, version)])
        trusted = next_root(trusted, link, app.verify_signature())
    order = [topic for topic, _ in press.broker.published]
    assert done.chain == (2, 3, 4)
    assert order[:3] == [topics.root_version(FLEET, version) for version in (2, 3, 4)]
    assert order[-1] == topics.root(FLEET)
    assert press.broker.retains[order[-1]] == press.broker.retains[topics.root_version(FLEET, 4)]


def test_publishing_does_it_by_itself_and_once(press, edgepick, variants):
    """The first publication after a rotation signs everything again; the next changes nothing."""
    rotate(edgepick, "release", "campaign")

    done = press.publish(press.prepare(variants))
    first = dict(press.broker.retains)
    verified(press)
    press.publish(press.prepare(variants))

    assert done.bytes_sent == 0
    assert press.broker.retains == first


def test_what_was_interrupted_is_done_again(press, edgepick):
    """Wherever the broker goes away, the newest root document is not on the fleet's topic before all the rest is."""
    rotate(edgepick, "release", "campaign")
    whole = 2 + len(verified_topics(press)) + 1
    for lives in range(1, whole):
        press.broker.lives_for = lives
        with pytest.raises(UnreachableError):
            succession(press).renew()
        press.broker.lives_for = None
        assert succession(press).check() == 1

    succession(press).renew()

    assert succession(press).check() == 3
    verified(press)


def verified_topics(press: Press) -> list[str]:
    return [topic for topic in press.broker.retains if topic.split("/")[3] in {"m", "p"}]


def test_without_the_release_key_manifests_wait(press, edgepick, tmp_path):
    """A host that only has the campaign key signs desired states, and names the manifests that wait."""
    rotate(edgepick, "release")
    (press.site.keys / "release.pem").rename(tmp_path / "release.pem")

    partly = succession(press).renew()
    (tmp_path / "release.pem").rename(press.site.keys / "release.pem")
    wholly = succession(press).renew()

    assert (partly.manifests, bool(partly.desired)) == ((), True)
    assert partly.waiting == wholly.manifests != ()
    verified(press)


def test_a_broker_with_other_or_newer_root_documents_is_left_alone(press, edgepick, tmp_path):
    """Another fleet's root document of a lower version, and a newer one of ours, are never overwritten."""
    rotate(edgepick, "release")
    topic = topics.root(FLEET)
    shutil.copytree(press.site.keys, tmp_path / "old")
    (tmp_path / "old" / "root.signed").write_bytes((tmp_path / "old" / "root-1.signed").read_bytes())
    edgepick("keys", "init", "--dir", tmp_path / "other")
    stranger = (tmp_path / "other" / "root.signed").read_bytes()

    press.broker.retains[topic] = stranger
    with pytest.raises(VerificationError, match="another root document"):
        succession(press).check()
    press.broker.retains[topic] = (press.site.keys / "root.signed").read_bytes()
    with pytest.raises(StateError, match="serves root document version 2; this host has version 1"):
        succession_of(press.site.settings(keys=str(tmp_path / "old")), press.broker, press.store).check()

    assert press.broker.retains[topic] != stranger


def test_the_same_document_with_more_signatures_is_the_same(press):
    """What counts is the payload: another holder's signature makes no other root document."""
    topic = topics.root(FLEET)
    document = envelope.unpack(press.broker.retains[topic])
    more = envelope.Signature(key_id="0" * 16, signature="00" * 64)
    press.broker.retains[topic] = envelope.pack(
        envelope.Envelope(type=document.type, payload=document.payload, signatures=(*document.signatures, more))
    )

    assert succession(press).check() == 1


def test_the_command_says_what_it_did(site, edgepick, variants, broker):
    """``keys publish`` gives a real broker the chain and counts what was signed again."""
    edgepick("publish", variants, "--broker", broker.url)
    rotate(edgepick, "release", "campaign")

    done = edgepick("keys", "publish", "--broker", broker.url, "--json").json()
    said = edgepick("keys", "publish", "--broker", broker.url)

    store = SqlStore(f"sqlite:///{site.folder / 'edgepick.db'}")
    assert (done["version"], done["chain"]) == (3, [2, 3])
    assert (len(done["manifests"]), done["desired"]) == (len(store.releases()), len(store.all_desired()))
    assert (said.code, "manifests       0 signed again" in said.out) == (0, True)
    store.close()


def test_an_empty_broker_gets_the_chain_with_the_first_publication(site, edgepick, variants):
    """A broker that lost its memory is given every version again, for devices that were away."""
    rotate(edgepick, "campaign")
    press = Press(site, broker=MemoryBroker())

    press.publish(press.prepare(variants))

    assert topics.root_version(FLEET, 2) in press.broker.retains
    verified(press)
