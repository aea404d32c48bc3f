"""What was computed before: whole or computed again, and never more than the cache may hold."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.compress.cache import Cache, key_of_work

KEY = key_of_work("test", {"a": 1})


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=200), place=st.integers(0, 231), bit=st.integers(0, 7))
def test_a_damaged_entry_is_not_read(tmp_path_factory, content, place, bit):
    """Any flipped bit makes an entry unknown, and it is gone afterwards."""
    folder = tmp_path_factory.mktemp("cache")
    cache = Cache(folder)
    cache.write(KEY, content)
    path = folder / KEY[:2] / KEY
    entry = bytearray(path.read_bytes())
    entry[place % len(entry)] ^= 1 << bit
    path.write_bytes(bytes(entry))

    assert cache.read(KEY) is None
    assert not path.exists()


@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=500), cut=st.integers(0, 531))
def test_a_cut_entry_is_not_read(tmp_path_factory, content, cut):
    """An entry that lost its end is unknown; a whole one comes back as it was."""
    folder = tmp_path_factory.mktemp("cache")
    cache = Cache(folder)
    cache.write(KEY, content)
    assert cache.read(KEY) == content
    path = folder / KEY[:2] / KEY
    entry = path.read_bytes()
    path.write_bytes(entry[: cut % len(entry)])

    assert cache.read(KEY) is None


def test_what_was_unused_for_longest_goes_first(tmp_path):
    """Pruning drops the oldest entries until the rest fits, and reading makes an entry young."""
    cache = Cache(tmp_path, largest_bytes=3 * 132)
    keys = [key_of_work("test", {"n": n}) for n in range(5)]
    for age, key in enumerate(keys):
        cache.write(key, bytes(100))
        os.utime(tmp_path / key[:2] / key, (age, age))
    cache.read(keys[0])

    dropped = cache.prune()

    assert dropped == 2
    assert [cache.read(key) is not None for key in keys] == [True, False, False, True, True]
    assert cache.facts().size_bytes <= 3 * 132


def test_no_folder_keeps_nothing(tmp_path):
    """Without a folder, and where the folder cannot be made, everything is unknown and nothing fails."""
    (tmp_path / "file").write_text("in the way")

    for cache in (Cache(None), Cache(tmp_path / "file" / "below")):
        cache.write(KEY, b"x")
        assert cache.read(KEY) is None
        assert cache.prune() == 0


def test_every_fact_is_part_of_the_key():
    """Another kind of work, another fact or another value is another entry; the order of facts is not."""
    keys = {key_of_work("a", {"x": 1, "y": 2}), key_of_work("b", {"x": 1, "y": 2}), key_of_work("a", {"x": 1, "y": 3})}

    assert len(keys) == 3
    assert key_of_work("a", {"y": 2, "x": 1}) in keys
