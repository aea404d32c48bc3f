"""INA219, 220, 226, 230, 231, 260 and 237, 238 power monitors through hwmon.

Facts (drivers/hwmon/ina2xx.c): ``in1_input`` bus millivolts, ``curr1_input`` milliamperes in steps of
1 mA, ``power1_input`` microwatts in steps of 20 mW (INA219) or 25 mW (INA226) at the default shunt,
so voltage times current is finer and is preferred. A wrong ``shunt_resistor`` scales everything.
"""

from collections.abc import Sequence
from pathlib import Path

from edgepick_agent.adapters import sysfs
from edgepick_agent.ports import SensorKind, Unusable

SLOW = frozenset({"ina219", "ina220"})
CHIPS = SLOW | {"ina226", "ina230", "ina231", "ina237", "ina238", "ina260"}
SLOW_SECONDS = 0.0681
"""INA219 and 220: 128-sample mode, worst case of the datasheet."""
FAST_SECONDS = 0.0352
"""INA226 and later, as the driver sets them up: 16 averages of 2.2 ms."""


def discover(sysfs_root: Path) -> Sequence["LineSensor"]:
    """Return a sensor for each monitor whose line carries power, in the order of their names."""
    return [sensor for sensor in _sensors(sysfs_root) if (sensor.read() or 0) > 0]


def why_not(sysfs_root: Path) -> Unusable | None:
    """Return why the monitors that are there say nothing."""
    sensors = _sensors(sysfs_root)
    if not sensors or discover(sysfs_root):
        return None
    named = ", ".join(s.source for s in sensors)
    return Unusable(
        f"{named}: no power on the line, or it cannot be read",
        "is the line powered, and may the agent's account read in1_input and curr1_input below /sys/class/hwmon?",
    )


def _sensors(root: Path) -> list["LineSensor"]:
    return [LineSensor(chip, folder) for chip, folder in sysfs.hwmon_chips(root, frozenset(CHIPS))]


class LineSensor:
    """The line that one monitor sits in, in microwatts."""

    kind = SensorKind.POWER
    scope = "board"

    def __init__(self, chip: str, folder: Path) -> None:
        label = sysfs.text(folder / "label") or sysfs.text(folder / "in1_label")
        self.source = f"hwmon-ina2xx:{chip}" + (f":{label}" if label else "")
        interval = sysfs.integer(folder / "update_interval")
        self.period_seconds = interval / 1000 if interval else SLOW_SECONDS if chip in SLOW else FAST_SECONDS
        self._voltage = sysfs.Attribute(folder / "in1_input")
        self._current = sysfs.Attribute(folder / "curr1_input")
        self._power = sysfs.Attribute(folder / "power1_input")

    def read(self) -> float | None:
        """Return microwatts, whichever way round the shunt is soldered; ``None`` for a failed read."""
        millivolt, milliampere = self._voltage.integer(), self._current.integer()
        if millivolt is not None and milliampere is not None:
            return float(millivolt * abs(milliampere))
        power = self._power.integer()
        return None if power is None else float(power)
