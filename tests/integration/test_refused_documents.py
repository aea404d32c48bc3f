"""What a device refuses, each with its own reason, while what ran before goes on serving."""

from dataclasses import replace

import pytest

from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import GoldenSpec
from edgepick_wire.messages import Assignment, Incident, IncidentCode, Outcome, Phase, RefusalCode, TargetKind
from integration.forger import Forger
from integration.whole_system import FLEET, MODEL, Device, Host, until


@pytest.fixture
def forger(serving):
    made = Forger(*serving)
    yield made
    made.close()


def refused(device: Device, manifest: str) -> RefusalCode | None:
    """Return why the device does not run ``manifest``, once it says so."""
    model = device.model()
    assert model is not None
    wanted = model.wanted == manifest and model.phase in {Phase.REFUSED, Phase.REVERTED}
    return model.refusal.code if wanted and model.refusal else None


def incident(host: Host, device: Device, words: str) -> Incident | None:
    """Return the incident in the host's store whose detail holds ``words``."""
    return next((i for i in host.incidents(device.name) if words in i.detail), None)


WRONG = {
    "another-device-class": (lambda m: replace(m, profiles=("coral-dev-board",)), RefusalCode.WRONG_PROFILE),
    "another-fleet": (lambda m: replace(m, fleet="elsewhere"), RefusalCode.WRONG_FLEET),
    "lower-epoch": (lambda m: replace(m, security_epoch=1), RefusalCode.LOWER_EPOCH),
    "unknown-feature": (lambda m: replace(m, requires=("golden", "teleport")), RefusalCode.UNKNOWN_REQUIREMENT),
    "newer-schema": (lambda m: replace(m, schema=99), RefusalCode.UNKNOWN_REQUIREMENT),
    "impossible-golden": (
        lambda m: replace(m, golden=GoldenSpec(file=m.golden.file, min_agreement=1.1, max_mean_abs_error=0.0)),
        RefusalCode.TRIAL_FAILED,
    ),
}


@pytest.mark.parametrize(("change", "code"), WRONG.values(), ids=WRONG)
def test_a_manifest_that_is_not_for_this_device_is_refused(serving, forger, change, code):
    """Properly signed, but for others, withdrawn, too new, or failing here: refused by name, reported, harmless."""
    host, device = serving
    before = device.active()

    manifest = forger.manifest(change(replace(forger.template(), version="forged")))
    forger.want(manifest)
    found = until(lambda: refused(device, manifest), "refused")
    ends = until(
        lambda: [r.install for r in host.reports(device.name) if r.install and r.install.manifest == manifest],
        "reported",
    )

    assert found is code
    assert [end.refusal.code for end in ends] == [code]
    assert ends[0].outcome is not Outcome.CONFIRMED
    assert ends[0].active == before == device.active()


@pytest.mark.parametrize("key", ["campaign", "stranger"])
def test_a_manifest_with_a_wrong_signature_is_refused(serving, forger, key):
    """Neither the fleet's other keys nor a stranger's bring a model onto a device."""
    _, device = serving
    before = device.active()

    manifest = forger.manifest(replace(forger.template(), version=f"by-{key}"), key=key)
    forger.want(manifest)
    found = until(lambda: refused(device, manifest), "refused")

    assert found is RefusalCode.BAD_SIGNATURE
    assert device.active() == before


def test_a_manifest_that_was_changed_after_signing_is_refused(serving, forger):
    """A single bit of the payload makes the signature worthless."""
    _, device = serving
    before = device.active()
    signed = forger.signed(DocumentType.MANIFEST, codec.encode(replace(forger.template(), version="bit")), "release")
    flipped = signed.payload.replace(b'"bit"', b'"bot"')

    manifest = digest_of(flipped)
    forger.put(topics.manifest(FLEET, manifest), envelope.pack(replace(signed, payload=flipped)))
    forger.want(manifest)
    found = until(lambda: refused(device, manifest), "refused")

    assert found is RefusalCode.BAD_SIGNATURE
    assert device.active() == before


@pytest.mark.parametrize(
    ("payload", "code"), [(b"{}", RefusalCode.MALFORMED), (b"\xff\x00 no JSON", RefusalCode.MALFORMED)]
)
def test_a_signed_manifest_that_is_none_is_refused(serving, forger, payload, code):
    """The release key's signature does not make a manifest of anything."""
    _, device = serving
    before = device.active()

    manifest = forger.manifest_bytes(payload)
    forger.want(manifest)
    found = until(lambda: refused(device, manifest), "refused")

    assert found is code
    assert device.active() == before


