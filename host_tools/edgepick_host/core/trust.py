"""Signed documents: who signs what, and the first root document of a fleet. Pure; keys are elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType, Envelope, Role, Signature, key_id, signed_bytes
from edgepick_wire.trust import RootDocument


class Key(Protocol):
    """What signs: :class:`edgepick_host.ports.Signer` keeps it."""

    @property
    def public_key(self) -> str:
        """Ed25519 public key, 32 bytes in hexadecimal."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of ``message``."""
        ...


def sign(kind: DocumentType, payload: bytes, keys: Sequence[Key]) -> Envelope:
    """Return ``payload`` signed by every one of ``keys`` as a document of this kind."""
    message = signed_bytes(kind, payload)
    signatures = tuple(Signature(key_id=key_id(k.public_key), signature=k.sign(message).hex()) for k in keys)
    return Envelope(type=kind, payload=payload, signatures=signatures)


def document_signer(key_for: Mapping[DocumentType, Callable[[], Key]]) -> Callable[[DocumentType, bytes], Envelope]:
    """Return a function that signs each kind of document with the key that may; keys are fetched on use."""

    def sign_document(kind: DocumentType, payload: bytes) -> Envelope:
        return sign(kind, payload, [key_for[kind]()])

    return sign_document


def first_root_document(fleet: str, root: Key, release: Key, campaign: Key) -> Envelope:
    """Return version 1 of a fleet's root document, one key per role, signed by the root key."""
    document = RootDocument(
        fleet=fleet,
        version=1,
        root=Role(threshold=1, keys=(root.public_key,)),
        release=Role(threshold=1, keys=(release.public_key,)),
        campaign=Role(threshold=1, keys=(campaign.public_key,)),
    )
    return sign(DocumentType.ROOT, codec.encode(document), [root])
