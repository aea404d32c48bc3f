"""A signed document: the envelope, its signatures, and the root document that a device trusts."""

from edgepick_agent.adapters.ed25519 import verify as check
from edgepick_wire import envelope
from edgepick_wire.envelope import DocumentType, Role
from edgepick_wire.errors import WireError
from fuzz.records import recorded

SEEDS = recorded("Envelope")
NOBODY = Role(threshold=1, keys=("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",))
"""A key that signed none of the records (the first test vector of RFC 8032)."""


def one(data: bytes) -> None:
    """Unpack and verify for a key that signed nothing: whatever comes, it is not accepted."""
    try:
        found = envelope.unpack(data)
    except WireError:
        return
    for kind in DocumentType:
        try:
            envelope.verify(found, kind, NOBODY, check)
        except WireError:
            continue
        raise AssertionError("accepted without a signature")
