"""A technician at a device that the host looks after: installing from a stick, and an agent that hangs."""

import signal

import pytest

from integration.whole_system import run, until


@pytest.fixture
def bundle(host, variants, tmp_path):
    """Provide the float variant as a file."""
    path = tmp_path / "stick.edgepick"
    done = host("bundle", "build", variants, "--variant", "float32-tflite", "--version", "stick", "--out", path)
    assert done.code == 0, done.err
    return path


@pytest.fixture
def running(host, device, variants):
    """Provide a device that runs what the host wants."""
    made = host.publish(variants, "--no-measure", "--variant", "static_wi8_ai8-tflite")
    device.start()
    until(lambda: device.confirmed(made["variants"][0]["manifest"]), "confirmed")
    return device


def test_a_file_is_installed_over_what_the_host_wants(running, bundle):
    """A sound file is installed with exit code 0, and again without doing anything; damaged ones change nothing."""
    before = running.active()
    data = bundle.read_bytes()
    truncated, flipped = bundle.with_name("truncated.edgepick"), bundle.with_name("flipped.edgepick")
    truncated.write_bytes(data[: len(data) // 2])
    flipped.write_bytes(data[:-70000] + bytes([data[-70000] ^ 1]) + data[-69999:])

    damaged = {file.stem: running("install", file, "--yes") for file in (truncated, flipped)}
    untouched = running.active()
    installed = running("install", bundle, "--yes")
    active, share = running.active(), running.answers()
    again = running("install", bundle, "--yes")

    assert {name: done.code for name, done in damaged.items()} == {"truncated": 1, "flipped": 4}
    assert all("error: " in done.err and "hint: " in done.err for done in damaged.values())
    assert untouched == before
    assert (installed.code, installed.err) == (0, "")
    assert "digits: serves, active digits stick float32-tflite" in installed.out
    assert active != before
    assert share >= 0.75
    assert (again.code, "active already" in again.out) == (0, True)


@pytest.mark.slow
def test_an_agent_that_hangs_is_not_waited_for(running):
    """`status` of an agent that does not answer ends by itself with exit code 3 and says so; the model serves on."""
    running.process.send_signal(signal.SIGSTOP)

    try:
        shown = running("status")
    finally:
        running.process.send_signal(signal.SIGCONT)

    assert shown.code == 3
    assert "did not answer" in shown.err
    assert "restart edgepick-agent" in shown.err
    assert running.answers() >= 0.75


def test_a_root_document_that_is_none_is_named(host, tmp_path):
    """What is no root document, or was changed, is named with its file before anything is written."""
    good = host.root.read_bytes()
    changed = good.replace(b'"version":1', b'"version":2')
    documents = {"text": (b"not this file", 1), "empty": (b"", 1), "changed": (changed, 4)}
    found = {}

    for name, (data, _) in documents.items():
        (tmp_path / name).write_bytes(data)
        init = ("init", "--root", tmp_path / name, "--out", tmp_path / "agent.toml")
        found[name] = run("edgepick_agent", *init, folder=tmp_path)

    assert {name: done.code for name, done in found.items()} == {name: code for name, (_, code) in documents.items()}
    assert all(f"error: {tmp_path / name}: " in done.err for name, done in found.items())
    assert not list(tmp_path.glob("*.toml"))
