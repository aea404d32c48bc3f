"""A manifest, as it is read after its signature was checked."""

from edgepick_wire import codec
from edgepick_wire.errors import WireError
from edgepick_wire.manifest import parse_manifest
from fuzz.records import recorded

SEEDS = recorded("Manifest")


def one(data: bytes) -> None:
    """Parse; what is accepted is written and read again to the same value."""
    try:
        content = parse_manifest(data)
    except WireError:
        return
    assert content.size > 0
    assert len(content.downloads) >= 1
    assert codec.decode_document(type(content), codec.encode_document(content)) == content
