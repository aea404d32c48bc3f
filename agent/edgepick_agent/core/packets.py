"""Bytes of a connection to MQTT packets, with no copy of what is between them (MQTT 3.1.1, section 2.2).

Pure: the transport reads into :meth:`PacketBuffer.room` and says how much came.
"""

from collections.abc import Iterator
from typing import NamedTuple

FIRST_BYTES = 4096
READ_BYTES = 256 * 1024
"""Room once there is traffic: four chunks of the usual size."""
LENGTH_BYTES = 4


class Packet(NamedTuple):
    """One packet; the body is valid until the next read."""

    command: int
    body: memoryview


class BrokenPacketError(ValueError):
    """What came is not MQTT."""


class PacketBuffer:
    """What has come of a connection and is not yet a whole packet."""

    def __init__(self) -> None:
        self._data = bytearray(FIRST_BYTES)
        self._begin = self._end = 0
        self._needed = FIRST_BYTES

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

    def packets(self) -> Iterator[Packet]:
        """Yield every whole packet; what remains waits for more.

        Raises:
            BrokenPacketError: A length is longer than MQTT allows.
        """
        while (found := self._header()) is not None:
            command, begin, size = found
            if self._end - begin < size:
                # No more than twice what is here: a length is only a claim, and may claim 256 MiB.
                self._needed = min(begin - self._begin + size, max(READ_BYTES, 2 * (self._end - self._begin)))
                return
            self._begin = begin + size
            yield Packet(command, memoryview(self._data)[begin : begin + size])
        self._needed = FIRST_BYTES
        if self._begin == self._end:
            self._begin = self._end = 0
            self._data = self._data if len(self._data) <= READ_BYTES else bytearray(READ_BYTES)

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


def published(body: memoryview) -> tuple[str, bytes]:
    """Return topic and payload of a PUBLISH packet at QoS 0 (section 3.3).

    Raises:
        BrokenPacketError: It has no topic, or one that is not UTF-8.
    """
    end = 2 + int.from_bytes(body[:2], "big")
    if not 2 < end <= len(body):
        raise BrokenPacketError("a message without a topic")
    try:
        return str(body[2:end], "utf-8"), bytes(body[end:])
    except UnicodeDecodeError as error:
        raise BrokenPacketError("a topic that is not UTF-8") from error
