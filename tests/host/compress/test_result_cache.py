"""What was computed before: whole or computed again, and never more than the cache may hold."""

import os
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.compress.cache import ABANDONED_SECONDS, Cache, key_of_work

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


def test_what_another_run_drops_is_no_error(tmp_path, monkeypatch):
    """Entries that go before they are looked at, or right afterwards, make nothing fail."""
    cache = Cache(tmp_path)
    looked_at, unseen, kept = (tmp_path / key[:2] / key for key in (key_of_work("test", {"n": n}) for n in range(3)))

    def listing(*_):
        yield looked_at
        looked_at.unlink()
        unseen.unlink()
        yield from (unseen, kept)

    def write_all() -> None:
        for path in (looked_at, unseen, kept):
            cache.write(path.name, bytes(100))

    monkeypatch.setattr(Path, "glob", listing)

    write_all()
    facts = cache.facts()
    write_all()
    cache.prune(0)

    assert (facts.entries, facts.size_bytes) == (2, 2 * 132)
    assert not kept.exists()


def test_what_is_being_written_is_no_entry(tmp_path):
    """An unfinished file is neither counted nor dropped, until it is so old that its run must have been killed."""
    cache = Cache(tmp_path)
    unfinished = tmp_path / KEY[:2] / ".unfinished"
    unfinished.parent.mkdir()
    unfinished.write_bytes(bytes(100))

    young = (cache.facts().entries, cache.prune(0), unfinished.exists())
    os.utime(unfinished, (time.time() - ABANDONED_SECONDS - 60,) * 2)
    old = (cache.facts().entries, cache.prune(0), unfinished.exists())

    assert young == (0, 0, True)
    assert old == (1, 1, False)
