"""Signed documents: verified on their exact bytes, by enough keys of the right role, for one purpose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_keys import PUBLIC, check, role, root, sign, signed_root
from wire_strategies import attempt

from edgepick_wire import codec, envelope, limits
from edgepick_wire.envelope import DocumentType, Envelope, Signature, key_id, pack, signed_bytes, unpack, verify
from edgepick_wire.errors import LimitError, MalformedError, SignatureError, WireError
from edgepick_wire.trust import RootDocument, first_root, next_root

PAYLOAD = b'{"fleet":"demo","sequence":7}'


def accepted(data: bytes, kind: DocumentType = DocumentType.DESIRED) -> bool:
    """Return whether a device would take ``data`` as a document signed by key 0."""
    try:
        return verify(unpack(data), kind, role(0), check) == PAYLOAD
    except WireError:
        return False


@given(st.sampled_from(DocumentType), st.binary(max_size=200))
def test_pack_and_unpack(kind: DocumentType, payload: bytes):
    """A document is unpacked to what was packed, payload bytes untouched."""
    document = sign(kind, payload, [0, 1])

    assert unpack(pack(document)) == document
    assert pack(document).endswith(b"\n" + payload)


@given(st.binary(max_size=200))
def test_anything_is_unpacked_or_refused(data: bytes):
    """Whatever bytes arrive, nothing but WireError is raised."""
    assert isinstance(attempt(unpack, data), (Envelope, WireError))


def test_signed_bytes_follow_dsse():
    """The signature covers DSSE's pre-authentication encoding: lengths in decimal bytes."""
    assert signed_bytes(DocumentType.MANIFEST, b"hello world") == b"DSSEv1 17 edgepick/manifest 11 hello world"
    assert signed_bytes(DocumentType.ROOT, "ä".encode()) == b"DSSEv1 13 edgepick/root 2 \xc3\xa4"


def test_every_flipped_bit_is_refused():
    """A single flipped bit anywhere, header or payload, makes the document worthless."""
    data = pack(sign(DocumentType.DESIRED, PAYLOAD, [0]))
    assert accepted(data)

    survivors = [
        (byte, bit)
        for byte in range(len(data))
        for bit in range(8)
        if accepted(data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :])
    ]

    assert survivors == []


@given(st.data())
def test_every_cut_or_extension_is_refused(data: st.DataObject):
    """A document that lost or gained bytes at its end is refused."""
    whole = pack(sign(DocumentType.DESIRED, PAYLOAD, [0]))
    cut = data.draw(st.integers(0, len(whole) - 1))
    more = data.draw(st.binary(min_size=1, max_size=5))

    assert not accepted(whole[:cut])
    assert not accepted(whole + more)


@pytest.mark.parametrize("kind", [DocumentType.ROOT, DocumentType.MANIFEST])
def test_documents_do_not_pass_for_others(kind: DocumentType):
    """A desired state is no manifest, even if its header is rewritten."""
    document = sign(DocumentType.DESIRED, PAYLOAD, [0])
    renamed = Envelope(type=kind, payload=document.payload, signatures=document.signatures)

    assert not accepted(pack(document), kind)
    assert not accepted(pack(renamed), kind)


@given(st.sets(st.integers(0, 3)), st.integers(1, 3))
def test_threshold(signers: set[int], threshold: int):
    """A document holds exactly if enough different keys of its role signed it."""
    document = sign(DocumentType.MANIFEST, PAYLOAD, sorted(signers))
    who = role(0, 1, 2, threshold=threshold)

    enough = len(signers - {3}) >= threshold

    if enough:
        assert verify(document, DocumentType.MANIFEST, who, check) == PAYLOAD
    else:
        with pytest.raises(SignatureError, match=f"of {threshold} needed signatures are valid"):
            verify(document, DocumentType.MANIFEST, who, check)


def test_one_key_counts_once():
    """The same signature twice is one signature."""
    document = sign(DocumentType.MANIFEST, PAYLOAD, [0, 0, 0])

    with pytest.raises(SignatureError, match="1 of 2"):
        verify(document, DocumentType.MANIFEST, role(0, 1, threshold=2), check)


def test_a_key_id_is_not_trusted():
    """A signature under another key's id does not count for that key."""
    mine = sign(DocumentType.MANIFEST, PAYLOAD, [1]).signatures[0]
    forged = Envelope(
        type=DocumentType.MANIFEST,
        payload=PAYLOAD,
        signatures=(Signature(key_id=key_id(PUBLIC[0]), signature=mine.signature),),
    )

    with pytest.raises(SignatureError, match="0 of 1"):
        verify(forged, DocumentType.MANIFEST, role(0), check)


