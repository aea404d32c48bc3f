"""Reads along on a link which chunks a broker sends: a count of deliveries that is not the receiver's own. Pure."""

import re

_CHUNK_TOPIC = re.compile(rb"/c/([0-9a-f]{64})$")
_PUBLISH = 3
"""Packet type, the upper four bits of a packet's first byte (MQTT 3.1.1, table 2.1)."""

MAX_LENGTH_BYTES = 4
"""A packet's remaining length takes at most four bytes (MQTT 3.1.1, section 2.2.3)."""


class ChunkWitness:
    """Takes the bytes that a broker sends on one connection; knows which chunks went by, whole."""

    def __init__(self) -> None:
        self._rest = b""
        self.chunks: list[str] = []
        """Digests in the order in which the chunks passed; one that passed twice is there twice."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the connection."""
        self._rest += piece
        while (packet := _split(self._rest)) is not None:
            kind, body, self._rest = packet
            digest = _chunk_in(body) if kind == _PUBLISH else None
            if digest is not None:
                self.chunks.append(digest)


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


def _chunk_in(body: bytes) -> str | None:
    """Return the digest in the topic of a PUBLISH; ``None`` if it carries no chunk."""
    size = int.from_bytes(body[:2], "big")
    found = _CHUNK_TOPIC.search(body[2 : 2 + size])
    return found.group(1).decode() if found else None
