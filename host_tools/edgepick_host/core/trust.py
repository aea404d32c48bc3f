"""Signed documents: who signs what, and the first root document of a fleet. Pure; keys are elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edgepick_host.errors import VerificationError
from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType, Envelope, Role, Signature, VerifySignature, key_id, signed_bytes
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


def document_signer(
    keys_for: Mapping[DocumentType, Callable[[], Sequence[Key]]],
) -> Callable[[DocumentType, bytes], Envelope]:
    """Return a function that signs each kind of document with the keys that may; they are fetched on use."""

    def sign_document(kind: DocumentType, payload: bytes) -> Envelope:
        return sign(kind, payload, keys_for[kind]())

    return sign_document


def first_root_document(
    fleet: str, roots: Sequence[Key], release: Key, campaign: Key, *, threshold: int = 1
) -> Envelope:
    """Return version 1 of a fleet's root document, signed by every root key.

    Args:
        fleet: The fleet.
        roots: Whoever may change the document, ``threshold`` of them together.
        release: Signs manifests.
        campaign: Signs desired state.
        threshold: Root keys that have to sign.
    """
    document = RootDocument(
        fleet=fleet,
        version=1,
        root=Role(threshold=threshold, keys=tuple(key.public_key for key in roots)),
        release=Role(threshold=1, keys=(release.public_key,)),
        campaign=Role(threshold=1, keys=(campaign.public_key,)),
    )
    return sign(DocumentType.ROOT, codec.encode(document), roots)


def role_of(document: RootDocument, role: str) -> Role:
    """Return one of the roles "root", "release" and "campaign"."""
    return {"root": document.root, "release": document.release, "campaign": document.campaign}[role]


def with_role(document: RootDocument, role: str, holders: Role) -> RootDocument:
    """Return the next version of a root document, one role changed."""
    roles = {name: holders if name == role else role_of(document, name) for name in ROLES}
    return RootDocument(fleet=document.fleet, version=document.version + 1, **roles)


def without_key(document: RootDocument, revoked: str) -> RootDocument:
    """Return the next version of a root document, without the key of this id in any role.

    Raises:
        VerificationError: It names no such key, or a role could not sign any more without it.
    """
    changed = document
    for role in ROLES:
        holders = role_of(document, role)
        left = tuple(key for key in holders.keys if key_id(key) != revoked)
        if len(left) == len(holders.keys):
            continue
        if len(left) < holders.threshold:
            raise VerificationError(
                f"without key {revoked} the {role} role has {len(left)} keys, and needs {holders.threshold} to sign",
                hint=f"`edgepick keys rotate {role}` replaces its keys by new ones, and revokes the old.",
            )
        changed = with_role(replace(changed, version=document.version), role, replace(holders, keys=left))
    if changed == document:
        raise VerificationError(
            f"the root document names no key {revoked}", hint="`edgepick keys show` lists the keys that count."
        )
    return changed


def signed_also(document: Envelope, keys: Sequence[Key]) -> Envelope:
    """Return a document with the signatures of ``keys`` added; a key that signed before signs anew."""
    fresh = sign(document.type, document.payload, keys).signatures
    named = {signature.key_id for signature in fresh}
    return replace(document, signatures=(*(s for s in document.signatures if s.key_id not in named), *fresh))


def signers(document: Envelope, role: Role, check: VerifySignature) -> frozenset[str]:
    """Return the ids of the keys of ``role`` whose signatures of this document are valid."""
    message = signed_bytes(document.type, document.payload)
    keys = {key_id(key): key for key in role.keys}
    return frozenset(
        s.key_id
        for s in document.signatures
        if s.key_id in keys and _valid(keys[s.key_id], s.signature, message, check)
    )


def _valid(public_key: str, signature: str, message: bytes, check: VerifySignature) -> bool:
    try:
        return check(bytes.fromhex(public_key), bytes.fromhex(signature), message)
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class RootChange:
    """A next root document, and how far it is.

    Attributes:
        fleet: The fleet.
        version: The version that it will be.
        file: Where it lies.
        in_force: It is signed well enough and is the fleet's root document now.
        signed_by: Ids of the root keys that have signed, old and new.
        missing: Signatures still needed: of the present root keys, and of the new ones.
        added: Ids of keys that come to count, each with its role.
        removed: Ids of keys that no longer count, likewise.
        new_files: Private keys that were made for it.
        settings: What to change in the configuration: key and value.
    """

    fleet: str
    version: int
    file: str
    in_force: bool
    signed_by: tuple[str, ...]
    missing: tuple[int, int]
    added: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    new_files: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


def root_change(old: RootDocument, envelope: Envelope, file: str, check: VerifySignature) -> RootChange:
    """Return how far ``envelope`` is from following ``old``.

    Raises:
        MalformedError: It is no root document.
    """
    new = codec.decode(RootDocument, envelope.payload)
    by_old, by_new = signers(envelope, old.root, check), signers(envelope, new.root, check)
    return RootChange(
        fleet=new.fleet,
        version=new.version,
        file=file,
        in_force=False,
        signed_by=tuple(sorted(by_old | by_new)),
        missing=(max(0, old.root.threshold - len(by_old)), max(0, new.root.threshold - len(by_new))),
        added=_new_keys(old, new),
        removed=_new_keys(new, old),
    )


def _new_keys(old: RootDocument, new: RootDocument) -> tuple[tuple[str, str], ...]:
    return tuple(
        (role, key_id(key)) for role in ROLES for key in role_of(new, role).keys if key not in role_of(old, role).keys
    )


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
        thresholds: Signatures that each role needs.
        pending: A next root document that still lacks signatures.
        config: Configuration file that was written along with new keys.
    """

    fleet: str
    version: int
    root_document: str
    keys: tuple[RoleKey, ...]
    thresholds: Mapping[str, int]
    pending: str | None = None
    config: str | None = None


