"""Files cut into chunks that are addressed by their own digest, and the index that lists them. Pure."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edgepick_wire import limits
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import FileEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedFile:
    """A file as it travels.

    Attributes:
        entry: What the manifest says about it.
        chunks: Digests of its chunks, in file order; one may occur several times.
        index: The chunks of its index, in order.
    """

    entry: FileEntry
    chunks: tuple[str, ...]
    index: tuple[bytes, ...]


def describe(name: str, chunks: Iterable[bytes], *, chunk_size: int = limits.CHUNK_BYTES) -> ChunkedFile:
    """Return how a file travels, having looked at one chunk at a time.

    Args:
        name: Its name in the bundle.
        chunks: Its content in pieces of ``chunk_size`` bytes; the last may be shorter.
        chunk_size: Bytes per chunk.

    Raises:
        LimitError: Empty, too large, or chunks of a size that may not travel.
        BadNameError: The name is not allowed.
    """
    whole = hashlib.sha256()
    size = 0
    digests: list[str] = []
    for chunk in chunks:
        whole.update(chunk)
        size += len(chunk)
        digests.append(digest_of(chunk))
    index = tuple(cut(b"".join(bytes.fromhex(d) for d in digests), chunk_size))
    entry = FileEntry(
        name=name,
        size=size,
        sha256=whole.hexdigest(),
        chunk_size=chunk_size,
        index=tuple(digest_of(part) for part in index),
    )
    return ChunkedFile(entry=entry, chunks=tuple(digests), index=index)


def cut(data: bytes, chunk_size: int) -> Iterator[bytes]:
    """Yield ``data`` in pieces of ``chunk_size`` bytes; the last may be shorter."""
    for start in range(0, len(data), chunk_size):
        yield data[start : start + chunk_size]