def test_a_manifest_under_another_name_is_refused(serving, forger):
    """A valid manifest retained under the digest of another one is not installed in its place."""
    _, device = serving
    before = device.active()
    wanted = digest_of(b"what the operator meant")

    forger.manifest_bytes(codec.encode(replace(forger.template(), version="swapped")), name=wanted)
    forger.want(wanted)
    found = until(lambda: refused(device, wanted), "refused")

    assert found is RefusalCode.DIGEST_MISMATCH
    assert device.active() == before


def test_an_order_of_an_older_sequence_is_refused(serving, forger):
    """A replayed desired state is reported and not followed, even though its signature is valid."""
    host, device = serving
    old = forger.desired(digest_of(b"long ago"))
    newest = forger.desired(device.active())
    forger.tell(newest)
    until(lambda: device.status().sequence == newest.sequence, "the newest is followed")

    forger.tell(old)
    said = until(lambda: incident(host, device, f"sequence {old.sequence};"), "reported")

    assert said.code is IncidentCode.DESIRED_REFUSED
    assert said.detail.startswith(RefusalCode.OLDER_SEQUENCE)
    assert device.status().sequence == newest.sequence


ORDERS = {
    "release-key": ({}, "release", RefusalCode.BAD_SIGNATURE),
    "stranger": ({}, "stranger", RefusalCode.BAD_SIGNATURE),
    "another-fleet": ({"fleet": "elsewhere"}, "campaign", RefusalCode.WRONG_FLEET),
    "another-device": ({"target": "pi-99"}, "campaign", RefusalCode.WRONG_DEVICE),
    "a-profile": ({"target_kind": TargetKind.PROFILE}, "campaign", RefusalCode.WRONG_DEVICE),
}


@pytest.mark.parametrize(("changes", "key", "code"), ORDERS.values(), ids=ORDERS)
def test_an_order_that_is_not_for_this_device_is_refused(serving, forger, changes, key, code):
    """An order by the wrong key or to another address is reported once and not followed."""
    host, device = serving
    before = device.status().sequence
    known = len(host.incidents(device.name))

    document = forger.desired(digest_of(b"somebody else's"), **changes)
    forger.tell(document, key=key)
    said = until(lambda: host.incidents(device.name)[known:], "reported")

    assert [(i.code, i.detail.partition(":")[0]) for i in said] == [(IncidentCode.DESIRED_REFUSED, code)]
    assert device.status().sequence == before


def test_an_oversized_order_is_refused(serving, forger):
    """256 KiB on the device's topic are not even looked at, and the next order is followed as ever."""
    host, device = serving

    forger.tell_bytes(b"x" * 256 * 1024)
    said = until(lambda: incident(host, device, "262144 bytes"), "reported")
    following = forger.want(device.active())
    until(lambda: device.status().sequence == following, "the next order is followed")

    assert said.code is IncidentCode.DESIRED_REFUSED


def test_a_chunk_with_a_flipped_bit_is_fetched_again(serving, forger, variants):
    """A spoiled chunk is never written: the device says so, asks again, and completes with the right bytes."""
    host, device = serving
    made = host.publish(
        variants, "--version", "spoiled", "--epoch", "2", "--no-measure", "--activate", "none", "--plain", "--all"
    )
    manifest = next(v["manifest"] for v in made["variants"] if v["variant"] == "float32-tflite")
    chunk = (variants / "float32-tflite" / "model.tflite").read_bytes()[65536 : 2 * 65536]
    topic = topics.chunk(FLEET, digest_of(chunk))
    before = device.active()

    forger.put(topic, bytes([chunk[0] ^ 1]) + chunk[1:])
    forger.want(manifest)
    said = until(lambda: incident(host, device, digest_of(chunk)[:12]), "reported")
    meanwhile = device.active()
    forger.put(topic, chunk)
    until(lambda: device.confirmed(manifest), "confirmed")

    assert said.code is IncidentCode.CHUNK_CORRUPT
    assert meanwhile == before
    assert device.stored(manifest).read_bytes() == (variants / "float32-tflite" / "model.tflite").read_bytes()


def test_a_model_that_nobody_published_is_waited_for(serving, forger):
    """An order for a manifest that is nowhere disturbs nothing, and the next order is followed."""
    _, device = serving
    before = device.active()

    forger.want(digest_of(b"never published"))
    until(lambda: (m := device.model()) and m.phase is Phase.FETCHING, "it is waited for")
    share = device.answers()
    following = forger.want(before)
    until(lambda: device.status().sequence == following, "the next order is followed")

    assert share >= 0.75
    assert device.active() == before


def test_an_order_that_leaves_the_model_alone_changes_nothing(serving, forger):
    """An assignment without a variant leaves what is active alone."""
    _, device = serving
    before = device.active()

    document = forger.desired(models=(Assignment(model=MODEL),))
    forger.tell(document)
    until(lambda: device.status().sequence == document.sequence, "followed")

    assert device.confirmed(before)
