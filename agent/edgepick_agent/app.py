"""The composition root: the only place that picks adapters.

Adapters are named in literal tables as ``"module:factory"`` and imported on use, so that a device
pays only for what it has.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepick_agent.core.runner_spec import GoldenFile
from edgepick_agent.ports import Board, Clock, PowerSensor, RunnerLauncher
from edgepick_wire.manifest import RunLimits, RuntimeName
from edgepick_wire.metrics import Measurement, MeasurePlan

RUNTIMES = {
    RuntimeName.LITERT: "edgepick_agent.adapters.runtimes.litert:LiteRt",
    RuntimeName.TFLITE_RUNTIME: "edgepick_agent.adapters.runtimes.tflite_runtime:TfliteRuntime",
    RuntimeName.ONNXRUNTIME: "edgepick_agent.adapters.runtimes.onnxruntime:OnnxRuntime",
    RuntimeName.TFLM: "edgepick_agent.adapters.runtimes.tflm:Tflm",
}
"""Runtime name -> a class with no arguments that keeps :class:`edgepick_agent.ports.Runtime`."""

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

TOOLS = {
    "detect": "edgepick_agent.adapters.detect:detect",
    "notifier": "edgepick_agent.adapters.systemd:notifier",
    "watchdog-seconds": "edgepick_agent.adapters.systemd:watchdog_seconds",
    "verify": "edgepick_agent.adapters.ed25519:verify",
    "bundle-file": "edgepick_agent.adapters.bundle_file:BundleFile",
    "probe-broker": "edgepick_agent.adapters.broker_probe:probe_broker",
    "inspect": "edgepick_agent.adapters.inspection:inspect",
    "service-facts": "edgepick_agent.adapters.service:service_facts",
    "carry-out": "edgepick_agent.adapters.service:carry_out",
}
"""What the technician's commands use of this machine; ``cli/site.py`` gives each its type."""


def adapter(reference: str) -> Any:
    """Return the object that ``"module:name"`` refers to, imported now."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def board(sysfs_root: Path) -> Board:
    """Return the machine below ``sysfs_root`` ("/" on a board)."""
    found: Board = adapter("edgepick_agent.adapters.board:Board")(sysfs_root)
    return found


def find_sensors(names: Sequence[str], sysfs_root: Path) -> tuple[tuple[PowerSensor, ...], str]:
    """Return the usable power sensors in order of preference, and if there is none, why.

    No names means every kind of sensor.
    """
    wanted = tuple(names) or tuple(SENSORS)
    unknown = [name for name in wanted if name not in SENSORS]
    if unknown:
        return (), f"no sensor is called {', '.join(unknown)}; there are {', '.join(SENSORS)}"
    found: list[PowerSensor] = [s for name in wanted for s in adapter(SENSORS[name])(sysfs_root)]
    reasons = [] if found else [adapter(SENSOR_REASONS[name])(sysfs_root) for name in wanted]
    return tuple(found), "; ".join(filter(None, reasons)) or "no power sensor"


def launcher(python: str | None, work_dir: Path, clock: Clock) -> RunnerLauncher:
    """Return what starts runner processes with ``python`` (``None``: this interpreter)."""
    made: RunnerLauncher = adapter("edgepick_agent.adapters.runner_process:Launcher")(python, work_dir, clock)
    return made


def benchmark(
    model: Path,
    *,
    runtime: str | None = None,
    accelerators: Sequence[str] = ("cpu",),
    plan: MeasurePlan = MeasurePlan(),
    limits: RunLimits = RunLimits(),
    golden: GoldenFile | None = None,
    sensors: Sequence[str] = (),
    sysfs_root: str = "/",
    python: str | None = None,
    stand_in: bool = False,
) -> Measurement:
    """Return the measurement of any model file, taken in a runner process of its own.

    ``plan.threads`` is the number of threads. Without ``runtime`` the first installed one that
    reads the format is taken; tflm only when named.

    Raises:
        RunError: One of its kinds; the message names the file and what was found.
    """
    measured: Measurement = adapter("edgepick_agent.adapters.benchmark:benchmark")(
        model,
        runtime=runtime,
        accelerators=tuple(accelerators),
        plan=plan,
        limits=limits,
        golden=golden,
        sensors=tuple(sensors),
        sysfs_root=sysfs_root,
        python=python,
        stand_in=stand_in,
    )
    return measured
