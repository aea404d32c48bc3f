"""An external meter: a command that prints watts, or a smart plug's topic on a real broker."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent import app
from edgepick_agent.adapters.meter_process import start_meter
from edgepick_agent.adapters.sensors.external_meter import ExternalMeter
from edgepick_agent.core.meter import watts
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_agent.core.settings import BrokerSettings, PowerSettings
from edgepick_wire.metrics import MeasurePlan
from fakes.runtime_models import DIGITS

PATIENCE_SECONDS = 60.0
STEADY = "import time\nwhile True:\n    print('3.5 W', flush=True)\n    time.sleep(0.005)"


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("3.25", None, 3.25),
        (" 3250 mW\n", None, 3.25),
        ("1.2kW", None, 1200.0),
        ("0", None, 0.0),
        ('{"ENERGY": {"Power": 7.5}}', "ENERGY.Power", 7.5),
        ('{"apower": "4.5 W"}', "apower", 4.5),
        ('{"ENERGY": {"Power": true}}', "ENERGY.Power", None),
        ('{"ENERGY": 3}', "ENERGY.Power", None),
        ("[]", "a", None),
        ("3.25", "a", None),
        ("-3", None, None),
        ("nan", None, None),
        ("inf W", None, None),
        ("1e999", None, None),
        ("3.25 V", None, None),
        ("", None, None),
    ],
)
def test_watts_are_read_as_people_write_them(text, key, expected):
    """A number, with a unit or inside of JSON; whatever is no power is missing, not zero."""
    assert watts(text, key) == expected


@given(st.text(max_size=60), st.none() | st.text(max_size=10))
def test_no_text_breaks_the_reader(text, key):
    """Anything gives a power that is not negative, or none."""
    found = watts(text, key)

    assert found is None or found >= 0


@pytest.fixture
def pipe():
    """Provide a meter on a pipe, and what writes into it."""
    ours, theirs = os.pipe()
    yield ExternalMeter(ours, 0.01), lambda text: os.write(theirs, text)
    os.close(ours)
    os.close(theirs)


def test_the_last_whole_line_counts(pipe):
    """Values come as microwatts; half a line waits for its rest, nonsense is passed over."""
    meter, write = pipe

    write(b"1.5\n2.5\nnonsense\n3")
    first = meter.read()
    write(b".75\n")

    assert (first, meter.read()) == (2_500_000.0, 3_750_000.0)


def test_a_silent_meter_is_missing_not_zero(pipe, monkeypatch):
    """A value that is older than three periods and half a second is not read again."""
    meter, write = pipe
    write(b"2\n")
    fresh, now = meter.read(), time.monotonic()

    monkeypatch.setattr("edgepick_agent.adapters.sensors.external_meter.time.monotonic", lambda: now + 0.6)

    assert (fresh, meter.read()) == (2_000_000.0, None)


def test_what_the_relay_complains_about_is_the_reason(pipe):
    """A complaint instead of a first value is told as it is."""
    meter, write = pipe
    write(b"!meter ended with 3: no such port\n")

    assert meter.why_not() == "external-meter: meter ended with 3: no such port"


def relayed(power, lines, *, broker=None, act=lambda: None):
    """Return the first lines of a real relay; ``act`` is done while it is waited for."""
    relay = start_meter(power, broker, os.environ)
    try:
        os.set_blocking(relay.descriptor, False)
        found, deadline = b"", time.monotonic() + PATIENCE_SECONDS
        while found.count(b"\n") < lines:
            assert time.monotonic() < deadline, f"only {found!r}"
            act()
            time.sleep(0.01)
            try:
                found += os.read(relay.descriptor, 4096)
            except BlockingIOError:
                continue
        return found.decode().splitlines()[:lines]
    finally:
        relay.stop()


def test_a_command_that_prints_once_is_run_again_and_again():
    """Each period it is started anew, and its number relayed."""
    command = (sys.executable, "-c", "print('2.25 W')")

    assert relayed(PowerSettings(command=command, period_seconds=0.02), 3) == ["2.25"] * 3


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/nowhere/meter",), "/nowhere/meter: No such file"),
        ((sys.executable, "-c", "import sys; sys.exit('no such port')"), "ended with 1: no such port"),
        ((sys.executable, "-c", "print('OK')"), "printed 'OK'"),
    ],
)
def test_a_command_that_is_of_no_use_says_why(command, said):
    """What is not there, what fails and what prints no watts are told apart."""
    (line,) = relayed(PowerSettings(command=command, period_seconds=0.05), 1)

    assert line.startswith("!")
    assert said in line


CHATTY = "import sys; sys.stderr.write('sample taken ' * 20_000); "
"""More than a pipe holds, on standard error."""


def test_a_command_that_talks_on_standard_error_is_read_all_the_same():
    """What it logs beside its watts is taken from it, so that it never waits for a reader."""
    command = (sys.executable, "-c", f"{CHATTY}print('2.25 W')")

    assert relayed(PowerSettings(command=command, period_seconds=0.02), 2) == ["2.25"] * 2


def test_of_much_that_a_command_says_its_last_words_are_the_reason():
    """Why it failed stands at the end of what it said."""
    command = (sys.executable, "-c", f"{CHATTY}sys.exit('no such port')")

    (line,) = relayed(PowerSettings(command=command, period_seconds=0.05), 1)

    assert line.endswith("no such port")


def plug(broker, payloads):
    """Return what publishes one payload after the other at each call, as a smart plug does."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    todo = iter(payloads * 1000)
    return client, lambda: client.publish("tele/plug/SENSOR", next(todo))


