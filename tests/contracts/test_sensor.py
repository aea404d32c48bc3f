"""What every power sensor promises, on the recorded tree of a board that has it."""

import pytest

from edgepick_agent import instruments
from edgepick_agent.ports import SensorKind
from fakes import sensor_trees as trees

BOARDS = {
    "hwmon-ina3221": trees.JETSON_AGX_ORIN,
    "hwmon-ina2xx": trees.PI_WITH_INA219,
    "powercap-rapl": trees.AMD_RAPL,
    "rpi5-pmic": trees.RASPBERRY_PI_5,
    "power-supply": trees.BATTERY_BOX,
}


@pytest.fixture(params=sorted(instruments.SENSORS))
def name(request):
    return request.param


@pytest.fixture
def sensor(name, tmp_path):
    return instruments.adapter(instruments.SENSORS[name])(trees.plant(tmp_path, BOARDS[name]))[0]


def test_a_sensor_names_itself_and_its_scope(sensor, name):
    """The source begins with the adapter's name; scope, kind and period are known ones."""
    assert sensor.source.startswith(name)
    assert sensor.scope in {"package", "module", "rails", "battery", "board"}
    assert sensor.kind in set(SensorKind)
    assert 0 < sensor.period_seconds <= 1


def test_a_reading_is_a_number_that_is_not_negative(sensor):
    """It reads microjoules or microwatts as a float."""
    reading = sensor.read()

    assert isinstance(reading, float)
    assert reading >= 0


def test_a_failed_read_is_none(sensor, tmp_path):
    """When every file of the board is empty the reading is None, never zero."""
    for file in tmp_path.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")

    assert sensor.read() is None


def test_nothing_is_found_where_there_is_nothing(name, tmp_path):
    """On a machine without it there is no sensor, and no reason to tell."""
    assert list(instruments.adapter(instruments.SENSORS[name])(tmp_path)) == []
    assert instruments.adapter(instruments.SENSOR_REASONS[name])(tmp_path) is None


def test_a_usable_sensor_needs_no_excuse(sensor, name, tmp_path):
    """Where it can be used there is no reason why not."""
    assert instruments.adapter(instruments.SENSOR_REASONS[name])(tmp_path) is None
