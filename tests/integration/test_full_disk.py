"""A disk that is full from the start, fills up during a download or becomes read-only: real small filesystems."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from edgepick_wire import topics
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import IncidentCode, Outcome, Phase, RefusalCode
from integration.forger import Forger
from integration.whole_system import FLEET, Device, Host, until

MIB = 1024 * 1024
CHOSEN = ("--variant", "float32-tflite", "--activate", "float32-tflite", "--no-measure", "--yes", "--plain")


@pytest.fixture
def small_disk(tmp_path):
    """Provide an empty filesystem of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small filesystem needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def running(host, tmp_path, small_disk, variants):
    """Provide a device on a small disk that serves version 1."""
    device = Device(tmp_path, host, state=small_disk / "state")
    made = host.publish(variants, "--version", "1", "--no-measure", "--variant", "static_wi8_ai8-tflite")
    device.start()
    try:
        until(lambda: device.confirmed(made["variants"][0]["manifest"]), "version 1 is confirmed")
        yield device
        device.stop()
    finally:
        device.end()


def fill(path: Path, leave: int = 0) -> None:
    """Write a file that takes all the space that is left, but for some bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while (room := free(path.parent) - leave) > 0 and file.write(bytes(min(room, 64 * 1024))):
                pass
        except OSError:
            return


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def refused(device: Device, manifest: str) -> bool:
    model = device.model()
    assert model is not None
    return (model.wanted, model.phase) == (manifest, Phase.REFUSED)


@pytest.mark.slow
def test_a_disk_that_fills_up_during_a_download_harms_nothing(host, running, small_disk, variants):
    """Full in the middle of a download: said, the old variant serves, and it goes on by itself when there is room."""
    before, hog = running.active(), small_disk / "hog"
    model = (variants / "float32-tflite" / "model.tflite").read_bytes()
    held_back = topics.chunk(FLEET, digest_of(model[2 * 65536 :]))
    host.publish(
        variants, "--version", "2", "--variant", "float32-tflite", "--activate", "none", "--no-measure", "--plain"
    )
    thief = Forger(host, running)
    thief.put(held_back, b"")
    manifest = host.publish(variants, "--version", "2", *CHOSEN)["variants"][0]["manifest"]
    until(lambda: (m := running.model()) and 0 < m.chunks_done == m.chunks_total - 1, "all but one chunk are here")

    fill(hog)
    thief.put(held_back, model[2 * 65536 :])
    said = until(lambda: running.status().last_error, "it says what is wrong")
    thief.close()
    active, share, shown = running.active(), running.answers(), running("status")
    hog.unlink()
    until(lambda: running.confirmed(manifest), "confirmed once there is room")

    assert "No space left on device" in said
    assert IncidentCode.STORAGE_FULL in running.log()
    assert (active, share >= 0.75) == (before, True)
    assert (shown.code, "make room" in shown.out) == (0, True)
    assert running.stored(manifest).read_bytes() == model


def test_what_does_not_fit_is_not_begun(host, running, small_disk, variants):
    """With too little room the update is refused before a chunk is fetched, with how much is needed."""
    before = running.active()

    fill(small_disk / "hog", leave=MIB)
    manifest = host.publish(variants, "--version", "2", *CHOSEN)["variants"][0]["manifest"]
    until(lambda: refused(running, manifest), "refused")

    install = next(r.install for r in running.waiting_reports() if r.install and r.install.manifest == manifest)
    assert (install.outcome, install.refusal.code) == (Outcome.REFUSED, RefusalCode.NO_SPACE)
    assert install.bytes_fetched == 0
    assert "bytes" in install.refusal.hint
    assert running.active() == before
    assert running.answers() >= 0.75


@pytest.fixture
def failing_disk(tmp_path):
    """Provide an empty filesystem that can be made to fail as on a disk with errors."""
    folder, image = tmp_path / "ext4", tmp_path / "image"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(48 * MIB)
    for words in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop,errors=remount-ro", image, folder]):
        if os.geteuid() != 0 or subprocess.run(words, check=False, capture_output=True).returncode != 0:
            pytest.skip("mounting a filesystem from a file needs root and a loop device")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_ends_no_agent_and_blames_no_variant(host, tmp_path, failing_disk, variants):
    """The agent lives, says what it cannot do, tells the host of nothing that it did not do, and ends well."""
    device = Device(tmp_path, host, state=failing_disk / "state").start()
    try:
        with host.service():
            for version, variant in (("1", "static_wi8_ai8-tflite"), ("2", "float32-tflite")):
                chosen = ("--variant", variant, "--activate", variant, "--no-measure", "--yes")
                manifest = host.publish(variants, "--version", version, *chosen)["variants"][0]["manifest"]
                until(lambda wanted=manifest: device.confirmed(wanted), f"version {version} is confirmed")
            runner = until(device.runner, "it serves")
            subprocess.run(["mount", "-o", "remount,abort", str(failing_disk)], check=True)
            os.kill(runner.pid, signal.SIGKILL)
            said = until(
                lambda: (e := device.status().last_error) and "be started" in e and e, "it says what is lacking"
            )
            until(lambda: IncidentCode.RUNNER_NOT_STARTED in told(host, device), "the host hears of it")
        active, shown, examined = device.confirmed(manifest), device("status"), device("doctor")
        device.stop()
    finally:
        device.end()

    ended = [r.install.outcome for r in host.reports(device.name) if r.install]
    assert "Read-only file system" in said
    assert "runner cannot be started" in " ".join(shown.out.split())
    assert "FAIL  state directory" in examined.out
    assert (active, told(host, device)) == (True, {IncidentCode.RUNNER_CRASHED, IncidentCode.RUNNER_NOT_STARTED})
    assert ended == [Outcome.CONFIRMED, Outcome.CONFIRMED]


def told(host: Host, device: Device) -> set[IncidentCode]:
    return {incident.code for incident in host.incidents(device.name)}
