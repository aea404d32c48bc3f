"""What a runner does to itself as a process: not outlive the agent, and measure its own memory."""

import ctypes
import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""prctl(2)."""

RESET_PEAK = "5"
"""Written to clear_refs, it resets VmHWM (Documentation/filesystems/proc.rst)."""


def die_with(parent_pid: int) -> None:
    """Make the kernel kill this process when the thread that started it ends; end now if it already has.

    SIGKILL, so that a runner stuck in native code goes too.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def reset_peak_memory() -> bool:
    """Set this process's VmHWM to its present VmRSS; return whether the kernel did."""
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def own_memory() -> Mapping[str, int]:
    """Return ``VmRSS`` and ``VmHWM`` of this process in bytes; empty if there is no procfs."""
    return _parse("/proc/self/status", ("VmRSS", "VmHWM"))


def own_shares() -> Mapping[str, int]:
    """Return ``Pss``, ``Private_Clean`` and ``Private_Dirty`` of this process in bytes.

    Costs the kernel a walk over all mappings, so it is read once per phase, never in a timed loop.
    """
    return _parse("/proc/self/smaps_rollup", ("Pss", "Private_Clean", "Private_Dirty"))


def own_use() -> tuple[float, int]:
    """Return the CPU seconds of all threads of this process, and how often the kernel took a CPU from one."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_nivcsw


def own_private() -> int | None:
    """Return the private memory of this process in bytes."""
    shares = own_shares()
    private = [shares[key] for key in ("Private_Clean", "Private_Dirty") if key in shares]
    return sum(private) if private else None


def _parse(path: str, wanted: tuple[str, ...]) -> Mapping[str, int]:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {f[0][:-1]: int(f[1]) * 1024 for f in fields if len(f) >= 2 and f[0][:-1] in wanted}