def keyring(
    document: RootDocument,
    place: str,
    private: Mapping[str, str],
    *,
    pending: str | None = None,
    config: str | None = None,
) -> Keyring:
    """Return the keys that a root document names; ``private`` tells where this host has private keys, by public key."""
    keys = tuple(
        RoleKey(role=role, key_id=key_id(key), public_key=key, keep=ROLES[role], private_key=private.get(key))
        for role in ROLES
        for key in role_of(document, role).keys
    )
    return Keyring(
        fleet=document.fleet,
        version=document.version,
        root_document=place,
        keys=keys,
        thresholds={role: role_of(document, role).threshold for role in ROLES},
        pending=pending,
        config=config,
    )


def check_signers(
    document: RootDocument, *, fleet: str, release: Sequence[Key] | None, campaign: Sequence[Key] | None
) -> None:
    """Refuse to sign what no device would accept.

    Args:
        document: The fleet's root document.
        fleet: The fleet that is published to.
        release: Keys that will sign manifests; ``None`` where none will be signed.
        campaign: Keys that will sign desired state; likewise.

    Raises:
        VerificationError: The document is of another fleet, does not name a key for its role, or wants more of them.
    """
    if document.fleet != fleet:
        raise VerificationError(
            f"the root document is of fleet {document.fleet!r}, not {fleet!r}",
            hint="Set `fleet` in the configuration to the fleet that the keys were made for.",
        )
    for role, keys in (("release", release), ("campaign", campaign)):
        if keys is not None:
            _check_role(role, role_of(document, role), keys)


def _check_role(role: str, holders: Role, keys: Sequence[Key]) -> None:
    hint = "`edgepick keys show` lists the keys that count; name their files in [signers]."
    for key in keys:
        if key.public_key not in holders.keys:
            raise VerificationError(
                f"the {role} key {key_id(key.public_key)} is not one that the root document names", hint=hint
            )
    if len({key.public_key for key in keys}) < holders.threshold:
        raise VerificationError(
            f"{holders.threshold} {role} keys have to sign, and this host has {len(keys)}",
            hint=f"Name the others in signers.{role}_cosigners.",
        )
