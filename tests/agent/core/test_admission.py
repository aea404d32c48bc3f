"""Every reason for which a device says no to a bundle, each with its own code."""

from dataclasses import replace

import pytest

from edgepick_agent.core.admission import SPACE_MARGIN_BYTES, Admitted, Facts, Trust, admit, verified_manifest
from edgepick_wire import codec, envelope
from edgepick_wire.envelope import DocumentType, Envelope
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from edgepick_wire.messages import Refusal, RefusalCode, RuntimeAvailable
from fakes.host_stand_in import RELEASE, STRANGER, bundle
from wire.wire_keys import check, root, sign

TRUST = Trust(root=root(), check=check)
FACTS = Facts(
    fleet="demo",
    profile="generic-linux",
    security_epoch=1,
    runtimes=(RuntimeAvailable(name="litert", version="2"), RuntimeAvailable(name="onnxruntime", version="1")),
)
GOOD = bundle("1")


def test_a_right_bundle_is_admitted_with_the_runtimes_that_exist_here():
    """Only the ways to run it that the device has remain, in the manifest's order."""
    choices = tuple(
        RuntimeChoice(name=name) for name in (RuntimeName.TFLM, RuntimeName.ONNXRUNTIME, RuntimeName.LITERT)
    )
    content = replace(GOOD.content, runtimes=choices)

    verdict = admit(content, FACTS)

    assert verdict == Admitted(runtimes=choices[1:])


@pytest.mark.parametrize(
    ("manifest", "facts", "code", "says"),
    [
        ({"fleet": "other"}, {}, RefusalCode.WRONG_FLEET, "other"),
        ({"profiles": ("jetson-nano",)}, {}, RefusalCode.WRONG_PROFILE, "jetson-nano"),
        ({"security_epoch": 0}, {}, RefusalCode.LOWER_EPOCH, "none below 1"),
        ({"requires": ("golden", "teleport")}, {}, RefusalCode.UNKNOWN_REQUIREMENT, "teleport"),
        ({"schema": 9}, {}, RefusalCode.UNKNOWN_REQUIREMENT, "schema 9"),
        ({}, {"runtimes": ()}, RefusalCode.NO_RUNTIME, "litert"),
        ({}, {"allowed": ("tflm",)}, RefusalCode.NO_RUNTIME, "litert"),
        ({}, {"missing_bytes": 10, "free_bytes": SPACE_MARGIN_BYTES}, RefusalCode.NO_SPACE, "needs"),
    ],
)
def test_each_reason_has_its_own_code_a_sentence_and_a_hint(manifest, facts, code, says):
    """What a person reads names what was found, and the hint says what to do."""
    verdict = admit(replace(GOOD.content, **manifest), replace(FACTS, **facts))

    assert isinstance(verdict, Refusal)
    assert verdict.code is code
    assert says in verdict.detail
    assert verdict.hint


def test_nothing_missing_needs_no_space():
    """A bundle that is already here is admitted on a full disk."""
    assert isinstance(admit(GOOD.content, replace(FACTS, missing_bytes=0, free_bytes=0)), Admitted)


def test_a_verified_manifest_is_the_one_that_was_signed():
    """The right signature over the right bytes gives the manifest."""
    assert verified_manifest(GOOD.raw, GOOD.digest, TRUST) == GOOD.content


def test_a_signature_by_another_key_is_refused_before_anything_is_parsed():
    """Neither a stranger's nor the campaign's key may sign a manifest, and the payload is not even looked at."""
    rubbish = envelope.pack(sign(DocumentType.MANIFEST, b"\xff not JSON", [STRANGER]))

    verdict = verified_manifest(rubbish, GOOD.digest, TRUST)

    assert isinstance(verdict, Refusal)
    assert verdict.code is RefusalCode.BAD_SIGNATURE


@pytest.mark.parametrize("position", range(0, len(GOOD.raw), 97))
def test_a_flipped_bit_anywhere_is_refused(position):
    """No byte of a signed manifest can be changed unnoticed."""
    changed = bytearray(GOOD.raw)
    changed[position] ^= 1

    verdict = verified_manifest(bytes(changed), GOOD.digest, TRUST)

    if isinstance(verdict, Refusal):
        assert verdict.code in {RefusalCode.BAD_SIGNATURE, RefusalCode.MALFORMED}
    else:
        # A changed letter of an ignored header field; what was signed is what is returned.
        assert verdict == GOOD.content


def test_a_signed_document_of_another_kind_is_no_manifest():
    """A desired state signed by the release key does not pass for a manifest."""
    payload = codec.encode(GOOD.content)
    other = envelope.pack(sign(DocumentType.DESIRED, payload, [RELEASE]))

    verdict = verified_manifest(other, GOOD.digest, TRUST)

    assert isinstance(verdict, Refusal)
    assert verdict.code is RefusalCode.BAD_SIGNATURE


def test_another_manifest_under_this_name_is_refused():
    """A genuine manifest published under another's digest is a mismatch."""
    verdict = verified_manifest(bundle("2").raw, GOOD.digest, TRUST)

    assert isinstance(verdict, Refusal)
    assert verdict.code is RefusalCode.DIGEST_MISMATCH


def test_a_signed_document_that_is_no_manifest_is_malformed():
    """Rubbish that the release key signed is refused as malformed."""
    payload = b'{"fleet":"demo"}'
    raw = envelope.pack(sign(DocumentType.MANIFEST, payload, [RELEASE]))

    verdict = verified_manifest(raw, digest_of(payload), TRUST)

    assert isinstance(verdict, Refusal)
    assert verdict.code is RefusalCode.MALFORMED


def test_a_document_without_a_header_is_malformed():
    """Bytes that are no envelope are refused, with a code of their own."""
    verdict = verified_manifest(b"hello", GOOD.digest, TRUST)

    assert isinstance(verdict, Refusal)
    assert verdict.code is RefusalCode.MALFORMED


def test_an_envelope_keeps_its_bytes():
    """Packing what was unpacked gives the same document, so digests stay what they are."""
    document: Envelope = envelope.unpack(GOOD.raw)

    assert envelope.pack(document) == GOOD.raw
