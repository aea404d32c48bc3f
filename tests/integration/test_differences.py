"""A new version travels in the smallest form that each device can take, and arrives the same on all."""

import json

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


@pytest.mark.slow
def test_each_device_takes_the_smallest_form_that_it_can(host, tmp_path, variants, newer_variants, monkeypatch):
    """With the old version a difference, without it the compressed files, without zstandard the files as they are."""
    model = (newer_variants / VARIANT / "model.tflite").read_bytes()
    size = len(model) + (newer_variants / "golden.npz").stat().st_size
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(WITHOUT_ZSTANDARD)
    old, new, plain = devices = [Device(tmp_path, host, f"pi-{i}") for i in (1, 2, 3)]
    try:
        first = host.publish(variants, "--version", "1", *CHOSEN)["variants"][0]["manifest"]
        old.start()
        confirmed(old, first)

        second = host.publish(newer_variants, "--version", "2", *CHOSEN)["variants"][0]["manifest"]
        by_difference = confirmed(old, second)
        compressed = confirmed(new.start(), second)
        monkeypatch.setenv("PYTHONPATH", str(blocked))
        as_it_is = confirmed(plain.start(), second)
        monkeypatch.delenv("PYTHONPATH")
        again = host.publish(newer_variants, "--version", "2", *CHOSEN)
        births = {d["device"]: d["birth"]["capabilities"] for d in host.ask("devices", "list", "--json").json()}
        for each in devices:
            each.stop()
    finally:
        for each in devices:
            each.end()

    assert [each.stored(second).read_bytes() == model for each in devices] == [True, True, True]
    assert by_difference < 0.75 * compressed
    assert compressed < 0.95 * size
    assert size <= as_it_is < size + 200
    assert (again["bytes_sent"], again["variants"][0]["manifest"]) == (0, second)
    assert "zstd" in births["pi-1"], json.dumps(births)
    assert "zstd" not in births["pi-3"]
