"""Chunks on their way into files: only what was asked for, only what hashes to its name, once."""

import pytest

from edgepick_agent.core.events import StoreFailed
from edgepick_agent.core.fetch import Chunk, Piece
from edgepick_agent.errors import StorageFullError
from edgepick_agent.loop.arrivals import Arrivals
from edgepick_wire.ids import digest_of
from fakes.storage import MemoryStorage

DATA = b"a chunk"
NAME = digest_of(DATA)
PIECES = {NAME: (Piece("a.part", 2, 7), Piece("b.part", 0, 7))}


class Disk(MemoryStorage):
    """Counts writes, and can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.writes, self.full = 0, False
        self.reserve("a.part", 9)
        self.reserve("b.part", 7)

    def write_at(self, name: str, offset: int, data: bytes | memoryview) -> None:
        if self.full:
            raise StorageFullError("full", hint="")
        self.writes += 1
        super().write_at(name, offset, data)


@pytest.fixture
def disk() -> Disk:
    """Provide a disk with both files reserved."""
    return Disk()


def arrivals(disk: Disk, told: list[StoreFailed]) -> Arrivals:
    """Return what waits for the one chunk."""
    made = Arrivals(disk, told.append)
    made.expect("m", PIECES)
    return made


def test_a_chunk_fills_every_place_that_it_belongs_to(disk: Disk) -> None:
    """What hashes to its name is written, from a buffer that may be used again at once."""
    buffer = bytearray(b"xx" + DATA)

    chunk = arrivals(disk, []).take(NAME, memoryview(buffer)[2:])
    buffer[:] = bytes(len(buffer))

    assert chunk == Chunk(NAME, 7, good=True)
    assert (disk.read("a.part"), disk.read("b.part")) == (b"\0\0" + DATA, DATA)


def test_wrong_bytes_are_told_and_not_written(disk: Disk) -> None:
    """A chunk that does not hash to its name touches no file."""
    chunk = arrivals(disk, []).take(NAME, b"other")

    assert chunk == Chunk(NAME, 5, good=False)
    assert disk.writes == 0


def test_nobody_hears_of_a_chunk_that_belongs_nowhere(disk: Disk) -> None:
    """Right or wrong, a chunk of another download is passed over."""
    made = arrivals(disk, [])

    assert made.take(digest_of(b"other"), b"other") is None
    assert disk.writes == 0


def test_a_chunk_that_comes_again_is_not_written_again(disk: Disk) -> None:
    """Whoever sends the same chunk for ever wears out no flash memory."""
    made = arrivals(disk, [])

    taken = [made.take(NAME, DATA) for _ in range(5)]

    assert taken == [Chunk(NAME, 7, good=True)] * 5
    assert disk.writes == len(PIECES[NAME])


def test_a_full_disk_is_told_and_the_chunk_is_taken_later(disk: Disk) -> None:
    """What could not be kept has not come: the download hears why, and the next delivery counts."""
    told: list[StoreFailed] = []
    made = arrivals(disk, told)
    disk.full = True

    lost = made.take(NAME, DATA)
    disk.full = False

    assert lost is None
    assert told == [StoreFailed("m", full=True, detail="full")]
    assert made.take(NAME, DATA) == Chunk(NAME, 7, good=True)


def test_another_download_ends_the_one_before(disk: Disk) -> None:
    """What a download that was given up had asked for is not written any more."""
    made = arrivals(disk, [])

    made.expect("n", {})

    assert made.take(NAME, DATA) is None
    assert disk.writes == 0
