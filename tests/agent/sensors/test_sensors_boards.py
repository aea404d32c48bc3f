"""Which sensor each kind of board gets, what it reads, and what is said where none is usable."""

import os
from pathlib import Path

import pytest

from edgepick_agent import instruments
from edgepick_agent.adapters.sensors import hwmon_ina2xx, hwmon_ina3221, power_supply, powercap_rapl, rpi5_pmic
from edgepick_agent.ports import SensorKind
from fakes import sensor_trees as trees

RAPL = "sys/class/powercap"
SILENT = {f"sys/class/hwmon/hwmon2/{name}": "" for name in ("in1_input", "curr1_input", "power1_input")}
"""The monitor of the tree with an INA219, while its reads fail."""


@pytest.mark.parametrize(
    ("tree", "source", "scope", "watts"),
    [
        (trees.JETSON_ORIN_NANO, "hwmon-ina3221:VDD_IN", "module", 4.6736),
        (trees.JETSON_NANO_JP4, "hwmon-ina3221:POM_5V_IN", "module", 2.34),
        (
            trees.JETSON_AGX_ORIN,
            "hwmon-ina3221:VDDQ_VDD2_1V8AO+VDD_CPU_CV+VDD_GPU_SOC+VIN_SYS_5V0",
            "rails",
            8.06,
        ),
        (trees.PI_WITH_INA219, "hwmon-ina2xx:ina219", "board", 3.123648),
        (trees.GATEWAY_WITH_INA226, "hwmon-ina2xx:ina226:main", "board", 1.25),
        (trees.GATEWAY_WITH_INA260, "hwmon-ina2xx:ina260", "board", 3.01451),
        (trees.JETSON_TX2_JP4, "hwmon-ina3221:VDD_IN", "module", 2.979),
        (trees.JETSON_AGX_XAVIER, "hwmon-ina3221:CPU+CV+GPU+SOC+SYS5V+VDDRQ", "rails", 5.3424),
        (trees.BATTERY_BOX, "power-supply:bq27441-0", "battery", 1.85),
        (trees.RASPBERRY_PI_5, "rpi5-pmic", "rails", trees.PMIC_WATTS),
    ],
    ids=[
        "orin-nano",
        "nano-jp4",
        "agx-orin",
        "pi-ina219",
        "ina226",
        "ina260",
        "tx2-jp4",
        "agx-xavier",
        "battery",
        "pi-5",
    ],
)
def test_a_board_has_exactly_its_sensor(tree, source, scope, watts, tmp_path):
    """All kinds of sensors are tried, one is found, and it reads the board's power once, not twice."""
    found, _ = instruments.find_sensors((), trees.plant(tmp_path, tree))

    assert [sensor.source for sensor in found] == [source]
    assert (found[0].kind, found[0].scope) == (SensorKind.POWER, scope)
    assert found[0].read() == pytest.approx(watts * 1e6)


@pytest.mark.parametrize(
    ("tree", "first", "watts"),
    [
        (trees.JETSON_AGX_THOR, "hwmon-ina2xx:ina238", 31.25),
        ({**trees.RASPBERRY_PI_5, **trees.PI_WITH_INA219}, "hwmon-ina2xx:ina219", 3.123648),
    ],
    ids=["agx-thor", "pi-5-with-ina219"],
)
def test_the_whole_comes_before_a_sum_of_parts(tree, first, watts, tmp_path):
    """Where a supply line is measured too, it is used rather than rails inside of it, unless others are named first."""
    root = trees.plant(tmp_path, tree)

    found, _ = instruments.find_sensors((), root)
    named, _ = instruments.find_sensors(tuple(s.source.partition(":")[0] for s in reversed(found)), root)

    assert (found[0].source, found[0].read()) == (first, pytest.approx(watts * 1e6))
    assert [s.scope for s in found] == ["board", "rails"]
    assert named[0].scope == "rails"


def test_a_laptop_gets_its_package_before_its_platform(tmp_path):
    """Package and psys are separate sensors, never a sum; inner domains and the mmio twin are left out."""
    found, _ = instruments.find_sensors((), trees.plant(tmp_path, trees.LAPTOP_RAPL))

    assert [(s.source, s.scope, s.kind) for s in found] == [
        ("powercap-rapl:package-0", "package", SensorKind.ENERGY),
        ("powercap-rapl:psys", "board", SensorKind.ENERGY),
    ]


def test_two_packages_count_together(tmp_path):
    """On two sockets the energy of both packages is added, whatever the driver's name."""
    (sensor,) = powercap_rapl.discover(trees.plant(tmp_path, trees.AMD_RAPL))
    before = sensor.read()

    (tmp_path / RAPL / "intel-rapl:0/energy_uj").write_text("7000300\n")
    (tmp_path / RAPL / "intel-rapl:1/energy_uj").write_text("2000070\n")

    assert sensor.source == "powercap-rapl:package-0+package-1"
    assert sensor.read() - before == 370


