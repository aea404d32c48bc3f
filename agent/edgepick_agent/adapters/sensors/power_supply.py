"""Batteries through ``power_supply``, while they discharge.

Facts (Documentation/ABI/testing/sysfs-class-power): microvolts, microamperes, microwatts; drivers
differ in the sign of the current, so its magnitude counts and ``status`` tells the direction.
``ucsi-source-psy-*`` shows what USB-PD negotiated, not what flows.
"""

from collections.abc import Sequence
from pathlib import Path

from edgepick_agent.adapters import sysfs
from edgepick_agent.ports import SensorKind, Unusable

PERIOD_SECONDS = 1.0
"""Fuel gauges refresh between ten times a second and twice a minute; one second is usual."""


def discover(sysfs_root: Path) -> Sequence["BatterySensor"]:
    """Return a sensor for each battery that discharges now."""
    return [sensor for sensor in map(BatterySensor, _batteries(sysfs_root)) if sensor.read() is not None]


def why_not(sysfs_root: Path) -> Unusable | None:
    """Return why the batteries that are there do not tell the board's power."""
    batteries = _batteries(sysfs_root)
    if not batteries or discover(sysfs_root):
        return None
    states = ", ".join(f"{b.name} is {(sysfs.text(b / 'status') or 'unreadable').lower()}" for b in batteries)
    return Unusable(f"power-supply: {states}; only a discharging battery tells the board's power")


def _batteries(root: Path) -> list[Path]:
    folders = sorted(root.glob("sys/class/power_supply/*"))
    return [f for f in folders if not f.name.startswith("ucsi-source-psy-") and sysfs.text(f / "type") == "Battery"]


class BatterySensor:
    """What flows out of one battery, in microwatts."""

    kind = SensorKind.POWER
    scope = "battery"
    period_seconds = PERIOD_SECONDS

    def __init__(self, folder: Path) -> None:
        self.source = f"power-supply:{folder.name}"
        self._folder = folder

    def read(self) -> float | None:
        """Return microwatts; ``None`` while it does not discharge or cannot be read."""
        if sysfs.text(self._folder / "status") != "Discharging":
            return None
        power = sysfs.integer(self._folder / "power_now")
        if power is not None:
            return float(abs(power))
        microvolt, microampere = (sysfs.integer(self._folder / n) for n in ("voltage_now", "current_now"))
        return None if microvolt is None or microampere is None else microvolt * abs(microampere) / 1e6
