"""RAPL energy counters through powercap, on Intel and AMD.

Facts (Documentation/power/powercap/powercap.rst; drivers/powercap/powercap_sys.c): microjoules;
wraps at ``max_energy_range_uj``; readable by root only since 5.10; domains nest, psys around
package around core and uncore, so levels are never summed; a domain may appear under both
``intel-rapl`` and ``intel-rapl-mmio``.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from edgepick_agent.adapters import sysfs
from edgepick_agent.ports import SensorKind, Unusable

TOP_LEVEL = re.compile(r"intel-rapl(-mmio)?:\d+")
PERIOD_SECONDS = 0.001
"""The counter is refreshed about every millisecond."""
MEND = 'add a udev rule: SUBSYSTEM=="powercap", RUN+="/bin/chmod a+r /sys%p/energy_uj"; then start the board again'


def discover(sysfs_root: Path) -> Sequence["RaplSensor"]:
    """Return the sum of the packages, then the platform domain, as far as they are readable."""
    zones = _zones(sysfs_root)
    packages = [name for name in zones if name.startswith("package")]
    groups = [(packages, "package"), ([n for n in zones if n == "psys"], "board")]
    sensors = [RaplSensor({name: zones[name] for name in names}, scope) for names, scope in groups if names]
    return [sensor for sensor in sensors if sensor.read() is not None]


def why_not(sysfs_root: Path) -> Unusable | None:
    """Return why RAPL cannot be read although it is there."""
    zones = _zones(sysfs_root)
    if not zones or discover(sysfs_root):
        return None
    return Unusable("powercap-rapl: energy_uj is readable by root only", MEND)


def _zones(root: Path) -> dict[str, Path]:
    """Return the top-level domains by name, each once: the MSR's before its memory-mapped twin."""
    zones: dict[str, Path] = {}
    for folder in sorted(root.glob("sys/class/powercap/intel-rapl*"), key=lambda f: ("mmio" in f.name, f.name)):
        name = sysfs.text(folder / "name")
        if name and TOP_LEVEL.fullmatch(folder.name):
            zones.setdefault(name, folder)
    return zones


class RaplSensor:
    """The sum of one or more domains as a counter that never goes back."""

    kind = SensorKind.ENERGY
    period_seconds = PERIOD_SECONDS

    def __init__(self, zones: dict[str, Path], scope: str) -> None:
        self.source = f"powercap-rapl:{'+'.join(sorted(zones))}"
        self.scope = scope
        self._counters = [_Counter(folder) for folder in zones.values()]

    def read(self) -> float | None:
        """Return microjoules since the sensor was made; ``None`` if any domain cannot be read."""
        values = [counter.read() for counter in self._counters]
        readable = [value for value in values if value is not None]
        return float(sum(readable)) if len(readable) == len(values) else None


class _Counter:
    """One domain; counts on over a wrap, of which at most one may lie between two reads."""

    def __init__(self, folder: Path) -> None:
        self._attribute = sysfs.Attribute(folder / "energy_uj")
        self._range = sysfs.integer(folder / "max_energy_range_uj")
        self._last: int | None = None
        self._total = 0

    def read(self) -> int | None:
        value = self._attribute.integer()
        if value is None:
            return None
        if self._last is not None and not self._count(value - self._last):
            return None
        self._last = value
        return self._total

    def _count(self, step: int) -> bool:
        """Add what was used since the last read; return whether that is known: a wrap needs the range."""
        if step < 0:
            step += self._range or 0
        self._total += max(0, step)
        return step >= 0
