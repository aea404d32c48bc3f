"""Encoded forms of files: compressed whole, or as the difference to a file that devices have. Pure.

Which form is worth its bytes is decided by its measured size, never by what it is good for in theory.
PROTOCOL.md, section 4, describes the formats; a device decodes with code of its own.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from edgepick_wire.manifest import ALIGNED, BSDIFF, ZSTD

MAGIC = b"EPD1"
HEADER = struct.Struct("<4sI")
SEGMENT = struct.Struct("<QqB")
NOWHERE = -1
BLOCK_BYTES = 65536
WORTH = 0.95
"""An encoded form above this share of what it replaces costs the broker and the devices more than it saves."""
HOPELESS = 0.98
"""A file that the quickest level leaves above this share is not tried with the slow one."""
LEVELS = ((8 * 1024 * 1024, 19), (64 * 1024 * 1024, 9))
"""Largest file -> zstd level: some seconds of one core each; larger files take level 3."""
WINDOW_LOG = 23
"""Bounds what a device needs for decoding to 8 MiB."""
BSDIFF_MAX_BYTES = 4 * 1024 * 1024
"""bsdiff takes 17 times the file in memory, and some seconds per MiB."""

Array = np.ndarray[Any, np.dtype[Any]]


class Tensor(NamedTuple):
    """Where a constant lies in a model file: its name, its place, and the bytes of one of its numbers."""

    name: str
    offset: int
    size: int
    width: int


FindTensors = Callable[[bytes], Sequence[Tensor]]
"""``(file) -> its tensors``, in no order; empty for a format that is not known."""


class Segment(NamedTuple):
    """A stretch of the target and where it begins in the base (``NOWHERE``: nowhere)."""

    size: int
    base: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An encoded form.

    Attributes:
        algorithm: As it is called on the wire.
        window_bytes: Memory that decoding needs beside the files.
    """

    algorithm: str
    data: bytes
    window_bytes: int = 0


# --- choosing -------------------------------------------------------------------------------------


def compressed(target: bytes) -> Encoded | None:
    """Return the file compressed whole, or ``None`` if that does not save 5 %."""
    if len(zstd(target, level=1)) > HOPELESS * len(target):
        return None
    made = Encoded(algorithm=ZSTD, data=zstd(target), window_bytes=1 << WINDOW_LOG)
    return made if len(made.data) <= WORTH * len(target) else None


def difference(target: bytes, base: bytes, find_tensors: FindTensors, *, below: int) -> Encoded | None:
    """Return the smallest difference, or ``None`` if none is 5 % smaller than ``below`` bytes and right.

    Every candidate is decoded again before it counts.
    """
    if not base or target == base:
        return None
    ranked = sorted(candidates(target, base, find_tensors).values(), key=lambda made: len(made.data))
    best = next((made for made in ranked if decoded(made, base) == target), None)
    return best if best is not None and len(best.data) <= WORTH * below else None


def candidates(target: bytes, base: bytes, find_tensors: FindTensors) -> Mapping[str, Encoded]:
    """Return every difference that there is a way to make, by what made it."""
    found = {f"words-{width}": _aligned(target, base, plain(target, base, width)) for width in (1, 2, 4)}
    matched = match(target, find_tensors(target), find_tensors(base), len(base))
    if matched:
        found["tensors"] = _aligned(target, base, matched)
        # Numbers that hardly change are the same bytes, in which plain subtraction finds longer runs.
        found["tensor-bytes"] = _aligned(target, base, [s._replace(width=1) for s in matched])
    if max(len(target), len(base)) <= BSDIFF_MAX_BYTES:
        found["bsdiff"] = Encoded(algorithm=BSDIFF, data=bsdiff(target, base), window_bytes=len(base))
    return found


def _aligned(target: bytes, base: bytes, segments: Sequence[Segment]) -> Encoded:
    data = zstd(script(target, base, segments))
    return Encoded(algorithm=ALIGNED, data=data, window_bytes=1 << WINDOW_LOG)


def zstd(data: bytes, level: int | None = None) -> bytes:
    """Return one Zstandard frame."""
    import zstandard

    chosen = level or next((found for size, found in LEVELS if len(data) <= size), 3)
    settings = zstandard.ZstdCompressionParameters.from_level(chosen, source_size=len(data), window_log=WINDOW_LOG)
    made: bytes = zstandard.ZstdCompressor(compression_params=settings).compress(data)
    return made


def bsdiff(target: bytes, base: bytes) -> bytes:
    """Return a patch in the format ``BSDIFF40``."""
    import bsdiff4

    made: bytes = bsdiff4.diff(base, target)
    return made


# --- what belongs to what -------------------------------------------------------------------------


