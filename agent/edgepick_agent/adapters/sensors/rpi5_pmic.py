"""The Raspberry Pi 5's power-management chip, through ``vcgencmd pmic_read_adc``.

Each rail with both a current and a voltage counts; they are paired by name. The 5 V input current
is not measured, so USB, HATs, the fan and conversion losses are missing: the scope says "rails".
Never read faster than ten times a second, and never during a latency run.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgepick_agent.ports import SensorKind, Unusable

TOOL = "usr/bin/vcgencmd"
PERIOD_SECONDS = 0.1
TIMEOUT_SECONDS = 2.0
READING = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)


def discover(sysfs_root: Path) -> Sequence["PmicSensor"]:
    """Return the sensor on a Raspberry Pi 5 whose firmware may be asked."""
    sensor = PmicSensor(sysfs_root / TOOL)
    return [sensor] if os.access(sysfs_root / TOOL, os.X_OK) and sensor.read() is not None else []


def why_not(sysfs_root: Path) -> Unusable | None:
    """Return why a Raspberry Pi does not tell its power."""
    tool = sysfs_root / TOOL
    if not os.access(tool, os.X_OK) or discover(sysfs_root):
        return None
    said = ask(tool)
    if said is None or "group" in said or "vchi" in said.lower() or "permission" in said.lower():
        return Unusable(
            "rpi5-pmic: vcgencmd may not be used",
            "put the agent's account into group video: sudo usermod -aG video edgepick",
        )
    return Unusable("rpi5-pmic: this Raspberry Pi does not measure its currents (only the 5 does)")


def ask(tool: Path) -> str | None:
    """Return what the firmware answers, or ``None`` if it cannot be asked."""
    try:
        done = subprocess.run(
            [str(tool), "pmic_read_adc"], capture_output=True, timeout=TIMEOUT_SECONDS, check=False, text=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout + done.stderr


def rail_power_uw(answer: str) -> float | None:
    """Return the summed power of all rails in an answer, in microwatts; ``None`` if it names none."""
    values = {(name, unit): float(value) for name, unit, value in READING.findall(answer) if value.count(".") < 2}
    rails = [name for name, unit in values if unit == "A" and (name, "V") in values]
    return sum(values[name, "A"] * values[name, "V"] for name in rails) * 1e6 if rails else None


class PmicSensor:
    """The sum of the chip's rails, in microwatts."""

    source = "rpi5-pmic"
    scope = "rails"
    kind = SensorKind.POWER
    period_seconds = PERIOD_SECONDS

    def __init__(self, tool: Path) -> None:
        self._tool = tool

    def read(self) -> float | None:
        """Return microwatts; ``None`` if the firmware does not answer."""
        answer = ask(self._tool)
        return None if answer is None else rail_power_uw(answer)
