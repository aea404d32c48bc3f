"""Chunks from an HTTPS source: the same hashes, the same file, and the broker where it fails."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_agent.adapters.https_source import HttpsSource
from edgepick_agent.core.settings import FetchSettings
from edgepick_wire.messages import Phase
from fakes.agent_bench import SETTINGS, Bench
from fakes.host_stand_in import bundle
from fakes.https_site import HttpsSite

LARGE = bundle("2", model_size=300_000)
DEADLINE_SECONDS = 60.0
SILENCE_SECONDS = 30.0
"""More than a machine stands still for: only where the site is to say nothing for too long is it less."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[HttpsSite]:
    """Provide a server that has the bundle's files."""
    made = HttpsSite(tmp_path, {entry.sha256: LARGE.files[entry.name] for entry in LARGE.content.files})
    yield made
    made.close()


def bench(site: HttpsSite, *sources: str, **changes: object) -> Bench:
    """Return a device that asks ``site``."""
    fetch = FetchSettings(
        window=8,
        timeout_seconds=SILENCE_SECONDS,
        retries=3,
        sources=sources or ("https", "mqtt"),
        site_cache=site.template,
        ca_file=str(site.ca_file),
    )
    made = Bench(settings=replace(SETTINGS, fetch=replace(fetch, **changes)))  # type: ignore[arg-type]
    made.range_source = HttpsSource
    return made


def until(device: Bench, reached: Callable[[], bool]) -> None:
    """Handle what comes; the device's time passes about as ours does."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "\n".join(device.log[-9:])
        device.turn()
        device.clock.advance(0.002)
        time.sleep(0.002)


def installed(device: Bench) -> bool:
    return device.storage.read(f"store/{LARGE.digest}/manifest") is not None or any(
        "came over HTTPS" in line for line in device.log
    )


def chunks_by_mqtt(device: Bench) -> int:
    return sum("/c/" in topic for topic in device.broker.delivered)


def test_the_preferred_source_brings_the_file_and_the_broker_only_the_index(site):
    """All of the files comes over HTTPS, on one connection, and the variant is confirmed."""
    device = bench(site).boot()
    device.host.publish(LARGE)
    device.host.want(LARGE)

    until(device, lambda: installed(device))
    device.run(20)

    assert device.model().phase is Phase.CONFIRMED
    indexes = sum(len(entry.index) for entry in LARGE.content.files)
    assert chunks_by_mqtt(device) == indexes
    assert any(f"{LARGE.content.size} bytes came over HTTPS, 0 over MQTT" in line for line in device.log)
    assert site.connections == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "status 404"),
        ("no ranges", "does not serve ranges"),
        ("wrong bytes", "other bytes"),
        ("cut", "ended in the middle"),
        ("stall", "nothing came for"),
        ("redirect", "not https"),
    ],
)
def test_a_source_that_fails_is_named_and_the_broker_brings_the_rest(site, fault, said):
    """Whatever the source does wrong, the variant is installed over MQTT, and the log says what it was."""
    site.fault = fault
    device = bench(site, timeout_seconds=2.0 if fault == "stall" else SILENCE_SECONDS).boot()
    device.host.publish(LARGE)
    device.host.want(LARGE)

    until(device, lambda: installed(device))
    device.run(20)

    assert device.model().phase is Phase.CONFIRMED
    assert any(said in line and "on over MQTT" in line for line in device.log)
    assert len(site.asked) == 1


def test_a_server_nobody_vouches_for_is_not_asked(site, tmp_path):
    """Without the site's CA the handshake fails, and MQTT does it all."""
    device = bench(site, ca_file=None).boot()
    device.host.publish(LARGE)
    device.host.want(LARGE)

    until(device, lambda: installed(device))
    device.run(20)

    assert site.asked == []
    assert any("TLS:" in line for line in device.log)
    assert device.model().phase is Phase.CONFIRMED


def test_behind_the_broker_a_source_brings_what_the_broker_does_not_have(site):
    """Chunks that were never published come from the source once they are known to be missing."""
    device = bench(site, "mqtt", "https").boot()
    without = [d for d in LARGE.chunks if not any(d in entry.index for entry in LARGE.content.files)][:3]
    kept = replace(LARGE, chunks={d: data for d, data in LARGE.chunks.items() if d not in without})
    device.host.publish(kept)
    device.host.want(LARGE)

    for _ in range(200):
        if not device.incidents:
            device.run(0.5)
    until(device, lambda: installed(device))
    device.run(20)

    assert device.model().phase is Phase.CONFIRMED
    assert 1 <= len(site.asked) <= len(without)


def broken_off(site: HttpsSite) -> Bench:
    """Return a device in the middle of a file that only the source has."""
    site.fault = "cut"
    device = bench(site).boot()
    device.host.publish(replace(LARGE, chunks={d: c for d, c in LARGE.chunks.items() if _is_index(d)}))
    device.host.want(LARGE)
    until(device, lambda: any("on over MQTT" in line for line in device.log))

    site.fault = ""
    return device


def test_after_a_crash_only_the_missing_ranges_are_asked_for(site):
    """What lies on disk is not fetched again, from whatever source it came."""
    device = broken_off(site)

    device.broker.clients.clear()
    device.boot()
    until(device, lambda: installed(device))
    device.run(20)

    assert device.model().phase is Phase.CONFIRMED
    assert not site.asked[1].startswith("bytes=0-")


def test_after_a_power_cut_the_source_brings_what_was_lost(site):
    """Chunks that had not reached the disk are found to be missing, and are fetched again."""
    device = broken_off(site)

    device.cut_power()
    device.boot()
    until(device, lambda: installed(device))
    device.run(20)

    assert device.model().phase is Phase.CONFIRMED


def _is_index(digest: str) -> bool:
    return any(digest in entry.index for entry in LARGE.content.files)


def test_a_rate_limit_holds_for_ranges_too(site):
    """Nothing is asked for while the bytes of the last second are paid for."""
    device = bench(site, bytes_per_second=50_000).boot()
    device.host.publish(LARGE)
    device.host.want(LARGE)

    until(device, lambda: len(site.asked) == 1)
    for _ in range(20):
        device.turn()
        time.sleep(0.002)
    device.loop.close_source()

    assert len(site.asked) == 1
