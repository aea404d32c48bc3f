"""An encoded form of a file; the first byte chooses the algorithm."""

import io
import struct

import bsdiff4
import zstandard

from edgepick_agent.decode import DecodeError, pieces
from edgepick_wire.manifest import ALIGNED, BSDIFF, ZSTD

ALGORITHMS = (ZSTD, ALIGNED, BSDIFF)
SIZE = 1024
BASE = bytes(range(256)) * 4
PIECE_MAX_BYTES = 1024 * 1024
_SCRIPT = struct.pack("<4sIQqBQqB", b"EPD1", 2, 512, 0, 1, 512, 512, 4) + bytes(1024)
SEEDS = [
    b"\x00" + zstandard.compress(BASE),
    b"\x01" + zstandard.compress(_SCRIPT),
    b"\x02" + bsdiff4.diff(BASE, bytes(512) + BASE[:512]),
]


def one(data: bytes) -> None:
    """Decode: never more than the file's size, in pieces that fit into memory."""
    algorithm = ALGORITHMS[data[0] % len(ALGORITHMS)] if data else ZSTD
    made = 0
    try:
        for piece in pieces(algorithm, SIZE, io.BytesIO(data[1:]), io.BytesIO(BASE)):
            assert len(piece) <= PIECE_MAX_BYTES
            made += len(piece)
            assert made <= SIZE
    except DecodeError:
        return
    assert made == SIZE
