"""INA3221 power monitors of NVIDIA Jetson: hwmon from JetPack 5 on, iio before.

Facts (Documentation/hwmon/ina3221.rst, NVIDIA device trees): hwmon gives millivolts and milliamperes
per labelled rail and no power, and in ``update_interval`` the milliseconds that all channels and samples
take; iio gives milliwatts too. ``in7`` is the sum of the shunt voltages, no rail. ``VDD_IN`` or
``POM_5V_IN`` is the module's input, so the other rails are inside of it.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from edgepick_agent.adapters import sysfs
from edgepick_agent.ports import SensorKind, Unusable

TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")
NOT_CONNECTED = re.compile(r"(^|[^A-Za-z])NC($|[^A-Za-z])")
CHANNELS = (1, 2, 3)
PERIOD_SECONDS = 0.1
"""Default averaging over three channels stays below; reading over I2C faster disturbs the board."""


class Rail(NamedTuple):
    """One rail: how its microwatts are read, and how long its chip takes for a fresh value."""

    read: Callable[[], float | None]
    period_seconds: float = PERIOD_SECONDS


def discover(sysfs_root: Path) -> Sequence["JetsonSensor"]:
    """Return one sensor: the module's input rail where there is one, else the sum of all rails."""
    rails = {**_hwmon_rails(sysfs_root), **_iio_rails(sysfs_root)}
    total = next((name for name in TOTAL_RAILS if name in rails), None)
    chosen = {total: rails[total]} if total else rails
    sensor = JetsonSensor(chosen, "module" if total else "rails")
    return [sensor] if chosen and sensor.read() is not None else []


def why_not(sysfs_root: Path) -> Unusable | None:
    """Return why the monitors cannot be read although they are there."""
    rails = {**_hwmon_rails(sysfs_root), **_iio_rails(sysfs_root)}
    if not rails or discover(sysfs_root):
        return None
    return Unusable(
        f"hwmon-ina3221: rails {', '.join(sorted(rails))} cannot be read",
        "let the agent's account read in*_input and curr*_input below /sys/class/hwmon: chmod a+r, by a udev rule",
    )


def _hwmon_rails(root: Path) -> dict[str, Rail]:
    rails: dict[str, Rail] = {}
    for _, folder in sysfs.hwmon_chips(root, frozenset({"ina3221"})):
        period = max(PERIOD_SECONDS, (sysfs.integer(folder / "update_interval") or 0) / 1000)
        for channel in CHANNELS:
            name = sysfs.text(folder / f"in{channel}_label")
            if name and not NOT_CONNECTED.search(name):
                rails[name] = Rail(_product(folder / f"in{channel}_input", folder / f"curr{channel}_input"), period)
    return rails


def _product(millivolt: Path, milliampere: Path) -> Callable[[], float | None]:
    voltage, current = sysfs.Attribute(millivolt), sysfs.Attribute(milliampere)

    def read() -> float | None:
        volts, amperes = voltage.integer(), current.integer()
        return None if volts is None or amperes is None else float(volts * amperes)

    return read


def _iio_rails(root: Path) -> dict[str, Rail]:
    rails: dict[str, Rail] = {}
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_[0-2]")):
        name = sysfs.text(label)
        if name and not NOT_CONNECTED.search(name):
            rails[name] = Rail(_milliwatts(label.with_name(f"in_power{label.name[-1]}_input")))
    return rails


def _milliwatts(path: Path) -> Callable[[], float | None]:
    attribute = sysfs.Attribute(path)

    def read() -> float | None:
        value = attribute.integer()
        return None if value is None else value * 1000.0

    return read


class JetsonSensor:
    """The sum of the chosen rails, in microwatts."""

    kind = SensorKind.POWER

    def __init__(self, rails: dict[str, Rail], scope: str) -> None:
        self.source = f"hwmon-ina3221:{'+'.join(sorted(rails))}"
        self.scope = scope
        self.period_seconds = max((rail.period_seconds for rail in rails.values()), default=PERIOD_SECONDS)
        self._rails = list(rails.values())

    def read(self) -> float | None:
        """Return microwatts; ``None`` if any rail cannot be read, for then the sum is too small."""
        values = [rail.read() for rail in self._rails]
        readable = [value for value in values if value is not None]
        return sum(readable) if len(readable) == len(values) else None
