"""Clocks that jump while an agent runs: a year ahead by a wrong source of time, to 1970 by a flat battery."""

import os
import signal
import time
from functools import partial

import pytest

from integration.set_clock import COMPILER, SetClock
from integration.tls_plant import MOSQUITTO, TlsHost
from integration.whole_system import until

pytestmark = pytest.mark.skipif(not (MOSQUITTO and COMPILER), reason="mosquitto or a C compiler is not installed")

DAY = 86400.0
YEAR = 365 * DAY


@pytest.fixture
def tls(tmp_path):
    """Provide a host with certificates, its broker, and a device whose clock the test sets."""
    folder = tmp_path / "host"
    folder.mkdir()
    host = TlsHost(folder)
    broker, device, clock = host.broker(), host.device("pi-1"), SetClock(tmp_path)
    device.environment = clock.environment
    broker.start()
    try:
        with host.service():
            yield host, broker, device, clock
            device.stop()
    finally:
        device.end()
        broker.stop()


def publish(host, variants, version: int, name: str) -> str:
    words = ("--version", str(version), "--no-measure", "--variant", name, "--json")
    chosen = ("--activate", name, "--yes") if version > 1 else ()
    done = host("publish", variants, *words, *chosen)
    assert done.code == 0, done.err
    return done.json()["variants"][0]["manifest"]


def lives_on(host, broker, device, update) -> None:
    """Have a runner die, an update arrive, and the broker go and come: everything that asks for the time.

    The update comes when the runner has died, or it might be its own that does, which is tried again and reported.
    """
    runner = until(device.runner, "a variant serves")
    os.kill(runner.pid, signal.SIGKILL)
    until(lambda: (again := device.runner()) and again.pid != runner.pid, "another runner serves")
    manifest = update()
    broker.stop()
    until(lambda: device.status().broker != "connected", "the broker is missed")
    broker.start()
    until(lambda: device.status().broker == "connected", "connected again")
    until(lambda: device.confirmed(manifest), "the update is confirmed")
    until(lambda: not device.waiting_reports(), "every report is acknowledged")
    until(device.runner, "a variant serves")
    assert device.answers() >= 0.75


@pytest.mark.slow
def test_an_agent_lives_through_jumps_of_its_clock(tls, variants):
    """A year ahead and in 1970 it restarts runners, reconnects over TLS, updates, and reports in order."""
    host, broker, device, clock = tls
    first = publish(host, variants, 1, "static_wi8_ai8-tflite")
    device.start()
    until(lambda: device.confirmed(first), "confirmed")
    pid, session = device.pid, device.status().session
    jumps = {2: YEAR, 3: DAY - time.time()}

    for version, seconds in jumps.items():
        clock.shift(seconds)
        name = ("static_wi8_ai8-tflite", "float32-tflite")[version % 2]
        lives_on(host, broker, device, partial(publish, host, variants, version, name))
    reports = sorted(host.reports(device.name), key=lambda report: report.id)
    presence = host("devices", "list", "--json").json()[0]

    installed = [report for report in reports if report.install]
    shifts = [round((report.recorded_at - time.time()) / DAY) for report in installed]
    assert (device.pid, device.status().session) == (pid, session)
    assert {report.session for report in reports} == {session}
    assert shifts == [0, 365, round((DAY - time.time()) / DAY)]
    assert [report.install.outcome for report in installed] == ["confirmed"] * 3
    assert presence["online"] is True
