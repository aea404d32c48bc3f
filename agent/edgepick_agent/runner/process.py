"""What a runner does to itself as a process: not outlive the agent, and measure its own memory."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""prctl(2)."""

LOADING_NICENESS, LOWEST_NICENESS = 10, 19
FIRST_TO_GO = "1000"
"""Written to oom_score_adj (Documentation/filesystems/proc.rst)."""
RESERVED_BYTES = 256 * 1024 * 1024
"""What a runtime may ask for beyond what it touches: stacks of threads, arenas. Counted by the kernel, not resident."""

RESET_PEAK = "5"
"""Written to clear_refs, it resets VmHWM (Documentation/filesystems/proc.rst)."""


def die_with(parent_pid: int) -> None:
    """Make the kernel kill this process when the thread that started it ends; end now if it already has.

    SIGKILL, so that a runner stuck in native code goes too.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


@contextlib.contextmanager
def without(module: str) -> Iterator[None]:
    """Let what is imported meanwhile find no such module; for importers that can do without it, and save its memory."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before


def stand_back(cap_bytes: int | None) -> None:
    """Leave the device to others: half the priority, one CPU, a limit to memory, and first to be ended for want of it.

    Each part is taken if the kernel allows it; a process may always ask for less.
    """
    os.nice(LOADING_NICENESS)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    if cap_bytes is not None:
        most = cap_bytes + RESERVED_BYTES
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def stand_back_entirely() -> None:
    """Give every thread of this process the lowest priority; loading at it might never end on a busy device."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), LOWEST_NICENESS)


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
