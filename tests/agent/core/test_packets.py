"""A connection's bytes cut into packets, however they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.core.packets import KEPT_BYTES, READ_BYTES, BrokenPacketError, PacketBuffer, published


def encoded(command: int, body: bytes) -> bytes:
    """Return a packet as MQTT 3.1.1 writes it, by the algorithm of its section 2.2.3."""
    head, rest = bytearray([command]), len(body)
    while True:
        rest, digit = divmod(rest, 128)[0], rest % 128
        head.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes(head) + body


def fed(buffer: PacketBuffer, stream: bytes, sizes: list[int]) -> list[tuple[int, bytes]]:
    """Feed a stream in pieces of at most these sizes, in turn, and return the packets that come out."""
    found, position, turn = [], 0, 0
    while position < len(stream):
        room = buffer.room()
        piece = stream[position : position + min(sizes[turn % len(sizes)], len(room))]
        room[: len(piece)] = piece
        buffer.filled(len(piece))
        position, turn = position + len(piece), turn + 1
        found += [(packet.command, bytes(packet.body)) for packet in buffer.packets()]
    return found


PACKETS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300) | st.integers(0, 400_000).map(bytes)))


@given(packets=PACKETS, sizes=st.lists(st.integers(1, 300_000), min_size=1, max_size=5))
def test_packets_come_out_as_they_went_in(packets, sizes):
    """However the stream is cut, the same packets come out in order, of the largest what is kept."""
    stream = b"".join(encoded(command, body) for command, body in packets)
    if len(stream) > 2000:
        sizes = [max(size, 500) for size in sizes]

    assert fed(PacketBuffer(), stream, sizes) == [(command, body[:KEPT_BYTES]) for command, body in packets]


@given(junk=st.binary(max_size=2000))
def test_no_bytes_break_the_buffer(junk):
    """Anything at all is packets, an unfinished packet, or refused."""
    buffer = PacketBuffer()

    try:
        found = fed(buffer, junk, [7])
    except BrokenPacketError:
        return

    assert sum(len(body) for _, body in found) < max(1, len(junk))


def test_a_length_of_five_bytes_is_refused():
    """The protocol allows four; a fifth is no length."""
    with pytest.raises(BrokenPacketError, match="four bytes"):
        fed(PacketBuffer(), b"\x30\xff\xff\xff\xff\x01", [6])


def test_an_outsize_packet_never_takes_more_than_the_room():
    """Of three megabytes the beginning is kept, the rest passed over as it comes, and the next packet is whole."""
    buffer, stream = PacketBuffer(), memoryview(encoded(0x30, bytes(3_000_000)) + encoded(0x30, b"next"))
    found, largest = [], 0

    while stream:
        room = buffer.room()
        largest, count = max(largest, len(room)), min(len(room), len(stream))
        room[:count], stream = stream[:count], stream[count:]
        buffer.filled(count)
        found += [(len(packet.body), packet.missing) for packet in buffer.packets()]

    assert found == [(KEPT_BYTES, 3_000_000 - KEPT_BYTES), (4, 0)]
    assert largest <= READ_BYTES


def test_a_message_is_topic_and_payload():
    """Two bytes of length, the topic, and the rest."""
    assert published(memoryview(b"\0\x03a/bpayload")) == ("a/b", b"payload")


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0x", b"\0\x09abc", b"\0\x01\xff"])
def test_a_message_without_a_proper_topic_is_refused(body):
    """No topic, a topic that is longer than the packet, and a topic that is not text."""
    with pytest.raises(BrokenPacketError):
        published(memoryview(body))
