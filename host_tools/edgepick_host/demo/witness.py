"""Reads along on a link which chunks are asked for and which are sent: a count that is not the device's own. Pure.

Both are needed: a broker may send again, unasked, what it had sent to a session that is gone (amqtt does).
"""

import re
from collections.abc import Iterable, Iterator

_CHUNK_TOPIC = re.compile(rb"/c/([0-9a-f]{64})$")
_PUBLISH, _SUBSCRIBE = 3, 8
"""Packet types, the upper four bits of a packet's first byte (MQTT 3.1.1, table 2.1)."""

MAX_LENGTH_BYTES = 4
"""A packet's remaining length takes at most four bytes (MQTT 3.1.1, section 2.2.3)."""


class ChunkWitness:
    """Takes the bytes of one direction of one connection.

    Attributes:
        sent: Digests of the chunks that went by, whole, in order; one that passed twice is there twice.
        asked: Digests of the chunks that were subscribed to, likewise.
    """

    def __init__(self) -> None:
        self._rest = b""
        self.sent: list[str] = []
        self.asked: list[str] = []

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the connection.

        Raises:
            ValueError: This is not MQTT.
        """
        self._rest += piece
        while (packet := _split(self._rest)) is not None:
            kind, body, self._rest = packet
            if kind == _PUBLISH:
                self.sent += _chunks([_text(body)])
            elif kind == _SUBSCRIBE:
                self.asked += _chunks(_filters(body))


def _split(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return type, body and what follows of the first packet; ``None`` while it is incomplete."""
    length = shift = 0
    for place in range(1, MAX_LENGTH_BYTES + 1):
        if place >= len(data):
            return None
        length |= (data[place] & 0x7F) << shift
        shift += 7
        if not data[place] & 0x80:
            end = place + 1 + length
            return (data[0] >> 4, data[place + 1 : end], data[end:]) if len(data) >= end else None
    raise ValueError("not MQTT: a remaining length of more than four bytes")


def _text(data: bytes) -> bytes:
    """Return the string that ``data`` begins with: two bytes of length, then that many bytes."""
    return data[2 : 2 + int.from_bytes(data[:2], "big")]


def _filters(body: bytes) -> Iterator[bytes]:
    """Yield the topic filters of a SUBSCRIBE: after a packet id, each is a string and a byte of QoS."""
    rest = body[2:]
    while len(rest) > 2:
        topic = _text(rest)
        yield topic
        rest = rest[2 + len(topic) + 1 :]


def _chunks(topics: Iterable[bytes]) -> Iterator[str]:
    return (found.group(1).decode() for topic in topics if (found := _CHUNK_TOPIC.search(topic)))
