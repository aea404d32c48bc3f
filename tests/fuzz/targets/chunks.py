"""An index, and chunks that come for it: in any order, again, damaged, unasked for."""

from edgepick_agent.core import fetch as f
from edgepick_agent.core.settings import FetchSettings
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import DIGEST_BYTES, split_index

CHUNK = 16
SEEDS = [bytes([3]) + bytes(range(96)), bytes([1]) + bytes(64) + b"x" * 40, bytes([9]) * 300]


def one(data: bytes) -> None:
    """Fetch a file of the given chunks through a broker that the same bytes drive."""
    content = data[1 : 1 + 12 * CHUNK]
    chunks = [content[i : i + CHUNK] for i in range(0, len(content), CHUNK)]
    if not chunks:
        return
    index = b"".join(bytes.fromhex(digest_of(chunk)) for chunk in chunks)
    digests = split_index(index + data[:1])[: len(index) // DIGEST_BYTES]
    target = f.Target(name="file", size=len(content), chunk_size=CHUNK, digests=digests)
    fetch, asks = f.connected(f.begin([target], {}, FetchSettings(window=8)), 0.0)
    file, written = bytearray(len(content)), 0
    for now, (byte, chunk) in enumerate(zip(data * 2, chunks * 4, strict=False), 1):
        payload = chunk[:-1] + bytes([byte]) if byte & 1 else chunk
        came = f.Chunk(digest_of(chunk), len(payload), digest_of(payload) == digest_of(chunk))
        fetch, (arrival,) = f.accept_all(fetch, [came], float(now))
        for piece in arrival.pieces:
            assert piece.offset + piece.size <= len(file)
            assert digest_of(payload) == digest_of(content[piece.offset : piece.offset + piece.size])
            file[piece.offset : piece.offset + piece.size] = payload
            written += 1
        fetch, asks = f.pump(fetch, float(now))
        assert len(asks.subscribe) <= len(digests)
    assert written <= len(chunks)
    assert not fetch.finished or bytes(file) == content
