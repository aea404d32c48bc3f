"""``edgepick cache``: what is kept between compressions, and how to be rid of it."""

import json
import os

from edgepick_host.cli.main import run
from edgepick_host.compress.cache import Cache


def filled(folder) -> Cache:
    """Return a cache of four results of about 300 KiB, the first unused for longest."""
    cache = Cache(folder)
    for number in range(4):
        key = f"{number:064x}"
        cache.write(key, bytes(300 << 10))
        os.utime(folder / key[:2] / key, (number, number))
    return cache


def test_show_counts_what_is_there(tmp_path, capsys):
    """The number of results, their size and the folder; a folder that does not exist yet holds none."""
    filled(tmp_path / "full")

    assert run(["cache", "show", "--cache", str(tmp_path / "full"), "--json"]) == 0
    full = json.loads(capsys.readouterr().out)
    assert run(["cache", "show", "--cache", str(tmp_path / "none")]) == 0

    assert (full["entries"], full["folder"]) == (4, str(tmp_path / "full"))
    assert full["size_bytes"] > 4 * (300 << 10)
    assert capsys.readouterr().out.startswith("0 results")
    assert not (tmp_path / "none").exists()


def test_prune_drops_what_was_unused_for_longest(tmp_path, capsys):
    """With --to, the newest results stay; without, none does."""
    cache = filled(tmp_path)

    assert run(["cache", "prune", "--cache", str(tmp_path), "--to", "0.7"]) == 0
    assert capsys.readouterr().out.startswith("dropped 2 results; 2 results")
    assert cache.read(f"{3:064x}") is not None
    assert cache.read(f"{0:064x}") is None

    assert run(["cache", "prune", "--cache", str(tmp_path)]) == 0
    assert cache.facts().entries == 0
