"""Files cut into chunks: what the manifest says must rebuild exactly the file."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.chunking import cut, describe
from edgepick_wire import limits
from edgepick_wire.errors import LimitError
from edgepick_wire.manifest import split_index

SIZES = st.sampled_from([512, 1024, 65536])


@given(data=st.binary(min_size=1, max_size=6000), chunk_size=SIZES)
def test_index_rebuilds_the_file(data, chunk_size):
    """The chunks that the index lists, fetched by digest, are the file."""
    chunks = {hashlib.sha256(part).hexdigest(): part for part in cut(data, chunk_size)}

    found = describe("model.tflite", cut(data, chunk_size), chunk_size=chunk_size)
    listed = split_index(b"".join(found.index))

    assert b"".join(chunks[digest] for digest in listed) == data
    assert listed == found.chunks
    assert found.entry.sha256 == hashlib.sha256(data).hexdigest()
    assert found.entry.size == len(data)
    assert [hashlib.sha256(part).hexdigest() for part in found.index] == list(found.entry.index)


def test_index_of_a_large_file_is_itself_cut():
    """A file with many chunks has an index of several chunks, none larger than a chunk."""
    data = bytes(512 * 40)

    found = describe("model.tflite", cut(data, 512), chunk_size=512)

    assert [len(part) for part in found.index] == [512, 512, 256]
    assert len(set(found.chunks)) == 1


def test_empty_file_is_refused():
    """A file without a byte cannot be published."""
    with pytest.raises(LimitError, match="0 bytes"):
        describe("model.tflite", [])


def test_one_chunk_is_in_memory_at_a_time():
    """Describing asks for one chunk, and lets go of it before it asks for the next."""
    alive: list[int] = []

    class Chunk(bytes):
        def __del__(self) -> None:
            alive.remove(id(self))

    def chunks():
        for _ in range(5):
            chunk = Chunk(limits.MIN_CHUNK_BYTES)
            alive.append(id(chunk))
            yield chunk
            del chunk
            assert len(alive) <= 1

    assert describe("model.tflite", chunks(), chunk_size=limits.MIN_CHUNK_BYTES).entry.chunks == 5
