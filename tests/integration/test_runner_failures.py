"""Runners that die, hang or grow: the agent says so, starts them again, and goes back to what worked."""

import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_wire.manifest import RunLimits, RuntimeChoice, RuntimeName
from edgepick_wire.messages import Incident, IncidentCode, Phase
from integration.forger import Forger
from integration.whole_system import Device, Host, alive, until


@pytest.fixture
def updated(serving, variants, request):
    """Provide the plant after an update, the manifest that ran before it and the one that runs now."""
    host, device = serving
    before = device.active()
    version = request.node.name.replace("[", "-").rstrip("]")
    return host, device, before, update(host, device, variants, version)


def update(host: Host, device: Device, variants: Path, version: str) -> str:
    """Have another version run on the device, and return its manifest."""
    chosen = ("--variant", "float32-tflite", "--activate", "float32-tflite", "--yes")
    made = host.publish(variants, "--version", version, "--epoch", "2", "--no-measure", *chosen)
    manifest = str(made["variants"][0]["manifest"])
    until(lambda: device.confirmed(manifest), "the update is confirmed")
    return manifest


def said(host: Host, device: Device, manifest: str) -> list[Incident]:
    """Return what the host has heard about one manifest, in the order in which it happened."""
    return [i for i in host.incidents(device.name) if i.manifest == manifest]


def fell_back(device: Device, manifest: str, before: str) -> bool:
    """Return whether the device runs ``before`` instead of ``manifest``."""
    model = device.model()
    return model is not None and (model.phase, model.wanted, model.active) == (Phase.REVERTED, manifest, before)


def restart(device: Device, **sections: str) -> None:
    """Have the agent start anew with other settings."""
    device.stop()
    device.configure(**sections)
    device.start()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, IncidentCode.RUNNER_CRASHED), (signal.SIGSTOP, IncidentCode.RUNNER_HUNG)],
    ids=["killed", "stopped"],
)
def test_a_runner_that_fails_is_started_again_and_then_left(updated, number, code):
    """Killed or hung, it is reported and started again; at the second time the variant before it serves."""
    host, device, before, manifest = updated
    pids = []

    for _ in range(2):
        runner = until(lambda: (r := device.runner()) and r.pid not in pids and r, "a new runner is ready")
        pids.append(runner.pid)
        os.kill(runner.pid, number)
    until(lambda: fell_back(device, manifest, before), "fell back")
    told = until(lambda: (i := said(host, device, manifest)) and i[-1].code is IncidentCode.FELL_BACK and i, "told")

    assert [i.code for i in told] == [code, IncidentCode.RUNNER_RESTARTED, IncidentCode.FELL_BACK]
    assert "2 failure(s) in a row" in told[-1].detail
    assert code.value in told[-1].detail
    assert not any(map(alive, pids))


def test_a_runner_over_its_memory_is_ended(plant):
    """A variant that needs more memory than the device gives it is reported, and the one before it serves."""
    host, device = plant
    before, limited = device.active(), Forger(host, device)
    unlimited = replace(limited.template(), version="unlimited", limits=RunLimits())
    manifest = limited.manifest(unlimited)
    limited.want(manifest)
    until(lambda: device.confirmed(manifest), "confirmed while the device sets no cap")

    # The manifest before it names a cap of its own, which goes before the device's.
    restart(device, runner="memory_cap_bytes = 16777216")
    try:
        until(lambda: fell_back(device, manifest, before), "fell back")
        until(device.runner, "the variant before it serves")
        share = device.answers()
        told = until(lambda: (i := said(host, device, manifest)) and i[-1].code is IncidentCode.FELL_BACK and i, "told")
    finally:
        restart(device)
        limited.close()

    assert told[0].code is IncidentCode.RUNNER_OVER_MEMORY
    assert "the cap is 16777216" in told[0].detail
    assert share >= 0.75


def test_a_port_that_another_program_has_harms_no_variant(plant, variants):
    """An agent that starts without its port keeps the confirmed variant, serves on its socket, and says what is so."""
    host, device = plant
    manifest = update(host, device, variants, "port")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        restart(device, runner=f"tcp_port = {port}")
        runner = until(device.runner, "it serves without the port")
        share, confirmed, shown = device.answers(), device.confirmed(manifest), " ".join(device("status").out.split())
    restart(device, runner=f"tcp_port = {port}")
    until(device.runner, "it serves on the port")
    healthy = device("doctor")
    restart(device)

    assert f"not on port {port}" in runner.detail
    assert (share >= 0.75, confirmed) == (True, True)
    assert f"not on port {port}" in shown
    assert f"sport = :{port}" in shown
    assert f"{port} is answered by a runner" in healthy.out


def test_runners_end_with_an_agent_that_is_killed(host, device, variants):
    """SIGKILL to the agent leaves no runner behind, and the next agent serves the same variant."""
    made = host.publish(variants, "--no-measure", "--variant", "static_wi8_ai8-tflite")
    manifest = made["variants"][0]["manifest"]
    device.start()
    until(lambda: device.confirmed(manifest), "confirmed")
    family = device.family()

    device.kill()
    until(lambda: not any(map(alive, family)), "no runner outlives its agent")
    device.start()
    until(device.runner, "a runner serves")

    assert family
    assert device.confirmed(manifest)
    assert device.answers() >= 0.75


def test_a_variant_whose_accelerator_is_gone_leaves_what_serves_alone(serving):
    """It is refused by the name of what is missing, the host hears why, and the same runner serves on."""
    host, device = serving
    before, runner, forger = device.active(), until(device.runner, "a variant serves"), Forger(host, device)
    choice = RuntimeChoice(name=RuntimeName.LITERT, accelerators=("edgetpu",))
    manifest = forger.manifest(replace(forger.template(), version="edgetpu", runtimes=(choice,)))

    forger.want(manifest)
    model = until(lambda: (m := device.model()) and m.wanted == manifest and m.refusal and m, "refused")
    heard = until(lambda: [r for r in host.reports(device.name) if manifest in str(r.install)], "the host hears")
    forger.close()

    assert "edgetpu" in model.refusal.detail
    assert "edgetpu" in str(heard[-1].install)
    assert model.active == before
    assert device.runner().pid == runner.pid
