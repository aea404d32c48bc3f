"""The composition root: the only place that picks adapters.

Adapters are named in literal tables as ``"module:factory"`` and imported on use, so that a device
pays only for what it has.
"""

import importlib
from typing import Any

from edgepick_wire.manifest import RuntimeName

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

TOOLS = {
    "detect": "edgepick_agent.adapters.detect:detect",
    "notifier": "edgepick_agent.adapters.systemd:notifier",
    "watchdog-seconds": "edgepick_agent.adapters.systemd:watchdog_seconds",
    "read-root": "edgepick_agent.adapters.root_file:read_root",
    "read-bundle": "edgepick_agent.adapters.bundle_file:read_bundle",
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
