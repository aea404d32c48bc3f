"""A new version travels in the smallest form that each device can take, and arrives the same on all."""

import json
import os

import pytest

from integration.whole_system import Device, until

VARIANT = "static_wi8_ai8-tflite"
CHOSEN = ("--variant", VARIANT, "--activate", VARIANT, "--no-measure", "--yes")
WITHOUT_ZSTANDARD = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "zstandard" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


def confirmed(device: Device, manifest: str) -> int:
    """Return the bytes that installing a variant took over the network, once it is confirmed."""
    until(lambda: device.confirmed(manifest), f"{device.name} confirms")
    found = [r.install for r in device.waiting_reports() if r.install and r.install.manifest == manifest]
    return found[-1].bytes_fetched


@pytest.fixture
def without_zstandard(tmp_path, monkeypatch):
    """Return a function that starts a device whose Python has no zstandard."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(WITHOUT_ZSTANDARD)

    def start(device: Device) -> Device:
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(blocked), prepend=os.pathsep)
            return device.start()

    return start


@pytest.mark.slow
def test_each_device_takes_the_smallest_form_that_it_can(host, tmp_path, variants, newer_variants):
    """With the old version a difference, without it the compressed files; the file itself is not published."""
    model = (newer_variants / VARIANT / "model.tflite").read_bytes()
    size = len(model) + (newer_variants / "golden.npz").stat().st_size
    old, new = devices = [Device(tmp_path, host, f"pi-{i}") for i in (1, 2)]
    try:
        first = host.publish(variants, "--version", "1", *CHOSEN)["variants"][0]["manifest"]
        old.start()
        confirmed(old, first)

        done = host.publish(newer_variants, "--version", "2", "--upload", "2", *CHOSEN)
        second = done["variants"][0]["manifest"]
        by_difference = confirmed(old, second)
        compressed = confirmed(new.start(), second)
        again = host.publish(newer_variants, "--version", "2", *CHOSEN)
        for each in devices:
            each.stop()
    finally:
        for each in devices:
            each.end()

    assert [each.stored(second).read_bytes() == model for each in devices] == [True, True]
    assert by_difference < 0.75 * compressed
    assert compressed < 0.95 * size
    assert done["bytes_sent"] < 2 * size
    assert (again["bytes_sent"], again["variants"][0]["manifest"]) == (0, second)


@pytest.mark.slow
def test_a_device_that_cannot_decode_says_so_and_takes_the_plain_files(host, tmp_path, variants, without_zstandard):
    """It refuses what is published compressed and names the way out; published plain, it installs."""
    size = (variants / VARIANT / "model.tflite").stat().st_size + (variants / "golden.npz").stat().st_size
    device = Device(tmp_path, host, "pi-3")
    try:
        sent = host.publish(variants, "--version", "1", *CHOSEN)["bytes_sent"]
        without_zstandard(device)
        until(lambda: refusals(host, "pi-3"), "the device refuses")
        (refusal,) = refusals(host, "pi-3")

        plain = host.publish(variants, "--version", "1", "--plain", *CHOSEN)["variants"][0]["manifest"]
        as_it_is = confirmed(device, plain)
        births = {d["device"]: d["birth"]["capabilities"] for d in host.ask("devices", "list", "--json").json()}
        device.stop()
    finally:
        device.end()

    assert (refusal["code"], "zstd" in refusal["detail"]) == ("unknown-requirement", True)
    assert "--plain" in refusal["hint"]
    assert sent < size <= as_it_is < size + 200
    assert "zstd" not in births["pi-3"], json.dumps(births)


def refusals(host, name: str) -> list[dict[str, str]]:
    """Return why a device does not run what it should, as it reports it."""
    found = [d for d in host.ask("devices", "list", "--json").json() if d["device"] == name]
    models = [m for d in found if d["reported"] for m in d["reported"]["models"]]
    return [m["refusal"] for m in models if m["refusal"]]
