"""What the configuration says about power reaches the runner of a measurement that the host asked for."""

from dataclasses import replace

import pytest

from edgepick_agent.config import load_settings
from edgepick_agent.core.settings import PowerSettings
from edgepick_agent.errors import ConfigError
from edgepick_wire.messages import MeasureRequest
from fakes.agent_bench import SETTINGS, Bench
from fakes.host_stand_in import bundle

ONE = bundle("1")
PLUG = PowerSettings(mqtt_topic="tele/plug/SENSOR", mqtt_key="ENERGY.Power", period_seconds=1.0)


@pytest.mark.parametrize(
    ("power", "with_broker"),
    [(PowerSettings(command=("meter",), watts=3.0), False), (PLUG, True)],
    ids=["command", "plug"],
)
def test_a_measurement_on_request_uses_the_devices_meter(power, with_broker):
    """The runner's specification carries the power settings, and the broker only where a topic is to be read."""
    bench = Bench(settings=replace(SETTINGS, power=power)).boot()
    bench.host.publish(ONE)
    bench.host.want(ONE, rollout="r1")
    bench.run(15)

    bench.host.want(ONE, rollout="r1", measure=(MeasureRequest(id="m-1", manifest=ONE.digest),))
    bench.run(15)

    spec = next(p.spec for p in reversed(bench.launcher.started) if p.mode == "measure")
    assert spec.power == power
    assert (spec.broker == SETTINGS.broker) is with_broker


def configured(tmp_path, power):
    path = tmp_path / "agent.toml"
    path.write_text(
        'device = "pi-7"\nfleet = "f"\nprofile = "generic-linux"\nroot_document = "r"\n'
        f'[broker]\nhost = "b"\n[power]\n{power}\n'
    )
    return load_settings(path, {}, files=False).power


def test_a_meter_is_configured_in_a_table_of_its_own(tmp_path):
    """Command, period and watts are read; without the table there is none of them."""
    found = configured(tmp_path, 'command = ["meter", "--watts"]\nperiod_seconds = 0.1\nwatts = 3')

    assert found == PowerSettings(command=("meter", "--watts"), period_seconds=0.1, watts=3.0)
    assert SETTINGS.power == PowerSettings()


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('mqtt_topic = "tele/+/SENSOR"', "power.mqtt_topic"),
        ('mqtt_topic = ""', "power.mqtt_topic"),
        ('mqtt_key = "a"', "power.mqtt_key"),
        ("watts = 0", "power.watts"),
        ("period_seconds = 0.001", "power.period_seconds"),
        ('command = "meter --watts"', "power.command"),
    ],
)
def test_a_wrong_meter_is_named(tmp_path, line, key):
    """Wildcards, a key without a topic, no power at all, a meter that is too quick, a shell line: each is refused."""
    with pytest.raises(ConfigError, match=key):
        configured(tmp_path, line)
