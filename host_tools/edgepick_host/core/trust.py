"""Signed documents: who signs what, and the first root document of a fleet. Pure; keys are elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgepick_host.errors import VerificationError
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


ROLES: Mapping[str, str] = {
    "root": "offline: changes which keys count; on a stick in a safe",
    "release": "offline where you can: signs model manifests, needed by `publish` and `bundle build` only",
    "campaign": "online: signs what devices should run, needed by the host service",
}
"""Role -> where its private key belongs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKey:
    """One key of one role.

    Attributes:
        role: "root", "release" or "campaign".
        key_id: First 16 hexadecimal digits of the public key's SHA-256.
        public_key: 32 bytes in hexadecimal.
        keep: Where the private key belongs.
        private_key: Where it is on this host; ``None`` if it is elsewhere.
    """

    role: str
    key_id: str
    public_key: str
    keep: str
    private_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys of a fleet, as the root document names them.

    Attributes:
        fleet: The fleet.
        version: Version of the root document.
        root_document: Its file, which every device needs.
        keys: Every key of every role.
        config: Configuration file that was written along with new keys.
    """

    fleet: str
    version: int
    root_document: str
    keys: tuple[RoleKey, ...]
    config: str | None = None


def keyring(document: RootDocument, place: str, private: Mapping[str, str], *, config: str | None = None) -> Keyring:
    """Return the keys that a root document names; ``private`` tells where this host has private keys, by public key."""
    roles = {"root": document.root, "release": document.release, "campaign": document.campaign}
    keys = tuple(
        RoleKey(role=role, key_id=key_id(key), public_key=key, keep=ROLES[role], private_key=private.get(key))
        for role, holders in roles.items()
        for key in holders.keys
    )
    return Keyring(fleet=document.fleet, version=document.version, root_document=place, keys=keys, config=config)


def check_signers(document: RootDocument, *, fleet: str, release: str | None, campaign: str | None) -> None:
    """Refuse to sign what no device would accept.

    Args:
        document: The fleet's root document.
        fleet: The fleet that is published to.
        release: Public key that will sign manifests; ``None`` where none will be signed.
        campaign: Public key that will sign desired state; likewise.

    Raises:
        VerificationError: The document is of another fleet, or does not name a key for its role.
    """
    if document.fleet != fleet:
        raise VerificationError(
            f"the root document is of fleet {document.fleet!r}, not {fleet!r}",
            hint="Set `fleet` in the configuration to the fleet that the keys were made for.",
        )
    for role, key, holders in (("release", release, document.release), ("campaign", campaign, document.campaign)):
        if key is not None and key not in holders.keys:
            raise VerificationError(
                f"the {role} key {key_id(key)} is not one that the root document names",
                hint="`edgepick keys show` lists the keys that count; name their files in [signers].",
            )
