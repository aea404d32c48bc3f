"""A broker that loses power: it comes back with what it had saved, which is less than it had acknowledged."""

import os
import signal
from pathlib import Path

import pytest

from edgepick_host import app
from edgepick_host.errors import UnreachableError
from edgepick_host.service.memory_check import what_is_lost
from fakes.agent_process import until
from fakes.host_site import FLEET, blob, missing_at, variant, write_variants

CHUNK = 65536


def one_variant(folder: Path, seed: int, chunks: int = 2) -> Path:
    content = blob(seed, chunks * CHUNK + 5000)
    return write_variants(folder, [(variant("float32", content), content)])


@pytest.fixture
def saving(broker):
    """Provide a broker that saves what it retains when it is told to, and at no other time."""
    if broker.kind != "mosquitto":
        pytest.skip("only mosquitto saves its memory")
    broker.stop()
    as_root = "user root\n" if os.geteuid() == 0 else ""  # else it could not write to a test's folder
    broker.extra = f"{as_root}persistence true\npersistence_location {broker.folder}/\nautosave_interval 100000"
    broker.start()
    return broker


def save(broker, mark: str) -> None:
    """Have the broker save everything, ``mark`` included (mosquitto(8): on SIGUSR1)."""
    database = broker.folder / "mosquitto.db"
    broker.process.send_signal(signal.SIGUSR1)
    until(lambda: database.exists() and mark.encode() in database.read_bytes(), "the broker has saved")


def lose_power(broker) -> None:
    broker.process.kill()
    broker.process.wait()
    broker.start()


def test_publishing_again_brings_back_what_a_crash_took(saving, site, edgepick):
    """What the broker had acknowledged after its last save, and lost, is sent again by the same command."""
    folders = {version: one_variant(site.folder / version, int(version)) for version in ("1", "2")}
    command = ("publish", "--broker", saving.url, "--json", "--version")
    first = edgepick(*command, "1", folders["1"]).json()["variants"][0]
    save(saving, first["manifest"])
    lost = edgepick(*command, "2", folders["2"]).json()["variants"][0]
    lose_power(saving)
    missing = missing_at(saving.url, site, lost["manifest"])

    again = edgepick(*command, "2", folders["2"]).json()["variants"][0]

    assert missing
    assert (again["manifest"], again["chunks_known"]) == (lost["manifest"], 0)
    assert missing_at(saving.url, site, again["manifest"]) == set()
    assert edgepick(*command, "2", folders["2"]).json()["bytes_sent"] == 0


def test_an_interrupted_publication_goes_on_at_a_broker_that_forgot_its_beginning(saving, site, edgepick, monkeypatch):
    """Chunks that were acknowledged before host and broker lost power together are not believed to be there."""
    command = ("publish", "--broker", saving.url, "--json", "--version")
    first = edgepick(*command, "1", one_variant(site.folder / "1", 1)).json()["variants"][0]
    save(saving, first["manifest"])
    large = one_variant(site.folder / "2", 2, chunks=20)

    def break_off(*_arguments) -> None:
        raise UnreachableError("the host lost power")

    with monkeypatch.context() as patch:
        patch.setattr("edgepick_host.service.publisher.Publisher._send_manifests", break_off)
        broken_off = edgepick(*command, "2", large)
    lose_power(saving)

    done = edgepick(*command, "2", large).json()["variants"][0]

    assert broken_off.code == 3
    assert done["chunks_known"] == 0
    assert missing_at(saving.url, site, done["manifest"]) == set()


def test_the_service_names_what_a_crash_took(saving, site, edgepick):
    """A version that devices need and whose manifest is gone is named, until it was published again."""
    folders = {version: one_variant(site.folder / version, int(version)) for version in ("1", "2")}
    command = ("publish", "--broker", saving.url, "--json", "--version")
    first = edgepick(*command, "1", folders["1"]).json()["variants"][0]
    save(saving, first["manifest"])
    edgepick(*command, "2", folders["2"])
    settings = site.settings(broker=saving.url)

    def said() -> str:
        with app.broker_of(settings) as connection, app.store_of(settings) as store:
            return what_is_lost(FLEET, store, connection)

    before = said()
    lose_power(saving)
    after = said()
    edgepick(*command, "2", folders["2"])

    assert before == said() == ""
    assert "it lacks digits 2, which devices still need" in after


def test_what_prune_has_cleared_is_not_taken_for_lost(saving, site, edgepick):
    """After a version was cleared, publishing goes on sending only what is new."""
    command = ("publish", "--broker", saving.url, "--json", "--activate", "float32", "--yes", "--version")
    for version in ("1", "2"):
        folder = one_variant(site.folder / version, int(version))
        edgepick(*command, version, folder)

    cleared = edgepick("prune", "--broker", saving.url, "--json").json()
    again = edgepick(*command, "2", folder).json()

    assert [r["version"] for r in cleared["releases"]] == ["1"]
    assert again["bytes_sent"] == 0
