"""A device whose root is read-only, as boards' images are: only the state directory can be written."""

import os
import subprocess
import sys

import pytest

from integration.whole_system import until

SCRIPT = 'mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"'
CLOSED = (*(("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")), "sh", "-c", SCRIPT, "closed")


def is_possible(folder) -> bool:
    """Return whether this machine lets us make the root read-only for one process, and it is then."""
    probe = (
        f"import errno, pathlib\ntry: pathlib.Path({str(folder / 'x')!r}).touch()\nexcept OSError as e: print(e.errno)"
    )
    (folder / "probe").mkdir()
    words = [*CLOSED, str(folder / "probe"), sys.executable, "-c", probe]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == "30"


def test_an_agent_works_where_only_its_state_can_be_written(host, device, variants, tmp_path, monkeypatch):
    """It installs, tries, confirms, serves and updates, and asks for no other place to write in."""
    if not is_possible(tmp_path):
        pytest.skip("a read-only root needs mount namespaces")
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):  # it writes beside the sources
        monkeypatch.delenv(name, raising=False)
    device.state.mkdir()
    device.within = (*CLOSED, str(device.state))
    first = host.publish(variants, "--version", "1", "--no-measure", "--variant", "static_wi8_ai8-tflite")
    device.start()
    until(lambda: device.confirmed(first["variants"][0]["manifest"]), "version 1 is confirmed")

    chosen = ("--variant", "float32-tflite", "--activate", "float32-tflite", "--yes")
    second = host.publish(variants, "--version", "2", "--no-measure", *chosen)
    until(lambda: device.confirmed(second["variants"][0]["manifest"]), "version 2 is confirmed")
    until(device.runner, "it serves")

    assert device.answers() >= 0.75
    assert "Read-only" not in device.log()
    assert device("status").code == 0
