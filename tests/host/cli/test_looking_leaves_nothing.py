import pytest


@pytest.mark.parametrize(
    "command",
    [("why", "digits"), ("replay",), ("rollout", "status"), ("rollout", "start", "digits", "--dry-run", "--yes")],
)
def test_looking_makes_no_database(site, edgepick, command):
    """A command that only reads says that nothing is there, and leaves the folder as it was."""
    before = sorted(p.name for p in site.folder.iterdir())

    done = edgepick(*command)

    assert done.code == 1
    assert "error:" in done.err
    assert sorted(p.name for p in site.folder.iterdir()) == before
