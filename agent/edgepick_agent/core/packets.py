"""Bytes of a connection to MQTT packets, with no copy of what is between them (MQTT 3.1.1, section 2.2).

Pure: the transport reads into :meth:`PacketBuffer.room` and says how much came.
"""

from collections.abc import Iterator
from typing import NamedTuple

FIRST_BYTES = 4096
READ_BYTES = 512 * 1024
"""Room once there is traffic: eight chunks of the usual size; never more."""
LENGTH_BYTES = 4
KEPT_BYTES = READ_BYTES - 1 - LENGTH_BYTES
"""Of a longer packet only so much is kept: topic and payload so far are already more than the protocol allows."""


class Packet(NamedTuple):
    """One packet; the body is valid until the next read, and lacks the last ``missing`` bytes."""

    command: int
    body: memoryview
    missing: int = 0


class BrokenPacketError(ValueError):
    """What came is not MQTT."""


class PacketBuffer:
    """What has come of a connection and is not yet a whole packet."""

    def __init__(self) -> None:
        self._data = bytearray(FIRST_BYTES)
        self._begin = self._end = 0
        self._needed = FIRST_BYTES
        self._dropping = 0

    def room(self) -> memoryview:
        """Return where the next bytes go; never empty."""
        if len(self._data) - self._begin < self._needed or self._end == len(self._data):
            self._make_room()
        return memoryview(self._data)[self._end :]

    def _make_room(self) -> None:
        used = self._end - self._begin
        waiting = memoryview(self._data)[self._begin : self._end]
        if len(self._data) < max(self._needed, used + 1):
            self._data = bytearray(max(self._needed, READ_BYTES))
        memoryview(self._data)[:used] = waiting
        self._begin, self._end = 0, used

    def filled(self, count: int) -> None:
        """Take note that ``count`` bytes were put into the room."""
        self._end += count
        self._drop()

    def packets(self) -> Iterator[Packet]:
        """Yield every whole packet; what remains waits for more.

        A packet that does not fit into the room comes as soon as that is full, and the rest of it is
        dropped as it arrives: a length of 256 MiB costs no memory.

        Raises:
            BrokenPacketError: A length is longer than MQTT allows.
        """
        while (found := self._header()) is not None:
            command, begin, size = found
            kept = min(size, KEPT_BYTES)
            if self._end - begin < kept:
                self._needed = begin - self._begin + kept
                return
            self._begin, self._dropping = begin + kept, size - kept
            yield Packet(command, memoryview(self._data)[begin : begin + kept], size - kept)
            self._drop()
        self._needed = FIRST_BYTES
        if self._begin == self._end:
            self._begin = self._end = 0

    def _drop(self) -> None:
        """Pass over what has come of a packet that is not kept."""
        dropped = min(self._dropping, self._end - self._begin)
        self._begin, self._dropping = self._begin + dropped, self._dropping - dropped

    def _header(self) -> tuple[int, int, int] | None:
        """Return the next packet's command, where its body begins, and how long that is."""
        size = 0
        for position in range(LENGTH_BYTES):
            at = self._begin + 1 + position
            if at >= self._end:
                return None
            size |= (self._data[at] & 0x7F) << 7 * position
            if self._data[at] < 0x80:
                return self._data[self._begin], at + 1, size
        raise BrokenPacketError("a remaining length of more than four bytes")


def published(body: memoryview) -> tuple[str, memoryview]:
    """Return topic and payload of a PUBLISH packet at QoS 0 (section 3.3); the payload is valid as long as the body.

    Raises:
        BrokenPacketError: It has no topic, or one that is not UTF-8.
    """
    end = 2 + int.from_bytes(body[:2], "big")
    if not 2 < end <= len(body):
        raise BrokenPacketError("a message without a topic")
    try:
        return str(body[2:end], "utf-8"), body[end:]
    except UnicodeDecodeError as error:
        raise BrokenPacketError("a topic that is not UTF-8") from error
