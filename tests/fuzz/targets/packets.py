"""What a broker sends: MQTT packets in reads of any length, and the chunk messages in them."""

from edgepick_agent.core.packets import BrokenPacketError, PacketBuffer, published
from edgepick_wire import topics
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of

HELD_MAX_BYTES = 512 * 1024
"""What a buffer takes at most, whatever length a packet claims."""


def _publish(topic: str, payload: bytes) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic.encode() + payload
    length, size = b"", len(body)
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (128 if size else 0)])
        if not size:
            return b"\x30" + length + body


CHUNK = b"a chunk of a model" * 20
SEEDS = [
    b"\x07" + _publish(topics.chunk("demo", digest_of(CHUNK)), CHUNK) * 2,
    b"\xff\x20\x02\x00\x00\x90\x03\x00\x01\x00" + _publish(topics.manifest("demo", digest_of(CHUNK)), CHUNK),
]


def one(data: bytes) -> None:
    """Read in pieces of the first byte's length; nothing is lost, and nothing but a broken packet is raised."""
    buffer, step, rest = PacketBuffer(), (data[0] if data else 0) + 1, memoryview(data)[1:]
    taken = 0
    while rest:
        room = buffer.room()
        assert 0 < len(room) <= HELD_MAX_BYTES
        count = min(step, len(room), len(rest))
        room[:count] = rest[:count]
        buffer.filled(count)
        rest = rest[count:]
        try:
            for packet in buffer.packets():
                taken += len(packet.body)
                _look(packet.body)
        except BrokenPacketError:
            return
    assert taken <= len(data)


def _look(body: memoryview) -> None:
    try:
        topic, payload = published(body)
        topics.parse_device("demo", topic)
    except (BrokenPacketError, WireError):
        return
    assert len(payload) < len(body)
