"""``python -m edgepick_agent.decode ALGORITHM SIZE ENCODED [BASE]``: the file again, on standard output.

A process of its own: what decoding takes in memory is given back at once, and a damaged input harms
nobody. It writes at most ``SIZE`` bytes, holds a few blocks and the decoder's window at a time, and
ends with 1 and one line on standard error if the input is not what it should be. It proves nothing:
the agent compares the digest of what comes out.
"""

import bz2
import resource
import struct
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from edgepick_wire.manifest import ALIGNED, BSDIFF, ZSTD

BLOCK_BYTES = 65536
WINDOW_MAX_BYTES = 1 << 27
"""Largest window of a Zstandard frame that is taken; the host makes none above 8 MiB."""
ADDRESS_SPACE_BYTES = 2 * 1024**3
"""Backstop: numpy reserves far more than it uses."""
SEGMENTS_MAX = 1 << 20
HEADER = struct.Struct("<4sI")
SEGMENT = struct.Struct("<QqB")
PATCH_MAGIC = b"BSDIFF40"
WIDTHS = (1, 2, 4)


class DecodeError(Exception):
    """The encoded form or the base is not what it should be."""


def pieces(algorithm: str, size: int, encoded: IO[bytes], base: IO[bytes] | None) -> Iterator[bytes]:
    """Yield a file of ``size`` bytes in pieces, given its encoded form.

    Raises:
        DecodeError: Damaged, for another base, or of another size.
    """
    made = 0
    try:
        for piece in _decoder(algorithm, size, encoded, base):
            made += len(piece)
            if made > size:
                raise DecodeError(f"more than {size} bytes")
            yield piece
    except (struct.error, ValueError, OSError, EOFError, OverflowError) as error:
        raise DecodeError(str(error)) from error
    if made != size:
        raise DecodeError(f"{made} bytes instead of {size}")


def _decoder(algorithm: str, size: int, encoded: IO[bytes], base: IO[bytes] | None) -> Iterator[bytes]:
    if algorithm == ZSTD:
        return _Plain(_zstd(encoded)).all()
    if base is None:
        raise DecodeError(f"{algorithm} needs a base")
    if algorithm == ALIGNED:
        return _aligned(_Plain(_zstd(encoded)), base)
    if algorithm == BSDIFF:
        return _bsdiff(encoded, base, size)
    raise DecodeError(f"algorithm {algorithm!r} is not known")


