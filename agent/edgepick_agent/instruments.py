"""What a measurement on a device consists of: runtimes, operator profilers, power sensors, the board.

Runner processes pick these and need nothing of the agent around them, so this imports nothing of it. Adapters are
named in literal tables as ``"module:factory"`` and imported on use, so that a device pays only for what it has.
"""

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepick_agent.ports import Board, PowerSensor, Unusable
from edgepick_wire.manifest import RuntimeName

if TYPE_CHECKING:
    from edgepick_agent.adapters.sensors.external_meter import ExternalMeter

RUNTIMES = {
    RuntimeName.LITERT: "edgepick_agent.adapters.runtimes.litert:LiteRt",
    RuntimeName.TFLITE_RUNTIME: "edgepick_agent.adapters.runtimes.tflite_runtime:TfliteRuntime",
    RuntimeName.ONNXRUNTIME: "edgepick_agent.adapters.runtimes.onnxruntime:OnnxRuntime",
    RuntimeName.TFLM: "edgepick_agent.adapters.runtimes.tflm:Tflm",
}
"""Runtime name -> a class with no arguments that keeps :class:`edgepick_agent.ports.Runtime`."""

OPERATORS = {
    RuntimeName.LITERT.value: "edgepick_agent.adapters.operators_tflite:profile",
    RuntimeName.ONNXRUNTIME.value: "edgepick_agent.adapters.operators_onnx:profile",
}
"""Runtime name -> ``(model, choice, feeds) -> OperatorTable``, of the choice's first accelerator with what follows as
its fallback; a runtime without one says so in the profile."""

SENSORS = {
    "hwmon-ina3221": "edgepick_agent.adapters.sensors.hwmon_ina3221:discover",
    "hwmon-ina2xx": "edgepick_agent.adapters.sensors.hwmon_ina2xx:discover",
    "powercap-rapl": "edgepick_agent.adapters.sensors.powercap_rapl:discover",
    "rpi5-pmic": "edgepick_agent.adapters.sensors.rpi5_pmic:discover",
    "power-supply": "edgepick_agent.adapters.sensors.power_supply:discover",
}
"""Sensor name -> a :data:`edgepick_agent.ports.Discover` function."""

SENSOR_REASONS = {name: reference.replace(":discover", ":why_not") for name, reference in SENSORS.items()}
"""Sensor name -> a :data:`edgepick_agent.ports.WhyNot` function."""


SECOND_LOOK_SECONDS = 0.02
"""A sensor that is there, and has just failed to answer, is given so long before it is done without."""


def adapter(reference: str) -> Any:
    """Return the object that ``"module:name"`` refers to, imported now."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def board(sysfs_root: Path) -> Board:
    """Return the machine below ``sysfs_root`` ("/" on a board)."""
    found: Board = adapter("edgepick_agent.adapters.board:Board")(sysfs_root)
    return found


def find_sensors(names: Sequence[str], sysfs_root: Path) -> tuple[tuple[PowerSensor, ...], str]:
    """Return the usable power sensors in order of preference, and if two looks find none, why.

    No names means every kind of sensor; one that sees the whole then comes before one that adds up rails.
    """
    wanted = tuple(names) or tuple(SENSORS)
    unknown = [name for name in wanted if name not in SENSORS]
    if unknown:
        return (), f"no sensor is called {', '.join(unknown)}; there are {', '.join(SENSORS)}"
    found = _answering(wanted, sysfs_root)
    unusable = () if found else unusable_sensors(wanted, sysfs_root)
    if unusable:
        time.sleep(SECOND_LOOK_SECONDS)
    if not found:
        found = _answering(wanted, sysfs_root)
    if not names:
        found.sort(key=lambda sensor: sensor.scope == "rails")
    return tuple(found), "; ".join(map(str, unusable)) or "no power sensor"


def _answering(names: Sequence[str], sysfs_root: Path) -> list[PowerSensor]:
    return [sensor for name in names for sensor in adapter(SENSORS[name])(sysfs_root)]


def unusable_sensors(names: Sequence[str], sysfs_root: Path) -> tuple[Unusable, ...]:
    """Return why power sensors that are there cannot be used; no names means every kind."""
    found: list[Unusable | None] = [adapter(SENSOR_REASONS[name])(sysfs_root) for name in names or SENSORS]
    return tuple(unusable for unusable in found if unusable is not None)


def external_meter(descriptor: int, period_seconds: float) -> "ExternalMeter":
    """Return the external meter whose relay writes into the pipe ``descriptor``."""
    made: ExternalMeter = adapter("edgepick_agent.adapters.sensors.external_meter:ExternalMeter")(
        descriptor, period_seconds
    )
    return made
