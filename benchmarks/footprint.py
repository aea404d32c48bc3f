"""What an agent holds in memory and takes of a core, by the method that Greengrass nucleus lite publishes.

After a warm-up, PSS and RSS are sampled every ten seconds for ten minutes; median, 95th percentile and maximum are
reported, as ``benchmark/REPORT.md`` of aws-greengrass-lite does. PSS counts a shared page in parts, so that sums
over processes are right; RSS is the larger figure and the one that one process is held to. A model's own floor
is a bare interpreter process: Python, numpy and the runtime with the same model, which has answered one inference.
"""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BARE_MODEL = """
import sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
detail = interpreter.get_input_details()[0]
interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
interpreter.invoke()
print("ready", flush=True)
time.sleep(3600)
"""
MIB = 2**20
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How long is waited and watched, in seconds."""

    warm_up: float
    seconds: float
    every: float


FULL = Protocol(warm_up=60, seconds=600, every=10)
SHORT = Protocol(warm_up=3, seconds=15, every=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes over all samples of some processes together, and the share of one core that they took."""

    rss_median: float
    rss_p95: float
    rss_max: float
    pss_median: float
    pss_p95: float
    pss_max: float
    core_share: float
    samples: int


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in listed for child in file.read_text().split()]


def rss_and_pss(pid: int) -> tuple[int, int]:
    """Return the resident and the proportional set of a process in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = {words[0]: int(words[1]) * 1024 for line in lines[1:] if len(words := line.split()) >= 2}
    return found["Rss:"], found["Pss:"]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def watch(pids: Sequence[int], protocol: Protocol) -> Footprint:
    """Return the footprint of processes together; lasts for the whole protocol."""
    time.sleep(protocol.warm_up)
    used, began = sum(map(cpu_seconds, pids)), time.monotonic()
    rss, pss = [], []
    for number in range(1, round(protocol.seconds / protocol.every) + 1):
        time.sleep(max(0.0, began + number * protocol.every - time.monotonic()))
        sizes = [rss_and_pss(pid) for pid in pids]
        rss.append(sum(size for size, _ in sizes))
        pss.append(sum(size for _, size in sizes))
    share = (sum(map(cpu_seconds, pids)) - used) / (time.monotonic() - began)
    return Footprint(
        rss_median=statistics.median(rss),
        rss_p95=percentile(rss, 0.95),
        rss_max=max(rss),
        pss_median=statistics.median(pss),
        pss_p95=percentile(pss, 0.95),
        pss_max=max(pss),
        core_share=share,
        samples=len(rss),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def watch_bare(model: Path, protocol: Protocol) -> Footprint:
    """Return the footprint of a process that only holds the runtime and the model."""
    process = subprocess.Popen([sys.executable, "-c", BARE_MODEL, str(model)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("the bare interpreter did not start")
        return watch([process.pid], protocol)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def line(name: str, found: Footprint) -> str:
    """Return one line for a person."""
    return (
        f"  {name:<30} RSS {found.rss_median / MIB:5.1f} (p95 {found.rss_p95 / MIB:5.1f}) MiB   "
        f"PSS {found.pss_median / MIB:5.1f} (p95 {found.pss_p95 / MIB:5.1f}) MiB   {found.core_share:.3%} of a core"
    )
