"""An accelerator that is pulled out while a model is served on it."""

from dataclasses import replace

import pytest

from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from edgepick_wire.messages import IncidentCode, Phase
from fakes.odd_python import odd_python
from integration.forger import Forger
from integration.whole_system import Device, until

DELEGATE = """
from pathlib import Path
from edgepick_agent.adapters import tflite_session

UNPLUGGED = Path({flag!r})
really = tflite_session._cannot_load, tflite_session._interpreter

class Plugged:
    def __init__(self, interpreter):
        self._interpreter = interpreter

    def __getattr__(self, name):
        return getattr(self._interpreter, name)

    def invoke(self):
        if UNPLUGGED.exists():
            raise RuntimeError("failed to invoke: the device is gone")
        self._interpreter.invoke()

def cannot_load(library):
    return "no such device" if UNPLUGGED.exists() else None

def interpreter(engine, model, threads, delegates, accelerator):
    made = really[1](engine, model, threads, [], accelerator)
    return Plugged(made) if delegates else made

tflite_session._cannot_load, tflite_session._interpreter = cannot_load, interpreter
tflite_session._delegate = lambda engine, accelerator, load=tflite_session._delegate: (
    object() if not UNPLUGGED.exists() else load(engine, accelerator)
)
"""
"""LiteRT with a stand-in for the Edge TPU's delegate: it computes on the CPU, and fails once the flag is there."""


@pytest.fixture
def plugged(host, tmp_path, variants):
    """Provide a host whose service runs, a device with an accelerator that serves on its CPU, and the flag."""
    flag = tmp_path / "unplugged"
    python = odd_python(tmp_path / "odd", DELEGATE.format(flag=str(flag)))
    device = Device(tmp_path, host)
    # Shut in, the runner could not see the flag.
    device.configure(runner=f'python = "{python}"\nsandbox = "off"')
    made = host.publish(variants, "--version", "1", "--epoch", "2", "--no-measure", "--variant", "float32-tflite")
    with host.service():
        try:
            device.start()
            until(lambda: device.confirmed(made["variants"][0]["manifest"]), "version 1 is confirmed")
            yield host, device, flag
            device.stop()
        finally:
            device.end()


def on_the_accelerator(host, device, *accelerators: str) -> str:
    """Have the device serve the same model on its accelerator; return the manifest."""
    forger = Forger(host, device)
    choice = RuntimeChoice(name=RuntimeName.LITERT, accelerators=accelerators)
    manifest = forger.manifest(replace(forger.template(), version="accelerated", runtimes=(choice,)))
    forger.want(manifest)
    until(lambda: device.confirmed(manifest), "confirmed on the accelerator")
    until(device.runner, "it serves")
    forger.close()
    return manifest


def asked_until(device: Device, condition) -> int:
    """Ask as an application does that does not give up, until ``condition``; return how many requests failed."""
    failed = 0

    def ask() -> bool:
        nonlocal failed
        try:
            device.answers(1)
        except (OSError, AssertionError, ValueError):
            failed += 1
        return bool(condition())

    until(ask, "the condition holds")
    return failed


def codes(host, device, manifest: str) -> list[IncidentCode]:
    return [i.code for i in host.incidents(device.name) if i.manifest == manifest]


def test_without_leave_for_the_cpu_the_variant_before_it_serves(plugged):
    """Errors become an incident, the new start finds no accelerator, and the device goes back by itself."""
    host, device, flag = plugged
    before = device.active()
    manifest = on_the_accelerator(host, device, "edgetpu")
    share = device.answers()

    flag.touch()
    failed = asked_until(device, lambda: device.active() == before)
    until(device.runner, "the variant before it serves")
    told = until(lambda: (c := codes(host, device, manifest)) and c[-1] is IncidentCode.FELL_BACK and c, "told")

    assert share >= 0.75
    assert failed >= 5
    assert told[0] is IncidentCode.RUNNER_BAD_ANSWERS
    assert device.model().phase is Phase.REVERTED
    assert device.answers() >= 0.75


def test_with_leave_for_the_cpu_the_variant_serves_on(plugged):
    """One new start, and the same variant answers without its accelerator; the host hears of the errors."""
    host, device, flag = plugged
    manifest = on_the_accelerator(host, device, "edgetpu", "cpu")
    runner = until(device.runner, "it serves")

    flag.touch()
    failed = asked_until(device, lambda: (r := device.runner()) and r.pid != runner.pid)
    told = until(lambda: (c := codes(host, device, manifest))[1:] and c, "told")

    assert failed >= 5
    assert told == [IncidentCode.RUNNER_BAD_ANSWERS, IncidentCode.RUNNER_RESTARTED]
    assert device.confirmed(manifest)
    assert device.answers() >= 0.75
