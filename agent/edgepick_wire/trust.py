"""The root document: which keys may sign what.

It is signed by a threshold of its own root keys; a device is born with one and follows newer
ones that are signed by both the old and the new root role (the TUF rule, sections 5.3.4-5.3.5).
"""

from dataclasses import dataclass

from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType, Envelope, Role, VerifySignature, verify
from edgepick_wire.errors import MalformedError, SignatureError


@dataclass(frozen=True, slots=True, kw_only=True)
class RootDocument:
    """The keys of a fleet.

    Attributes:
        fleet: The fleet it speaks for; a document of another fleet is refused.
        version: Counts up by one with each change.
        root: Who may change this document.
        release: Who may sign model manifests (kept offline).
        campaign: Who may sign desired state (on the host, online).
    """

    fleet: str
    version: int
    root: Role
    release: Role
    campaign: Role

    def __post_init__(self) -> None:
        """Refuse a version below 1."""
        if self.version < 1:
            raise MalformedError(f"version {self.version}: the first is 1")


def first_root(envelope: Envelope, check: VerifySignature) -> RootDocument:
    """Return a root document that is trusted because a person put it here; it must sign itself.

    Raises:
        SignatureError: Not signed by its own root role.
        MalformedError: Not a root document.
    """
    document = codec.decode(RootDocument, envelope.payload)
    verify(envelope, DocumentType.ROOT, document.root, check)
    return document


def next_root(current: RootDocument, envelope: Envelope, check: VerifySignature) -> RootDocument:
    """Return the successor of ``current``, signed by the old and by the new root role.

    Raises:
        SignatureError: Not signed by both, of another fleet, or not the next version.
        MalformedError: Not a root document.
    """
    verify(envelope, DocumentType.ROOT, current.root, check)
    document = first_root(envelope, check)
    if document.fleet != current.fleet:
        raise SignatureError(f"root document of fleet {document.fleet!r}, expected {current.fleet!r}")
    if document.version != current.version + 1:
        raise SignatureError(f"root document version {document.version}, expected {current.version + 1}")
    return document