class _Plain:
    """A stream that ends in the middle of nothing: reads give what was asked for, or fail."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def exactly(self, size: int) -> bytes:
        """Return exactly ``size`` bytes."""
        parts, missing = [], size
        while missing:
            part = self.some(missing)
            if not part:
                raise DecodeError("truncated")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def some(self, size: int) -> bytes:
        """Return up to ``size`` bytes; nothing at the end."""
        found: bytes = self._source.read(size)
        return found

    def all(self) -> Iterator[bytes]:
        """Yield everything."""
        while piece := self.some(BLOCK_BYTES):
            yield piece


class _Translated:
    """A Zstandard stream whose errors are ours."""

    def __init__(self, reader: Any, error: type[Exception]) -> None:
        self._reader = reader
        self._error = error

    def read(self, size: int) -> bytes:
        try:
            found: bytes = self._reader.read(size)
        except self._error as error:
            raise DecodeError(str(error)) from error
        return found


def _zstd(encoded: IO[bytes]) -> _Translated:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX_BYTES)
    return _Translated(decompressor.stream_reader(encoded, read_size=BLOCK_BYTES), zstandard.ZstdError)


# --- aligned-zstd ---------------------------------------------------------------------------------


def _aligned(script: _Plain, base: IO[bytes]) -> Iterator[bytes]:
    magic, count = HEADER.unpack(script.exactly(HEADER.size))
    if magic != b"EPD1" or count > SEGMENTS_MAX:
        raise DecodeError("not a script")
    table = script.exactly(count * SEGMENT.size)
    for size, origin, width in SEGMENT.iter_unpack(table):
        if width not in WIDTHS or size % width:
            raise DecodeError(f"a segment of {size} bytes in words of {width}")
        for at in range(0, size, BLOCK_BYTES):
            residual = script.exactly(min(BLOCK_BYTES, size - at))
            yield residual if origin < 0 else _restored(residual, _there(base, origin + at, len(residual)), width)
    if script.some(1):
        raise DecodeError("something follows the last segment")


def _there(base: IO[bytes], offset: int, size: int) -> bytes:
    base.seek(offset)
    found = base.read(size)
    if len(found) != size:
        raise DecodeError("the base ends before the difference to it")
    return found


def _restored(residual: bytes, base: bytes, width: int) -> bytes:
    import numpy as np

    kind = np.dtype(f"<u{width}")
    there = np.frombuffer(base, kind)
    if width == 1:
        return bytes((np.frombuffer(residual, kind) + there).data)
    planes = np.frombuffer(residual, np.uint8).reshape(width, -1)
    zigzag = np.ascontiguousarray(planes.T).reshape(-1).view(kind)
    sign = np.zeros_like(zigzag) - (zigzag & kind.type(1))
    return bytes((((zigzag >> kind.type(1)) ^ sign) + there).data)


# --- bsdiff ---------------------------------------------------------------------------------------


def _bsdiff(encoded: IO[bytes], base: IO[bytes], size: int) -> Iterator[bytes]:
    header = encoded.read(32)
    if header[:8] != PATCH_MAGIC or len(header) != 32:
        raise DecodeError("not a patch")
    control_size, diff_size, target_size = (_number(header[i : i + 8]) for i in (8, 16, 24))
    if target_size != size or min(control_size, diff_size) < 0:
        raise DecodeError(f"a patch for {target_size} bytes instead of {size}")
    starts = (32, 32 + control_size, 32 + control_size + diff_size)
    ends = [end for _, end in pairwise((*starts, None))]
    control, diff, extra = (_Unpacked(encoded, start, end) for start, end in zip(starts, ends, strict=True))
    position, made = 0, 0
    while made < size:
        added, copied, skipped = (_number(control.exactly(8)) for _ in range(3))
        if min(added, copied) < 0 or added + copied > size - made or not added + copied + abs(skipped):
            raise DecodeError("a step of the patch leads out of the file")
        for at in range(0, added, BLOCK_BYTES):
            step = diff.exactly(min(BLOCK_BYTES, added - at))
            yield _restored(step, _around(base, position + at, len(step)), 1)
        for at in range(0, copied, BLOCK_BYTES):
            yield extra.exactly(min(BLOCK_BYTES, copied - at))
        position += added + skipped
        made += added + copied


def _number(data: bytes) -> int:
    """Return a number of 63 bits and a sign, as bsdiff writes it."""
    value = int.from_bytes(data, "little")
    return -(value & (2**63 - 1)) if value >> 63 else value


def _around(base: IO[bytes], offset: int, size: int) -> bytes:
    """Return a piece of the base; bsdiff counts what would lie outside as zeros."""
    before = min(size, max(0, -offset))
    base.seek(max(0, offset))
    found = bytes(before) + base.read(size - before)
    return found.ljust(size, b"\0")


class _Unpacked(_Plain):
    """One of the three bzip2 streams of a patch, read from its own place in the file."""

    def __init__(self, file: IO[bytes], start: int, end: int | None) -> None:
        super().__init__(None)
        self._file = file
        self._at = start
        self._end = end
        self._unpack = bz2.BZ2Decompressor()

    def some(self, size: int) -> bytes:
        """Return up to ``size`` unpacked bytes."""
        while not self._unpack.eof:
            found = self._unpack.decompress(self._more() if self._unpack.needs_input else b"", size)
            if found:
                return found
        return b""

    def _more(self) -> bytes:
        left = BLOCK_BYTES if self._end is None else min(BLOCK_BYTES, self._end - self._at)
        self._file.seek(self._at)
        data = self._file.read(max(0, left))
        if not data:
            raise DecodeError("truncated")
        self._at += len(data)
        return data


# --- the process ----------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Return the exit code: 0 if the whole file was written, 1 if the input is not what it should be."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    algorithm, size, encoded, *rest = arguments
    try:
        _write(algorithm, int(size), Path(encoded), Path(rest[0]) if rest else None)
    except (DecodeError, OSError, ImportError, MemoryError) as error:
        sys.stderr.write(f"{algorithm}: {error or type(error).__name__}\n")
        return 1
    return 0


def _write(algorithm: str, size: int, encoded: Path, base: Path | None) -> None:
    with encoded.open("rb") as file:
        if base is None:
            _copy(pieces(algorithm, size, file, None))
            return
        with base.open("rb") as there:
            _copy(pieces(algorithm, size, file, there))


def _copy(made: Iterator[bytes]) -> None:
    for piece in made:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
