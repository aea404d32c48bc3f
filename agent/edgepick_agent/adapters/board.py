"""The machine as sysfs, procfs and the Raspberry Pi firmware describe it; everything is optional.

Sources: Documentation/driver-api/thermal/sysfs-api, admin-guide/pm/cpufreq, accounting/psi;
``scaling_cur_freq`` is about the frequency last asked for. Vendors' throttling counters:
x86 ``thermal_throttle``, Jetson ``soctherm_oc`` over-current events.
"""

import os
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from edgepick_agent.adapters import sysfs
from edgepick_agent.core.board_state import BoardReading

FIRMWARE_TOOLS = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd")
FIRMWARE_SECONDS = 2.0
CLOCK_COOLERS = ("cpu", "processor", "devfreq", "gpu")
"""Beginnings and parts of the types of cooling devices that lower a clock; a fan is none."""
TICKS = os.sysconf("SC_CLK_TCK")
"""Ticks per second in /proc/stat."""
COLDEST_MC, HOTTEST_MC = -40_000, 200_000
"""Outside of this a thermal zone is off or broken (Jetson shows -256 degrees for one that is off)."""


class Board:
    """Keeps :class:`edgepick_agent.ports.Board` for the tree below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sys = root / "sys"
        self._proc = root / "proc"
        self._firmware_tool = next((root / t for t in FIRMWARE_TOOLS if os.access(root / t, os.X_OK)), None)

    def machine(self) -> str:
        """Return the device-tree model, else the CPU's name, else the architecture."""
        model = sysfs.text(self._proc / "device-tree/model") or sysfs.text(self._sys / "firmware/devicetree/base/model")
        return model or self._cpu_name() or os.uname().machine

    def _cpu_name(self) -> str | None:
        for line in (sysfs.text(self._proc / "cpuinfo") or "").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model", "Hardware"} and value.strip():
                return value.strip()
        return None

    def memory_bytes(self) -> int | None:
        """Return MemTotal, which is the physical memory less what the firmware and kernel keep."""
        for line in (sysfs.text(self._proc / "meminfo") or "").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
        return None

    def read(self) -> BoardReading:
        """Return the board's present state."""
        cooling = dict(self._cooling_counts())
        busy, steal = self._cpu_seconds()
        return BoardReading(
            temperature_mc=self._temperature(),
            frequency_khz=self._frequency(),
            governor=sysfs.text(self._sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            firmware_flags=self._firmware_flags(),
            cooling=cooling,
            cooling_now=tuple(self._cooling_now()),
            load_1min=self._load(),
            cpus=os.cpu_count() or 1,
            cpu_pressure_us=self._pressure("cpu"),
            memory_pressure_us=self._pressure("memory"),
            io_pressure_us=self._pressure("io"),
            busy_seconds=busy,
            steal_seconds=steal,
        )

    def glance(self) -> BoardReading:
        """Return what a look between two timed runs can afford: no firmware is asked."""
        return BoardReading(
            temperature_mc=self._temperature(),
            frequency_khz=self._frequency(),
            cooling_now=tuple(self._cooling_now()),
        )

    def _cpu_seconds(self) -> tuple[float | None, float | None]:
        """Return the time that the CPUs have worked, and that the hypervisor kept them, since boot.

        The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, in ticks;
        the guests' time is part of user and nice (proc(5)).
        """
        fields = (sysfs.text(self._proc / "stat") or "").partition("\n")[0].split()
        if len(fields) < 9 or fields[0] != "cpu":
            return None, None
        user, nice, system, _, _, irq, softirq, steal = (int(f) / TICKS for f in fields[1:9])
        return user + nice + system + irq + softirq, steal

    def _temperature(self) -> int | None:
        zones = (sysfs.integer(path) for path in self._sys.glob("class/thermal/thermal_zone*/temp"))
        return max((t for t in zones if t is not None and COLDEST_MC < t < HOTTEST_MC), default=None)

    def _frequency(self) -> int | None:
        paths = self._sys.glob("devices/system/cpu/cpufreq/policy*/scaling_cur_freq")
        found = [f for f in map(sysfs.integer, paths) if f is not None]
        return round(sum(found) / len(found)) if found else None

    @cached_property
    def _coolers(self) -> tuple[tuple[str, Path], ...]:
        folders = sorted(self._sys.glob("class/thermal/cooling_device*"))
        named = [(sysfs.text(folder / "type") or "", folder) for folder in folders]
        return tuple(
            (f"{kind} ({folder.name})", folder)
            for kind, folder in named
            if any(word in kind.lower() for word in CLOCK_COOLERS)
        )

    def _cooling_now(self) -> Iterator[str]:
        return (name for name, folder in self._coolers if (sysfs.integer(folder / "cur_state") or 0) > 0)

    def _cooling_counts(self) -> Iterator[tuple[str, int]]:
        return ((name, count) for name, path in self._counters() if (count := sysfs.integer(path)) is not None)

    def _counters(self) -> Iterator[tuple[str, Path]]:
        yield from ((name, folder / "stats/total_trans") for name, folder in self._coolers)
        for path in sorted(self._sys.glob("devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")):
            yield f"{path.parent.parent.name} {path.name}", path
        for path in sorted(self._sys.glob("class/hwmon/hwmon*/oc*_event_cnt")):
            yield f"over-current {path.name.removesuffix('_event_cnt')}", path

    def _firmware_flags(self) -> int | None:
        if self._firmware_tool is None:
            return None
        try:
            answer = subprocess.run(
                [str(self._firmware_tool), "get_throttled"],
                capture_output=True,
                timeout=FIRMWARE_SECONDS,
                check=True,
                text=True,
            ).stdout
            return int(answer.partition("=")[2], 16)
        except (OSError, subprocess.SubprocessError, ValueError):
            return None

    def _load(self) -> float | None:
        content = sysfs.text(self._proc / "loadavg")
        return float(content.split()[0]) if content else None

    def _pressure(self, resource: str) -> int | None:
        for line in (sysfs.text(self._proc / "pressure" / resource) or "").splitlines():
            if line.startswith("some "):
                return int(line.rpartition("total=")[2])
        return None
