"""Chunks from wherever they come into the files that lack them, in the thread that receives them.

Rules:
- A chunk is written only if its bytes hash to its name, and only where the core said that it belongs.
- The core hears what came, not the bytes; one thread touches them, once (see ADR 28).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgepick_agent.core.events import StoreFailed
from edgepick_agent.core.fetch import Chunk, Piece
from edgepick_agent.errors import StorageError, StorageFullError
from edgepick_agent.ports import Storage
from edgepick_wire.ids import digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Download:
    """What one download lacks; ``written`` grows as it comes."""

    manifest: str
    pieces: Mapping[str, tuple[Piece, ...]]
    written: set[str] = field(default_factory=set)


class Arrivals:
    """Takes chunks in; the loop says which, any thread brings them.

    Args:
        storage: Where the reserved files are.
        sink: Hears that a chunk could not be written.
    """

    def __init__(self, storage: Storage, sink: Callable[[StoreFailed], None]) -> None:
        self._storage = storage
        self._sink = sink
        self._download = _Download(manifest="", pieces={})

    def expect(self, manifest: str, pieces: Mapping[str, tuple[Piece, ...]]) -> None:
        """Take the chunks of this download from now on, and no others; their files are reserved."""
        self._download = _Download(manifest=manifest, pieces=pieces)

    def take(self, digest: str, data: bytes | memoryview) -> Chunk | None:
        """Write what came as ``digest`` if it is that; ``None`` if nobody waits for it, or it cannot be kept."""
        download = self._download
        if digest not in download.pieces:
            return None
        good = digest in download.written or digest_of(data) == digest
        if good and digest not in download.written and not self._written(download, digest, data):
            return None
        return Chunk(digest, len(data), good)

    def _written(self, download: _Download, digest: str, data: bytes | memoryview) -> bool:
        try:
            for name, offset, size in download.pieces[digest]:
                self._storage.write_at(name, offset, data[:size])
        except StorageError as error:
            self._sink(StoreFailed(download.manifest, isinstance(error, StorageFullError), str(error)))
            return False
        download.written.add(digest)
        return True
