"""Let everything go wrong at random for a while, and look whether the device always comes back, without growing.

    PYTHONPATH=tests python benchmarks/soak.py [--seconds 900] [--seed N]

A real broker, host service, agent and runner, as people start them. After each fault a variant must serve again, with
right answers, within a minute. Prints each fault, and in the end the slope of the agent's resident set. The exit code
is 1 if the device came back too late, or if the agent grew by more than 8 MiB per hour.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from footprint import MIB, rss_and_pss

from edgepick_host.demo.broker import running_broker
from integration.whole_system import DATA, PROFILE, Device, Host, run, until

RUNNER = "healthy_seconds = 1.0\nbackoff_max_seconds = 2.0"
MOST_MIB_PER_HOUR = 8.0
LEAST_MINUTES_FOR_A_SLOPE = 4.0
"""What Python and the broker's client set aside in the first minutes is not a leak."""


class Soak:
    """A plant in a folder, and the ways to hurt it."""

    def __init__(self, folder: Path, url: str, chance: random.Random) -> None:
        (home := folder / "host").mkdir()
        self.host = Host(home, url)
        self.device = Device(folder, self.host)
        self.device.configure(runner=RUNNER)
        self._chance = chance
        self._version = 0
        self._variants = self._compress()
        self.memory: list[tuple[float, float]] = []
        self.faults: dict[str, Callable[[], None]] = {
            "runner killed": lambda: self._signal_runner(signal.SIGKILL),
            "runner hung": lambda: self._signal_runner(signal.SIGSTOP),
            "runner ended": lambda: self._signal_runner(signal.SIGTERM),
            "update": self.publish,
            "update, runner killed during it": self._publish_and_kill,
            "half-written report left": self._half_report,
        }

    def _compress(self) -> Path:
        out = self.host.folder / "variants"
        taken = ("--calibration", DATA / "calibration.npz", "--evaluation", DATA / "evaluation.npz")
        words = ("compress", DATA / "digits.tflite", "--name", "digits", "--profile", PROFILE, "--out", out, *taken)
        done = run("edgepick_host", *words, "--recipe", "float32", "--recipe", "static_wi8_ai8", folder=out.parent)
        assert done.code == 0, done.err
        return out

    def publish(self) -> None:
        """Have the device take a new version of one of the two variants."""
        self._version += 1
        name = self._chance.choice(("float32-tflite", "static_wi8_ai8-tflite"))
        words = ("--version", str(self._version), "--epoch", "2", "--no-measure", "--variant", name)
        chosen = ("--activate", name, "--yes") if self._version > 1 else ()
        self.host.publish(self._variants, *words, *chosen)

    def _publish_and_kill(self) -> None:
        self.publish()
        self._signal_runner(signal.SIGKILL)

    def _signal_runner(self, number: signal.Signals) -> None:
        runner = self.device.runner()
        if runner is not None and runner.pid is not None:
            os.kill(runner.pid, number)

    def _half_report(self) -> None:
        """Leave a half-written report in the outbox, as a power cut may."""
        (self.device.state / "outbox" / ".half.tmp").write_bytes(b"{")

    def came_back(self) -> float:
        """Return after how many seconds a variant serves with right answers again."""
        began = time.monotonic()
        until(self._serves, "a variant serves again, with right answers")
        return time.monotonic() - began

    def _serves(self) -> bool:
        try:
            return self.device.runner() is not None and self.device.answers(4) >= 0.75
        except (OSError, AssertionError, ValueError):
            return False

    def look(self) -> None:
        """Take note of the agent's resident set."""
        self.memory.append((time.monotonic(), rss_and_pss(self.device.pid)[0] / MIB))


def slope_per_hour(points: list[tuple[float, float]]) -> float:
    """Return the Theil-Sen slope of the second half, per hour: robust against single steps."""
    late = points[len(points) // 2 :]
    slopes = [(y - x) / (b - a) for n, (a, x) in enumerate(late) for b, y in late[n + 1 :] if b > a]
    return 3600 * statistics.median(slopes) if slopes else 0.0


def soak(plant: Soak, seconds: float, chance: random.Random) -> bool:
    """Hurt the plant for so long; return whether the agent stayed as it was."""
    counts: Counter[str] = Counter()
    slowest, pid, began = 0.0, plant.device.pid, time.monotonic()
    while time.monotonic() - began < seconds:
        name = chance.choice(list(plant.faults))
        plant.faults[name]()
        time.sleep(chance.uniform(0.1, 1.0))
        took = plant.came_back()
        slowest, counts[name] = max(slowest, took), counts[name] + 1
        plant.look()
        print(f"{time.monotonic() - began:7.1f} s  {name:<34} served after {took:5.2f} s", flush=True)
    slope, minutes = slope_per_hour(plant.memory), (time.monotonic() - began) / 60
    first, last = plant.memory[0][1], plant.memory[-1][1]
    print(", ".join(f"{count} x {name}" for name, count in counts.items()))
    print(f"slowest return {slowest:.2f} s; same agent throughout: {plant.device.pid == pid}")
    print(f"agent's RSS {first:.1f} -> {last:.1f} MiB, slope of the second half {slope:+.2f} MiB/h")
    grew = minutes >= LEAST_MINUTES_FOR_A_SLOPE and slope > MOST_MIB_PER_HOUR
    return plant.device.pid == pid and not grew


def main() -> int:
    """Run the soak and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(2**31)
    chance = random.Random(seed)
    print(f"seed {seed}, {chosen.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory() as folder, running_broker(Path(folder) / "broker") as broker:
        plant = Soak(Path(folder), f"mqtt://127.0.0.1:{broker.port}", chance)
        with plant.host.service():
            try:
                plant.device.start()
                plant.publish()
                plant.came_back()
                well = soak(plant, chosen.seconds, chance)
                plant.device.stop()
            except AssertionError as error:
                print(f"STUCK: {error}\n{plant.device.log()[-3000:]}")
                well = False
            finally:
                plant.device.end()
    print("no stuck state, no leak" if well else "FAILED")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