def plain(target: bytes, base: bytes, width: int) -> list[Segment]:
    """Return the segments of a target that lies like its base: as far as both reach, then from nowhere."""
    common = min(len(target), len(base)) // width * width
    return _without_empty([Segment(common, 0, width), Segment(len(target) - common, NOWHERE, 1)])


def match(target: bytes, tensors: Sequence[Tensor], base: Sequence[Tensor], base_size: int) -> list[Segment]:
    """Return the segments of a target whose tensors have moved; empty if no tensor is in both files.

    What lies between the tensors is taken from the same distance before the next one in the base.
    """
    there = {(t.name, t.size, t.width): t.offset for t in base}
    pairs = [(t, there[t.name, t.size, t.width]) for t in _apart(tensors) if (t.name, t.size, t.width) in there]
    found: list[Segment] = []
    position = 0
    for tensor, origin in pairs:
        found += _gap(tensor.offset - position, origin)
        whole = tensor.size // tensor.width * tensor.width
        found += [Segment(whole, origin, tensor.width), Segment(tensor.size - whole, origin + whole, 1)]
        position = tensor.offset + tensor.size
    rest = len(target) - position
    return _without_empty([*found, *_gap(rest, base_size)]) if pairs else []


def _apart(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors in file order; of two that overlap, the first."""
    ordered = sorted(tensors, key=lambda t: (t.offset, t.size))
    kept = ordered[:1]
    for _, tensor in pairwise(ordered):
        if tensor.offset >= kept[-1].offset + kept[-1].size:
            kept.append(tensor)
    return kept


def _gap(size: int, end: int) -> list[Segment]:
    """Return the ``size`` bytes that end at ``end`` of the base; what would lie before it is from nowhere."""
    known = min(size, end)
    return [Segment(size - known, NOWHERE, 1), Segment(known, end - known, 1)]


def _without_empty(segments: Sequence[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.size]


# --- the format -----------------------------------------------------------------------------------


def script(target: bytes, base: bytes, segments: Sequence[Segment]) -> bytes:
    """Return the script of a target: what its segments are, and what is left after subtracting the base."""
    parts = [HEADER.pack(MAGIC, len(segments)), *(SEGMENT.pack(*segment) for segment in segments)]
    position = 0
    for size, origin, width in segments:
        piece = target[position : position + size]
        parts.append(piece if origin == NOWHERE else _residual(piece, base[origin : origin + size], width))
        position += size
    return b"".join(parts)


def _residual(target: bytes, base: bytes, width: int) -> bytes:
    kind = np.dtype(f"<u{width}")
    left = np.frombuffer(target, kind) - np.frombuffer(base, kind)
    if width == 1:
        return bytes(left.data)
    signed = left.view(np.dtype(f"<i{width}"))
    zigzag = ((signed << 1) ^ (signed >> (8 * width - 1))).view(kind)
    step = BLOCK_BYTES // width
    return b"".join(_planes(zigzag[at : at + step], width) for at in range(0, len(zigzag), step))


def _planes(words: Array, width: int) -> bytes:
    return bytes(np.ascontiguousarray(words.view(np.uint8).reshape(-1, width).T).data)


def decoded(made: Encoded, base: bytes = b"") -> bytes:
    """Return the file again, whole in memory: the publisher's own proof of an encoded form."""
    import zstandard

    if made.algorithm == BSDIFF:
        import bsdiff4

        patched: bytes = bsdiff4.patch(base, made.data)
        return patched
    data: bytes = zstandard.ZstdDecompressor().decompress(made.data)
    return data if made.algorithm == ZSTD else _replayed(data, base)


def _replayed(data: bytes, base: bytes) -> bytes:
    _, count = HEADER.unpack_from(data)
    segments = [Segment(*SEGMENT.unpack_from(data, HEADER.size + i * SEGMENT.size)) for i in range(count)]
    position = HEADER.size + count * SEGMENT.size
    parts = []
    for size, origin, width in segments:
        piece = data[position : position + size]
        parts.append(piece if origin == NOWHERE else _restored(piece, base[origin : origin + size], width))
        position += size
    return b"".join(parts)


def _restored(residual: bytes, base: bytes, width: int) -> bytes:
    kind = np.dtype(f"<u{width}")
    words = np.frombuffer(residual, kind) if width == 1 else _words(residual, width)
    return bytes((words + np.frombuffer(base, kind)).astype(kind).data)


def _words(residual: bytes, width: int) -> Array:
    kind = np.dtype(f"<u{width}")
    blocks = [residual[at : at + BLOCK_BYTES] for at in range(0, len(residual), BLOCK_BYTES)]
    planes = [np.frombuffer(b, np.uint8).reshape(width, -1).T for b in blocks]
    zigzag = np.concatenate([np.ascontiguousarray(p).reshape(-1).view(kind) for p in planes])
    words: Array = (zigzag >> 1) ^ (0 - (zigzag & 1)).astype(kind)
    return words
