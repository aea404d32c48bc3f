"""``edgepick prune``: what nothing needs is cleared, and nothing else."""

import pytest

from edgepick_host import app
from fakes.host_site import FLEET, blob, variant, write_variants

ROOT = f"edgepick/1/{FLEET}"


def one_variant(folder, seed: int):
    content = blob(1, 65536) + blob(10 + seed, 70_000)  # the first chunk is the same in every version
    return write_variants(folder, [(variant("float32", content), content)])


@pytest.fixture
def published(broker, site, edgepick):
    """Two versions of a model on a broker; the first is what devices run."""
    for version in ("1", "2"):
        folder = one_variant(site.folder / version, int(version))
        done = edgepick("publish", folder, "--broker", broker.url, "--version", version)
        assert done.code == 0
    return broker


def retained(broker, site) -> set[str]:
    with app.broker_of(site.settings(broker=broker.url)) as connection:
        return set(connection.retained([f"{ROOT}/#"]))


def test_what_runs_and_what_is_newest_stay(published, site, edgepick):
    """With the first version running and the second being the newest, nothing is cleared."""
    before = retained(published, site)

    done = edgepick("prune", "--broker", published.url, "--json").json()

    assert (done["releases"], done["chunks"]) == ([], 0)
    assert retained(published, site) == before


def test_version_that_nobody_runs_is_cleared(published, site, edgepick):
    """After everyone was moved to the second version, the first is cleared but for what both share."""
    folder = site.folder / "2"
    edgepick("publish", folder, "--broker", published.url, "--version", "2", "--activate", "float32", "--yes")
    before = retained(published, site)

    foretold = edgepick("prune", "--broker", published.url, "--dry-run", "--json").json()
    untouched = retained(published, site)
    done = edgepick("prune", "--broker", published.url, "--json").json()
    after = retained(published, site)

    assert untouched == before
    assert [r["version"] for r in done["releases"]] == ["1"]
    assert (foretold["chunks"], foretold["releases"]) == (done["chunks"], done["releases"])
    assert len(before) - len(after) == done["chunks"] + 1
    assert done["chunks"] == 3  # two chunks and the index of the first version; the shared chunk stays
    assert f"{ROOT}/m/{done['releases'][0]['manifest']}" not in after


def test_cleared_version_comes_back(published, site, edgepick):
    """A version that was cleared is sent again when it is published again."""
    edgepick(
        *("publish", site.folder / "2", "--broker", published.url, "--version", "2"), "--activate", "float32", "--yes"
    )
    edgepick("prune", "--broker", published.url)

    done = edgepick("publish", site.folder / "1", "--broker", published.url, "--version", "1", "--json").json()

    assert done["variants"][0]["chunks_new"] == 3
    assert f"{ROOT}/m/{done['variants'][0]['manifest']}" in retained(published, site)


def test_broker_that_lacks_something_is_left_alone(published, site, edgepick):
    """If the broker lost a chunk list that is needed, nothing is cleared and the message says what to publish."""
    published.stop()
    published.start()

    done = edgepick("prune", "--broker", published.url)

    assert done.code == 1
    assert "lacks chunks of digits" in done.err
    assert "--republish" in done.err
