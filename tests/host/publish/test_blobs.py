"""``edgepick blobs``: what the broker keeps, and who needs it."""

import pytest

from edgepick_host.cli.blobs import who_needs
from fakes.host_site import blob, variant, write_variants


@pytest.fixture
def published(broker, site, edgepick):
    """Two versions of a model on a broker, of which every device runs the first."""
    for version, more in (("1", ("--activate", "float32", "--yes")), ("2", ())):
        content = blob(int(version), 70_000)
        folder = write_variants(site.folder / version, [(variant("float32", content), content)])
        done = edgepick("publish", folder, "--broker", broker.url, "--version", version, *more)
        assert done.code == 0
    return broker


def test_every_variant_is_listed_with_its_size_and_who_needs_it(published, edgepick):
    """What runs names its target, what is newest says so, and the sizes are those of the files."""
    found = edgepick("blobs", "list", "--broker", published.url, "--json").json()["blobs"]

    needs = {b["version"]: b["needed_by"] for b in found}
    assert any(need.endswith("runs it") for need in needs["1"])
    assert "newest version" not in needs["1"]
    assert "newest version" in needs["2"]
    assert not any(need.endswith("runs it") for need in needs["2"])
    assert all(b["size_bytes"] >= 70_000 and b["chunks"] >= 2 for b in found)


def test_what_was_pruned_is_no_longer_listed(published, site, edgepick):
    """The list is the broker's own memory: what nobody needs is marked, and gone after `blobs prune`."""
    edgepick(
        *("publish", site.folder / "2", "--broker", published.url, "--version", "2"), "--activate", "float32", "--yes"
    )
    marked = edgepick("blobs", "list", "--broker", published.url).out
    edgepick("blobs", "prune", "--broker", published.url)

    after = edgepick("blobs", "list", "--broker", published.url, "--json").json()

    assert "nobody: may be pruned" in marked
    assert [b["version"] for b in after["blobs"]] == ["2"]


def test_many_devices_are_counted_instead_of_named():
    """Three devices are named; of more, which may each run and measure a variant, the number is told once."""
    few = ("device pi-1 runs it", "profile pi measures it")
    many = tuple(f"device pi-{n} {what} it" for n in range(4) for what in ("runs", "measures"))

    assert who_needs(few) == "device pi-1 runs it, profile pi measures it"
    assert who_needs((*many, "newest version")) == "newest version, 4 devices"
    assert who_needs(()) == "nobody: may be pruned"