def test_a_smart_plugs_topic_is_relayed(broker):
    """JSON of a plug on a real broker becomes watts; a retained message from before does not."""
    client, publish = plug(broker, [json.dumps({"ENERGY": {"Power": 6.5}})])
    client.publish("tele/plug/SENSOR", json.dumps({"ENERGY": {"Power": 99}}), qos=1, retain=True).wait_for_publish(10)
    power = PowerSettings(mqtt_topic="tele/plug/SENSOR", mqtt_key="ENERGY.Power", period_seconds=0.1)

    try:
        lines = relayed(power, 3, broker=BrokerSettings(host="127.0.0.1", port=broker.port), act=publish)
    finally:
        client.loop_stop()
        client.disconnect()

    assert lines == ["6.5"] * 3


def test_a_broker_that_is_not_there_is_told():
    """The relay says which address does not answer."""
    power = PowerSettings(mqtt_topic="plug", period_seconds=0.1)

    (line,) = relayed(power, 1, broker=BrokerSettings(host="127.0.0.1", port=1))

    assert line.startswith("!127.0.0.1:1:")


def profile(power, **options):
    plan = MeasurePlan(warmup_runs=1, warmup_seconds=0, min_runs=60, min_seconds=0.05, max_seconds=10)
    return app.benchmark(ProfileRequest(model=str(DIGITS), plan=plan, power=power, sysfs_root="/nowhere", **options))


def read_throughout(power):
    """Return the energy of a run in which no value came late: a machine that stands still keeps a meter waiting."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while None in ((found := profile(power).energy).gross_uj, found.idle_uw):
        assert time.monotonic() < deadline, found.reason
    return found


def test_a_meter_measures_the_energy_of_a_run():
    """A meter that shows 3.5 W throughout gives 3.5 W over the window, 3.5 W idle, and no figure on top of it."""
    command = (sys.executable, "-u", "-c", STEADY)

    found = read_throughout(PowerSettings(command=command, period_seconds=0.01, watts=99))

    assert (found.source, found.scope, found.estimated) == ("external-meter", "supply", False)
    assert found.gross_uj * found.inferences == pytest.approx(3.5e6 * found.window_seconds, rel=1e-6)
    assert found.idle_uw == pytest.approx(3.5e6)
    assert found.net_uj is None
    assert found.window_seconds >= 1.99


def test_without_its_values_there_is_no_energy_but_a_labelled_estimate():
    """A meter that fails is the reason; with typical watts there is an estimate that says that it is one."""
    nowhere = ("/nowhere/meter",)

    missing = profile(PowerSettings(command=nowhere, period_seconds=0.01)).energy
    estimate = profile(PowerSettings(command=nowhere, period_seconds=0.01, watts=3.0)).energy

    assert (missing.gross_uj, missing.estimated) == (None, False)
    assert "/nowhere/meter" in missing.reason
    assert estimate.estimated
    assert estimate.source == "cpu-time"
    assert 0 < estimate.gross_uj * estimate.inferences <= 3.0e6 * estimate.window_seconds
    assert (estimate.net_uj, estimate.idle_uw) == (None, None)
    assert "estimated from CPU time and 3 W" in estimate.reason


def command_lines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def test_nothing_of_the_meter_outlives_the_runner():
    """After a profile neither the relay nor the meter's own process is left."""
    marker = f"edgepick-meter-of-{os.getpid()}"

    profile(PowerSettings(command=(sys.executable, "-u", "-c", f"# {marker}\n{STEADY}"), period_seconds=0.01))

    assert [line for line in command_lines() if marker.encode() in line] == []
