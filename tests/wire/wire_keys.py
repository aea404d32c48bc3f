"""Test keys from fixed seeds, and documents signed with them."""

from collections.abc import Iterable

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType, Envelope, Role, Signature, key_id, signed_bytes
from edgepick_wire.trust import RootDocument

KEYS = tuple(SigningKey(bytes([i]) * 32) for i in range(1, 7))
PUBLIC = tuple(key.verify_key.encode().hex() for key in KEYS)


def check(public: bytes, signature: bytes, message: bytes) -> bool:
    """Keep :data:`edgepick_wire.envelope.VerifySignature`."""
    try:
        VerifyKey(public).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def role(*numbers: int, threshold: int = 1) -> Role:
    return Role(threshold=threshold, keys=tuple(PUBLIC[i] for i in numbers))


def sign(kind: DocumentType, payload: bytes, numbers: Iterable[int]) -> Envelope:
    message = signed_bytes(kind, payload)
    signatures = tuple(
        Signature(key_id=key_id(PUBLIC[i]), signature=KEYS[i].sign(message).signature.hex()) for i in numbers
    )
    return Envelope(type=kind, payload=payload, signatures=signatures)


def root(version: int = 1, *, fleet: str = "demo", root_role: Role | None = None) -> RootDocument:
    return RootDocument(fleet=fleet, version=version, root=root_role or role(0), release=role(4), campaign=role(5))


def signed_root(document: RootDocument, *numbers: int) -> Envelope:
    return sign(DocumentType.ROOT, codec.encode(document), numbers)