def test_a_counter_that_wraps_goes_on_rising(tmp_path):
    """After the wrap at max_energy_range_uj the difference is what really flowed."""
    root = trees.plant(tmp_path, trees.LAPTOP_RAPL)
    energy = root / RAPL / "intel-rapl:0/energy_uj"
    energy.write_text("262143328000\n")
    sensor = powercap_rapl.discover(root)[0]
    before = sensor.read()

    energy.write_text("150\n")

    assert sensor.read() - before == 1000


def test_a_wrap_of_unknown_range_is_missing(tmp_path):
    """If the range cannot be read, what flowed over a wrap is not known: missing, not less than nothing."""
    tree = {name: text for name, text in trees.LAPTOP_RAPL.items() if not name.endswith("max_energy_range_uj")}
    root = trees.plant(tmp_path, tree)
    sensor = powercap_rapl.discover(root)[0]

    (root / RAPL / "intel-rapl:0/energy_uj").write_text("150\n")

    assert sensor.read() is None


def test_a_failed_read_of_a_counter_loses_nothing(tmp_path):
    """A read that fails is None; the next good one holds everything since the last good one."""
    root = trees.plant(tmp_path, trees.LAPTOP_RAPL)
    energy = root / RAPL / "intel-rapl:0/energy_uj"
    sensor = powercap_rapl.discover(root)[0]
    before = sensor.read()
    energy.write_text("garbage")

    failed = sensor.read()
    energy.write_text("1000500\n")

    assert failed is None
    assert sensor.read() - before == 500


def test_rapl_that_only_root_may_read_says_so(tmp_path, monkeypatch):
    """An unreadable counter is not used, and the reason names the udev rule."""
    root = trees.plant(tmp_path, trees.LAPTOP_RAPL)
    forbid(monkeypatch, "energy_uj")

    found, reason = instruments.find_sensors(("powercap-rapl",), root)

    assert found == ()
    assert "readable by root only" in reason
    assert "udev" in reason


def forbid(monkeypatch, name: str) -> None:
    """Let opening files of this name fail as it does for a user (tests may run as root)."""
    real = os.open

    def refuse(path, *arguments, **options):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)


def test_a_battery_on_mains_tells_nothing_and_says_why(tmp_path):
    """A full battery's current is not the board's power; the reason names its state."""
    found, reason = instruments.find_sensors(("power-supply",), trees.plant(tmp_path, trees.LAPTOP_RAPL))

    assert found == ()
    assert "BAT0 is full" in reason


def test_a_battery_that_starts_to_charge_stops_reading(tmp_path):
    """A sensor that was usable gives None once the mains are back, not a number."""
    root = trees.plant(tmp_path, trees.BATTERY_BOX)
    (sensor,) = power_supply.discover(root)

    (root / "sys/class/power_supply/bq27441-0/status").write_text("Charging\n")

    assert sensor.read() is None


def test_a_battery_with_a_power_attribute_uses_it(tmp_path):
    """Where the driver gives power_now it is taken, without its sign."""
    tree = {**trees.BATTERY_BOX, "sys/class/power_supply/bq27441-0/power_now": "-1900000\n"}

    (sensor,) = power_supply.discover(trees.plant(tmp_path, tree))

    assert sensor.read() == 1_900_000


@pytest.mark.parametrize(
    ("answer", "said"),
    [(trees.PI4_ANSWER, "does not measure its currents"), (trees.NO_GROUP_ANSWER, "group video")],
)
def test_a_raspberry_pi_without_the_sensor_says_why(answer, said, tmp_path):
    """A Pi 4 has no current sensing; a user outside of group video may not ask."""
    root = trees.plant(tmp_path, trees.vcgencmd({"pmic_read_adc": answer}))

    found, reason = instruments.find_sensors(("rpi5-pmic",), root)

    assert found == ()
    assert said in reason


def test_rails_are_paired_by_name(tmp_path):
    """Currents and voltages come in different orders and numbers; a voltage alone counts nothing."""
    lines = trees.PMIC_ANSWER.splitlines()
    shuffled = "\n".join(reversed(lines))

    assert rpi5_pmic.rail_power_uw(trees.PMIC_ANSWER) == pytest.approx(trees.PMIC_WATTS * 1e6)
    assert rpi5_pmic.rail_power_uw(shuffled) == pytest.approx(trees.PMIC_WATTS * 1e6)
    assert rpi5_pmic.rail_power_uw("        EXT5V_V volt(24)=5.10000000V\n") is None


def test_the_pmic_is_asked_at_most_ten_times_a_second(tmp_path):
    """Its period is a tenth of a second: faster sampling slows the board down."""
    (sensor,) = rpi5_pmic.discover(trees.plant(tmp_path, trees.RASPBERRY_PI_5))

    assert sensor.period_seconds >= 0.1


