"""Whether a profile notices load on another core, on this machine, with real processes.

    python benchmarks/noise.py [--rounds 5]

Each round profiles the demo's model twice on an otherwise idle machine: alone, and with a process that
spins on the last core while the runner is held to the first. Prints what the verdicts were and why, and
ends with 1 unless every run with load was called noisy for the other process and every one without was not.
On a busy machine the runs without load are noisy too, and rightly so.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import edgepick_host.demo
from edgepick_agent import app
from edgepick_agent.core.passes import Passes
from edgepick_agent.core.profile import Profile
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_wire.metrics import MeasurePlan

MODEL = Path(edgepick_host.demo.__file__).parent / "data/digits.tflite"
WHY = "other processes kept"


def profiled(cpu: int) -> Profile:
    """Return a profile of the demo's model, held to one CPU."""
    plan = MeasurePlan(min_runs=100, min_seconds=2.0)
    return app.benchmark(ProfileRequest(model=str(MODEL), plan=plan, passes=Passes(cpus=(cpu,))))


@contextmanager
def load(cpu: int) -> Iterator[None]:
    """Keep a CPU busy meanwhile."""
    spin = f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", spin])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def shown(name: str, found: Profile) -> bool:
    """Print a verdict; return whether another process is blamed."""
    blamed = any(WHY in reason for reason in found.reasons)
    used = found.conditions.foreign_cpus
    print(f"{name:14} {found.verdict:9} others used {used if used is None else round(used, 2)} CPUs")
    for reason in found.reasons:
        print(f"{'':14} {reason}")
    return blamed


def main() -> int:
    """Run the rounds and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print("needs two cores")
        return 2
    alone, loaded = [], []
    for _ in range(rounds):
        alone.append(shown("alone", profiled(cpus[0])))
        with load(cpus[-1]):
            loaded.append(shown("load on other", profiled(cpus[0])))
    print(f"called noisy for another process: {sum(loaded)} of {rounds} with load, {sum(alone)} of {rounds} without")
    return 0 if all(loaded) and not any(alone) else 1


if __name__ == "__main__":
    sys.exit(main())
