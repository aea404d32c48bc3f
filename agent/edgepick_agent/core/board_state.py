"""A look at a board; apart from what is made of it, as the agent needs no more than the look."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardReading:
    """One look at the board; ``None`` or empty where it cannot be read.

    Attributes:
        temperature_mc: Hottest thermal zone, millidegrees Celsius.
        frequency_khz: Mean current CPU frequency.
        governor: cpufreq governor of CPU 0.
        firmware_flags: The Raspberry Pi firmware's throttling word.
        cooling: Name of a throttling counter or cooling device -> its count; growth is throttling.
        cooling_now: Names of the CPU or GPU cooling devices that hold the clock down now.
        load_1min: System load average.
        cpus: Number of CPUs.
        cpu_pressure_us: PSI "some" CPU stall time since boot, microseconds.
        memory_pressure_us: The same for memory.
        io_pressure_us: The same for input and output.
        busy_seconds: CPU time that all CPUs together have worked since boot.
        steal_seconds: CPU time that the hypervisor has given to other guests since boot.
    """

    temperature_mc: int | None = None
    frequency_khz: int | None = None
    governor: str | None = None
    firmware_flags: int | None = None
    cooling: Mapping[str, int] = field(default_factory=dict)
    cooling_now: tuple[str, ...] = ()
    load_1min: float | None = None
    cpus: int = 1
    cpu_pressure_us: int | None = None
    memory_pressure_us: int | None = None
    io_pressure_us: int | None = None
    busy_seconds: float | None = None
    steal_seconds: float | None = None