def test_one_unreadable_rail_makes_the_sum_unreadable(tmp_path):
    """A sum that lacks a rail would be too small, so it is None."""
    root = trees.plant(tmp_path, trees.JETSON_AGX_ORIN)
    (sensor,) = hwmon_ina3221.discover(root)

    (root / "sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon5/curr2_input").write_text("")

    assert sensor.read() is None


def test_rails_that_cannot_be_read_are_named(tmp_path):
    """A Jetson whose monitors do not answer says which rails there would be."""
    tree = {key: value for key, value in trees.JETSON_ORIN_NANO.items() if "curr" not in key}

    found, reason = instruments.find_sensors(("hwmon-ina3221",), trees.plant(tmp_path, tree))

    assert found == ()
    assert "VDD_IN" in reason


def test_a_chip_is_found_under_any_number(tmp_path):
    """The number of hwmonN changes at boot; only the name counts, and one chip seen twice counts once."""
    tree = {key.replace("hwmon2", "hwmon17"): value for key, value in trees.PI_WITH_INA219.items()}
    root = trees.plant(tmp_path, tree)
    link = root / "sys/bus/i2c/drivers/ina2xx/1-0040/hwmon"
    link.mkdir(parents=True)
    (link / "hwmon17").symlink_to(root / "sys/class/hwmon/hwmon17")

    assert [s.source for s in hwmon_ina2xx.discover(root)] == ["hwmon-ina2xx:ina219"]


@pytest.mark.parametrize(
    ("tree", "period"), [(trees.PI_WITH_INA219, 0.0681), (trees.GATEWAY_WITH_INA226, 0.070)], ids=["ina219", "ina226"]
)
def test_the_period_is_the_chips(tree, period, tmp_path):
    """The driver's interval where it tells one, the datasheet's worst case otherwise."""
    (sensor,) = hwmon_ina2xx.discover(trees.plant(tmp_path, tree))

    assert sensor.period_seconds == pytest.approx(period)


@pytest.mark.parametrize(("told_ms", "period"), [(3379, 3.379), (7, 0.1)], ids=["512-samples", "one-sample"])
def test_a_jetsons_period_is_its_chips_but_no_shorter_than_may_be_read(told_ms, period, tmp_path):
    """Averaging over many samples takes what update_interval says; quick chips are still not read too often."""
    told = {f"{trees.I2C}/1-0040/hwmon/hwmon4/update_interval": f"{told_ms}\n"}

    (sensor,) = hwmon_ina3221.discover(trees.plant(tmp_path, {**trees.JETSON_ORIN_NANO, **told}))

    assert sensor.period_seconds == pytest.approx(period)


def test_a_sum_of_rails_is_as_slow_as_the_slowest_chip(tmp_path):
    """Where rails of two chips are added, a fresh sum takes as long as the slower chip does."""
    told = {f"{trees.I2C}/1-0041/hwmon/hwmon5/update_interval": "845\n"}

    (sensor,) = hwmon_ina3221.discover(trees.plant(tmp_path, {**trees.JETSON_AGX_ORIN, **told}))

    assert sensor.period_seconds == pytest.approx(0.845)


def test_a_board_without_sensors_is_waited_for_by_nobody(tmp_path, monkeypatch):
    """Where nothing is there that could answer later, as on most boards, the agent's start takes no pause for it."""
    monkeypatch.setattr(instruments.time, "sleep", lambda _seconds: pytest.fail("there is nothing to wait for"))

    assert instruments.find_sensors((), tmp_path) == ((), "no power sensor")


def test_one_failed_read_is_no_reason_to_do_without_a_sensor(tmp_path, monkeypatch):
    """A monitor that does not answer when sensors are looked for, and does a moment later, is found."""
    root = trees.plant(tmp_path, {**trees.PI_WITH_INA219, **SILENT})
    monkeypatch.setattr(instruments.time, "sleep", lambda _seconds: trees.plant(root, trees.PI_WITH_INA219))

    found, _ = instruments.find_sensors((), root)

    assert [sensor.source for sensor in found] == ["hwmon-ina2xx:ina219"]


def test_a_line_without_power_is_no_sensor(tmp_path):
    """A monitor whose line carries nothing is passed over, and the reason says so."""
    tree = {**trees.PI_WITH_INA219, "sys/class/hwmon/hwmon2/in1_input": "0\n"}

    found, reason = instruments.find_sensors(("hwmon-ina2xx",), trees.plant(tmp_path, tree))

    assert found == ()
    assert "no power on the line" in reason


def test_a_machine_without_sensors_says_just_that(tmp_path):
    """Nothing there, nothing wrong: the reason is that there is no sensor."""
    assert instruments.find_sensors((), tmp_path) == ((), "no power sensor")


def test_an_unknown_sensor_name_is_told(tmp_path):
    """A misspelt sensor is answered with the names there are."""
    found, reason = instruments.find_sensors(("rapl",), tmp_path)

    assert found == ()
    assert "powercap-rapl" in reason
