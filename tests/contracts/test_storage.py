"""What every storage promises: files on a disk, and the disk in memory that the power-cut tests use."""

import pytest

from edgepick_agent.adapters.storage import FileStorage
from edgepick_agent.errors import StorageError
from fakes.storage import CuttingStorage, FullStorage, MemoryStorage


@pytest.fixture(params=["files", "memory", "cutting", "full"])
def storage(request, tmp_path):
    if request.param == "files":
        return FileStorage(tmp_path)
    if request.param == "memory":
        return MemoryStorage()
    return CuttingStorage(MemoryStorage()) if request.param == "cutting" else FullStorage(MemoryStorage(), 10_000)


def test_what_was_written_is_read(storage):
    """A write replaces the whole file, in folders that need not exist."""
    storage.write("a/b/c", b"first, and long")
    storage.write("a/b/c", b"second")

    assert storage.read("a/b/c") == b"second"
    assert storage.size("a/b/c") == 6


def test_what_is_not_there_is_none_empty_or_nothing(storage):
    """Reading, sizing, listing and removing what does not exist is no error."""
    storage.remove("nothing")
    storage.remove("nowhere/nothing")

    assert storage.read("nothing") is None
    assert storage.size("nothing") is None
    assert storage.read_at("nothing", 0, 10) == b""
    assert list(storage.names("nowhere")) == []


def test_names_are_sorted_direct_and_without_temporary_files(storage):
    """A folder lists its files and folders once each, in order."""
    for name in ("f/b", "f/a", "f/deep/x", "f/deep/y", "g"):
        storage.write(name, b"x")

    assert list(storage.names("f")) == ["a", "b", "deep"]


def test_a_part_of_a_file_is_read(storage):
    """Reading at an offset stops at the end of the file."""
    storage.write("f", b"0123456789")

    assert storage.read_at("f", 3, 4) == b"3456"
    assert storage.read_at("f", 8, 100) == b"89"
    assert storage.read_at("f", 10, 1) == b""


def test_a_reserved_file_has_its_size_and_keeps_what_is_in_it(storage):
    """Reserving again neither shrinks nor clears; writing fills places in any order."""
    storage.reserve("d/part", 10)
    storage.write_at("d/part", 6, b"6789")
    storage.reserve("d/part", 10)
    storage.write_at("d/part", 0, b"01")
    storage.sync("d/part")

    assert storage.read("d/part") == b"01\0\0\0\0" + b"6789"


def test_reserving_cuts_a_file_that_is_too_long(storage):
    """A leftover of another size becomes exactly as long as asked."""
    storage.write("part", b"0123456789")

    storage.reserve("part", 4)

    assert storage.read("part") == b"0123"


def test_writing_into_a_file_that_is_not_there_is_an_error(storage):
    """Only a reserved file can be written into; the error is of the agent's own tree."""
    with pytest.raises(StorageError):
        storage.write_at("nothing", 0, b"x")


def test_a_moved_file_is_at_its_new_place_only(storage):
    """Moving replaces what is at the target."""
    storage.write("old", b"new content")
    storage.write("d/target", b"replaced")

    storage.move("old", "d/target")

    assert storage.read("d/target") == b"new content"
    assert storage.read("old") is None


def test_moving_what_is_not_there_is_an_error(storage):
    """A missing source is reported, and a target is not made."""
    with pytest.raises(StorageError):
        storage.move("nothing", "target")

    assert storage.read("target") is None


def test_a_linked_file_outlives_its_first_name(storage):
    """After a link either name may go; linking over an existing file replaces it."""
    storage.write("a", b"shared")
    storage.write("d/b", b"replaced")

    storage.link("a", "d/b")
    storage.remove("a")

    assert storage.read("d/b") == b"shared"


def test_replacing_a_linked_file_leaves_the_other_name_alone(storage):
    """A write never reaches through a second name."""
    storage.write("a", b"shared")
    storage.link("a", "b")

    storage.write("a", b"other")

    assert storage.read("b") == b"shared"


def test_a_whole_folder_is_removed(storage):
    """Removing a folder removes everything below it and nothing beside it."""
    for name in ("f/a", "f/deep/b", "fa"):
        storage.write(name, b"x")

    storage.remove("f")

    assert list(storage.names("f")) == []
    assert storage.read("fa") == b"x"


def test_space_is_told_and_names_lead_to_paths(storage):
    """Free space is a number of bytes, and a path ends as the name does."""
    assert storage.free_bytes() > 0
    assert storage.path("d/f").parts[-2:] == ("d", "f")
