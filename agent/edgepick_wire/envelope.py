r"""A signed document: one line of signatures, then the exact bytes that were signed.

    {"signatures":[{"key_id":"…","signature":"…"}],"type":"manifest"}\n
    <payload bytes, never re-serialised>

The signature covers DSSE's pre-authentication encoding of type and payload, so a document of one
kind can never pass for another (https://github.com/secure-systems-lab/dsse, protocol.md).
Verification happens on the bytes, before they are parsed.
"""

import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgepick_wire import codec, limits
from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import LimitError, MalformedError, SignatureError

MAX_SIGNATURES = 16

VerifySignature = Callable[[bytes, bytes, bytes], bool]
"""``(public_key, signature, message) -> valid``: Ed25519 (RFC 8032), 32-byte key, 64-byte signature."""


class DocumentType(StrEnum):
    """What a signed document is."""

    ROOT = "root"
    MANIFEST = "manifest"
    DESIRED = "desired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature, both parts in lower-case hexadecimal."""

    key_id: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    type: DocumentType
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A signed document, taken apart but not yet verified."""

    type: DocumentType
    payload: bytes
    signatures: tuple[Signature, ...]


def signed_bytes(kind: DocumentType, payload: bytes) -> bytes:
    """Return the bytes that a signature of this document covers (DSSE's PAE)."""
    name = f"edgepick/{kind.value}".encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def pack(envelope: Envelope) -> bytes:
    """Return the envelope as it travels and lies on disk.

    Raises:
        LimitError: Larger than a payload may be.
    """
    header = codec.encode(_Header(type=envelope.type, signatures=envelope.signatures))
    data = header + b"\n" + envelope.payload
    if len(data) > limits.MAX_PAYLOAD_BYTES:
        raise LimitError(f"signed {envelope.type} is {len(data)} bytes; at most {limits.MAX_PAYLOAD_BYTES} may travel")
    return data


def unpack(data: bytes | bytearray | memoryview) -> Envelope:
    """Return the envelope in ``data``, signatures not yet checked.

    Raises:
        LimitError: Larger than a payload may be, or too many signatures.
        MalformedError: No header line, or not a header.
    """
    if len(data) > limits.MAX_PAYLOAD_BYTES:
        raise LimitError(f"signed document: {len(data)} bytes; at most {limits.MAX_PAYLOAD_BYTES} are accepted")
    head, newline, payload = bytes(data).partition(b"\n")
    if not newline:
        raise MalformedError("signed document: no header line")
    header = codec.decode(_Header, head)
    if len(header.signatures) > MAX_SIGNATURES:
        raise LimitError(f"signed document: {len(header.signatures)} signatures; at most {MAX_SIGNATURES}")
    return Envelope(type=header.type, payload=payload, signatures=header.signatures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Who may sign one kind of document: any ``threshold`` of ``keys``.

    Attributes:
        threshold: Number of different keys that must have signed.
        keys: Ed25519 public keys, 32 bytes in hexadecimal; their id is :func:`key_id`.
    """

    threshold: int
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a role that nobody, or anybody, could fulfil."""
        for key in self.keys:
            _unhex(key, 32, "public key")
        if not 1 <= self.threshold <= len(set(self.keys)):
            raise MalformedError(f"threshold {self.threshold}: {len(set(self.keys))} different keys are named")


def key_id(public_key: str) -> str:
    """Return the id of a public key: the first 16 hexadecimal digits of its SHA-256."""
    import hashlib

    return hashlib.sha256(_unhex(public_key, 32, "public key")).hexdigest()[:16]


def verify(envelope: Envelope, expected: DocumentType, role: Role, check: VerifySignature) -> bytes:
    """Return the payload, now known to be signed by ``role``.

    Raises:
        SignatureError: Of another kind, or fewer than ``role.threshold`` valid signatures.
    """
    if envelope.type is not expected:
        raise SignatureError(f"expected a signed {expected}, found a signed {envelope.type}")
    message = signed_bytes(expected, envelope.payload)
    valid = set(_valid_signers(envelope.signatures, role, message, check))
    if len(valid) < role.threshold:
        raise SignatureError(f"{expected}: {len(valid)} of {role.threshold} needed signatures are valid")
    return envelope.payload


def _valid_signers(
    signatures: Iterable[Signature], role: Role, message: bytes, check: VerifySignature
) -> Iterable[str]:
    keys = {key_id(k): k for k in role.keys}
    for entry in signatures:
        public = keys.get(entry.key_id)
        if public and check(bytes.fromhex(public), _unhex(entry.signature, 64, "signature"), message):
            yield entry.key_id


def _unhex(text: str, length: int, what: str) -> bytes:
    try:
        data = binascii.unhexlify(text)
    except (ValueError, binascii.Error) as error:
        raise MalformedError(f"{what} {text[:16]!r}…: not hexadecimal") from error
    if len(data) != length:
        raise MalformedError(f"{what}: {len(data)} bytes, expected {length}")
    if text != data.hex():  # one spelling, so that one key cannot be named twice
        raise MalformedError(f"{what} {text[:16]!r}…: not in lower case")
    return data
