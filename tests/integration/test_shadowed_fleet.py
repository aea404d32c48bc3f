"""Shadow mode from the operator's command to the host's records, with a broker, an agent and real runners between."""

import os
import signal

import numpy as np
import pytest

from edgepick_agent.client import Client
from edgepick_agent.core import places
from edgepick_host.demo.broker import running_broker
from edgepick_wire.messages import RefusalCode, ShadowedVariant, ShadowSummary
from integration.whole_system import DATA, MODEL, Device, Host, planted, until

ACTIVE, CANDIDATE = "static_wi8_ai8-tflite", "float32-tflite"


@pytest.fixture(scope="module")
def serving(tmp_path_factory, variants):
    """Provide a host and a device of their own: what serves in a shared plant depends on the tests before."""
    folder = tmp_path_factory.mktemp("shadowed")
    with running_broker(folder / "broker") as broker, planted(folder, broker.url, variants) as made:
        yield made


@pytest.fixture(scope="module")
def candidate(serving, variants) -> str:
    """Provide the manifest of a second variant of the version that serves; nothing is told to run it."""
    host, _ = serving
    options = ("--version", "1", "--epoch", "2", "--variant", CANDIDATE, "--no-measure", "--activate", "none")
    return str(host.publish(variants, *options)["variants"][0]["manifest"])


def start(host: Host, device: Device, *options: object) -> str:
    """Have the device run the candidate as a shadow; return the request's id."""
    told = host.ask("shadow", "start", MODEL, "1", CANDIDATE, "--device", device.name, "--json", *options)
    assert told.code == 0, told.err
    return str(told.json()["request"]["id"])


def watching(device: Device) -> int:
    """Return the process id of a shadow that compares by now."""
    shadow = until(lambda: (s := device.status().shadow) and s.summary and s, "the candidate compares")
    assert shadow.pid is not None
    return int(shadow.pid)


def asked(device: Device, requests: int) -> list[np.ndarray]:
    """Return what an application gets for so many images."""
    images = np.load(DATA / "evaluation.npz")["x"].astype(np.float32)
    with Client(MODEL, path=device.state / places.model_socket(MODEL)) as client:
        return [next(iter(client.infer(images[i % 50][np.newaxis]).values())) for i in range(requests)]


def judged(device: Device, requests: int) -> ShadowSummary | None:
    """Return what a shadow says of so many requests, once it has taken in each that was drawn."""
    shadow = device.status().shadow
    found = shadow.summary if shadow else None
    whole = found is not None and found.seen == requests and found.compared + found.dropped == found.drawn
    return found if whole else None


def report(host: Host, device: Device, request: str) -> ShadowedVariant | None:
    """Return what the host has stored of a shadow."""
    return next((r.shadow for r in host.reports(device.name) if r.shadow and r.shadow.request == request), None)


def test_a_shadow_from_the_command_to_the_report(serving, candidate):
    """Two hundred requests: clients get the active variant's answers, the host learns how far the candidate is off."""
    host, device = serving
    active, before = device.active(), asked(device, 50)

    request = start(host, device, "--share", "50%", "--requests", "110")
    watching(device)
    answers = asked(device, 200)
    seen = until(lambda: judged(device, 200), "all that was drawn is compared or dropped")
    found = until(lambda: asked(device, 10) and report(host, device, request), "the host has the report")
    shown = host("shadow", "show", MODEL).out

    assert all(np.array_equal(answer, before[i % 50]) for i, answer in enumerate(answers))
    assert (found.manifest, found.refusal, found.detail) == (candidate, None, "")
    summary = found.summary
    assert summary is not None
    assert (seen.drawn, seen.compared) == (100, 100 - seen.dropped)
    assert (summary.against, summary.compared) == (active, 110)
    assert summary.drawn - summary.dropped >= 110
    assert (summary.misshapen, summary.not_finite, summary.failed) == (0, 0, 0)
    (output,) = summary.outputs
    assert output.rows == summary.compared
    assert output.agreeing >= 0.9 * output.rows
    assert 0 < output.mean_abs < output.max_abs < 0.5
    assert summary.active is not None
    assert summary.candidate is not None
    assert summary.active.runs == summary.candidate.runs == summary.compared
    assert device.name in shown
    assert device.active() == active
    assert device.status().shadow is None


def test_a_candidate_killed_in_the_field_is_reported_and_nobody_else_notices(serving, candidate):
    """What was compared until then is in the report beside the reason; the runner that serves is the same process."""
    host, device = serving
    runner = device.runner()

    request = start(host, device, "--share", "100%")
    pid = watching(device)
    asked(device, 20)
    os.kill(pid, signal.SIGKILL)
    asked(device, 20)
    found = until(lambda: report(host, device, request), "the host has the report")

    assert found.manifest == candidate
    assert found.refusal is not None
    assert found.refusal.code is RefusalCode.RUNNER_FAILED
    assert "SIGKILL" in found.refusal.detail
    assert found.summary is not None
    assert (after := device.runner()) is not None
    assert runner is not None
    assert after.pid == runner.pid


def test_a_shadow_can_be_called_off(serving, candidate):
    """The operator's word ends it; there is no report, and the device shows no shadow any more."""
    host, device = serving
    request = start(host, device)
    watching(device)

    assert host.ask("shadow", "stop", MODEL, "--device", device.name).code == 0
    until(lambda: device.status().shadow is None, "the shadow has ended")

    assert request not in {r.shadow.request for r in host.reports(device.name) if r.shadow}
    assert device.stored(candidate).exists()


def test_what_was_not_published_cannot_be_a_shadow(serving):
    """The refusal names what there is."""
    host, _ = serving

    told = host.ask("shadow", "start", MODEL, "9", CANDIDATE)

    assert told.code == 1
    assert ACTIVE in told.err