def test_unsigned_documents_are_refused():
    """No signature at all is not enough for any role."""
    with pytest.raises(SignatureError, match="0 of 1"):
        verify(sign(DocumentType.MANIFEST, PAYLOAD, []), DocumentType.MANIFEST, role(0), check)


@pytest.mark.parametrize("signature", ["", "ab" * 63, "zz" * 64, "é" * 64])
def test_signatures_that_are_none(signature: str):
    """A signature that is not 64 bytes in hexadecimal is malformed, not a crash."""
    document = Envelope(
        type=DocumentType.MANIFEST,
        payload=PAYLOAD,
        signatures=(Signature(key_id=key_id(PUBLIC[0]), signature=signature),),
    )

    with pytest.raises(MalformedError):
        verify(document, DocumentType.MANIFEST, role(0), check)


def test_number_of_signatures_is_limited():
    """More than 16 signatures are refused before any is checked."""
    most = sign(DocumentType.MANIFEST, PAYLOAD, [0] * envelope.MAX_SIGNATURES)
    more = sign(DocumentType.MANIFEST, PAYLOAD, [0] * (envelope.MAX_SIGNATURES + 1))

    assert unpack(pack(most)) == most
    with pytest.raises(LimitError, match="17 signatures"):
        unpack(pack(more))


def test_size_is_limited_both_ways():
    """A document over 128 KiB is neither packed nor unpacked."""
    document = sign(DocumentType.MANIFEST, b"x" * limits.MAX_PAYLOAD_BYTES, [0])

    with pytest.raises(LimitError):
        pack(document)
    with pytest.raises(LimitError):
        unpack(b"x" * (limits.MAX_PAYLOAD_BYTES + 1))


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b'{"signatures":[],"type":"other"}\n', b"no line"])
def test_headers_that_are_none(data: bytes):
    """Bytes without a proper header line are malformed."""
    with pytest.raises(MalformedError):
        unpack(data)


# The root document.


def test_first_root_signs_itself():
    """A root document that a person put here must be signed by its own root role."""
    document = root()

    assert first_root(signed_root(document, 0), check) == document
    with pytest.raises(SignatureError):
        first_root(signed_root(document, 1), check)


def test_root_succession_needs_both_roles():
    """The next root document is signed by the old root role and by the new one."""
    old = root(1, root_role=role(0, 1, threshold=2))
    new = root(2, root_role=role(2))

    assert next_root(old, signed_root(new, 0, 1, 2), check) == new
    for too_few in [(0, 1), (2,), (0, 2), (1, 2), ()]:
        with pytest.raises(SignatureError):
            next_root(old, signed_root(new, *too_few), check)


@pytest.mark.parametrize("version", [1, 2, 4, 9])
def test_root_versions_go_up_by_one(version: int):
    """A root document of the same, an older or a later version than the next is refused."""
    with pytest.raises(SignatureError, match=f"version {version}, expected 3"):
        next_root(root(2), signed_root(root(version), 0), check)


def test_root_of_another_fleet():
    """Keys of one fleet do not move a device to another."""
    with pytest.raises(SignatureError, match="fleet 'other'"):
        next_root(root(1), signed_root(root(2, fleet="other"), 0), check)


def test_root_is_no_other_document():
    """A manifest signed by the root key is no root document."""
    document = sign(DocumentType.MANIFEST, codec.encode(root(2)), [0])

    with pytest.raises(SignatureError, match="expected a signed root"):
        next_root(root(1), document, check)


def test_root_versions_begin_at_one():
    """Version 0 does not exist."""
    with pytest.raises(MalformedError, match="the first is 1"):
        root(0)


@given(st.binary(max_size=60))
def test_root_payloads_are_parsed_or_refused(payload: bytes):
    """A correctly signed payload that is no root document is a WireError."""
    with pytest.raises(WireError):
        next_root(root(1), sign(DocumentType.ROOT, payload, [0]), check)


def test_key_ids_are_short_digests():
    """A key's id is the first 16 digits of its SHA-256, in one spelling only."""
    assert key_id("00" * 32) == "66687aadf862bd77"
    with pytest.raises(MalformedError, match="lower case"):
        key_id("AB" * 32)


def test_rotation_takes_a_role_away():
    """After a rotation, the old release key signs no manifest any more."""
    old = root(1)
    new = next_root(
        old,
        signed_root(RootDocument(fleet="demo", version=2, root=role(0), release=role(3), campaign=role(5)), 0),
        check,
    )
    signed_by_old = sign(DocumentType.MANIFEST, PAYLOAD, [4])

    assert verify(signed_by_old, DocumentType.MANIFEST, old.release, check) == PAYLOAD
    with pytest.raises(SignatureError):
        verify(signed_by_old, DocumentType.MANIFEST, new.release, check)
