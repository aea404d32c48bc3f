"""Files at an HTTPS site and at the broker, the publisher gone: real agents take the one, and do without it."""

import re

import pytest

from edgepick_wire.ids import digest_of
from fakes.https_site import HttpsSite
from integration.whole_system import Device, until

VARIANT = "float32-tflite"


@pytest.fixture
def site(tmp_path, variants):
    """Provide a site where the operator has put the files."""
    folder = tmp_path / "site"
    folder.mkdir()
    found = [path.read_bytes() for path in variants.rglob("*") if path.is_file()]
    made = HttpsSite(folder, {digest_of(data): data for data in found})
    yield made
    made.close()


@pytest.fixture
def published(host, site, variants):
    """Provide the manifest of a publication that names the site; its command has ended, and no service runs."""
    done = host(
        *("publish", variants, "--broker", host.url, "--variant", VARIANT, "--activate", VARIANT),
        *("--source", site.template, "--no-measure", "--plain", "--yes", "--json"),
        SSL_CERT_FILE=str(site.ca_file),
    )
    assert done.code == 0, done.err
    site.asked.clear()
    return str(done.json()["variants"][0]["manifest"])


@pytest.fixture
def taker(device, site):
    """Provide a device that prefers HTTPS."""
    wanted = f'[fetch]\nsources = ["https", "mqtt"]\nca_file = "{site.ca_file}"\n'
    device.config.write_text(device.config.read_text().replace("[fetch]\n", wanted))
    return device


def came(device: Device) -> tuple[int, int]:
    """Return how many bytes came over HTTPS and over MQTT, by the agent's log."""
    ((https, mqtt),) = re.findall(r"(\d+) bytes came over HTTPS, (\d+) over MQTT", device.log())
    return int(https), int(mqtt)


def size(device: Device, manifest: str) -> int:
    return sum(path.stat().st_size for path in device.stored(manifest).parent.iterdir() if path.suffix != ".json")


def test_the_site_brings_the_files_and_the_broker_the_words(published, taker, site):
    """With nobody there who published, every file comes from the site, verified, and the variant is confirmed."""
    taker.start()
    until(lambda: taker.confirmed(published), "confirmed")

    assert came(taker) == (size(taker, published), 0)
    assert site.asked
    assert taker.answers() >= 0.75


def test_a_site_that_dies_in_the_middle_is_replaced_by_the_broker(published, taker, site):
    """What came whole from the site is kept, the rest comes over MQTT: together every byte once."""
    site.fault = "dies"
    taker.start()
    assert site.half_sent.wait(60)

    site.close()
    until(lambda: taker.confirmed(published), "confirmed")

    by_https, by_mqtt = came(taker)
    assert by_https > 0
    assert by_mqtt > 0
    assert by_https + by_mqtt == size(taker, published)
    assert "on over MQTT" in taker.log()
    assert taker.answers() >= 0.75


def test_a_site_that_is_not_there_holds_nothing_up(published, taker, site):
    """The log says what is wrong with it, and MQTT brings it all."""
    site.close()

    taker.start()
    until(lambda: taker.confirmed(published), "confirmed")

    assert came(taker) == (0, size(taker, published))
    assert "on over MQTT" in taker.log()
