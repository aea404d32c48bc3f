"""Every message of the protocol; the first byte chooses which."""

from edgepick_wire import codec
from edgepick_wire.errors import WireError
from edgepick_wire.messages import Ack, Birth, Desired, Presence, Report, Reported
from edgepick_wire.metrics import Measurement
from edgepick_wire.trust import RootDocument
from fuzz.records import recorded

KINDS = (Ack, Birth, Desired, Measurement, Presence, Report, Reported, RootDocument)
SEEDS = [
    bytes([number]) + record
    for number, kind in enumerate(KINDS)
    for record in recorded(f"{kind.__name__}.", f"{kind.__name__}-")
]


def one(data: bytes) -> None:
    """Decode; what is accepted is encoded and decoded again to the same value."""
    kind = KINDS[data[0] % len(KINDS)] if data else Ack
    try:
        message = codec.decode(kind, data[1:])
    except WireError:
        return
    assert codec.decode_document(kind, codec.encode_document(message)) == message
