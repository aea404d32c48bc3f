"""An operator's folder, a broker, a host service and simulated devices, each a process of its own, for benchmarks."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import Broker, free_port
from edgepick_host.adapters.store_sql import SqlStore
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.service.requests import find_rollout
from edgepick_host.simulate.tally import DeviceRecord, Tally
from edgepick_wire import codec
from fakes.host_site import blob, variant, write_variants

FLEET = "bench"
MODEL = "digits"
PROFILE = "generic-linux"
OLD, NEW = "float32", "int8"
TICKS = os.sysconf("SC_CLK_TCK")
COMMAND_SECONDS = 300
LOOK_SECONDS = 0.2
BROKER = "max_queued_messages 0\nmax_packet_size 300000"
"""Devices that share a connection share its queue, which by default ends at 1,000 messages."""


def command(*words: object) -> list[str]:
    """Return the words of an edgepick command."""
    return [sys.executable, "-m", "edgepick_host", *map(str, words)]


def until(condition: Callable[[], Any], what: str, seconds: float) -> Any:
    """Return the first true value of ``condition``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"not within {seconds:g} s: {what}")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, both kinds together, its living children's included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / TICKS + sum(cpu_seconds(int(child)) for child in children)


def busy_seconds() -> float:
    """Return the time that all processors together were busy since the machine started (proc_pid_stat(5), cpu)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / TICKS


@dataclass
class Simulation:
    """A running ``edgepick simulate``; ``tallies`` are what it said so far, with the time."""

    process: subprocess.Popen[str]
    records_file: Path
    tallies: list[tuple[float, Tally]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin to listen."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.tallies.append((time.monotonic(), codec.decode_document(Tally, line.encode())))

    @property
    def now(self) -> Tally:
        """The newest counts."""
        if self.process.poll() not in (None, 0):
            raise RuntimeError(f"the simulation ended with code {self.process.returncode}")
        return self.tallies[-1][1] if self.tallies else Tally()

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all its processes."""
        return cpu_seconds(self.process.pid)

    def all_run(self, variant: str, devices: int) -> bool:
        """Return whether so many devices run a variant and have confirmed it, and every report has arrived."""
        now = self.now
        return now.active.get(variant, 0) >= devices and now.phases.get("confirmed", 0) >= devices and not now.waiting

    def end(self) -> list[DeviceRecord]:
        """Return what became of each device."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        self._reader.join(10)
        lines = self.records_file.read_bytes().splitlines()
        return [codec.decode_document(DeviceRecord, line) for line in lines]


@dataclass
class Service:
    """A running ``edgepick serve``."""

    process: subprocess.Popen[bytes]
    log: Path

    def at_work(self) -> bool:
        """Return whether it has the lease, and has taken in what it missed."""
        return "serving fleet" in self.log.read_text()

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has used, both kinds together."""
        return cpu_seconds(self.process.pid)

    @property
    def peak_rss_bytes(self) -> int:
        """Its largest resident size so far (VmHWM)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it as systemd does."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(120)


@dataclass
class FleetSite:
    """A folder with keys, database and logs, and a broker beside it."""

    folder: Path
    broker: Broker

    @property
    def broker_cpu_seconds(self) -> float:
        """Processor time of the broker."""
        return 0.0 if self.broker.process is None else cpu_seconds(self.broker.process.pid)

    def __call__(self, *words: object) -> str:
        """Run a command; return what it printed."""
        done = subprocess.run(
            command(*words), cwd=self.folder, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"edgepick {words[0]} ended with code {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def publish(self, name: str, *, version: str, activate: str) -> None:
        """Publish one variant that nobody compressed."""
        content = blob(len(name), 40_000)
        made = variant(name, content, profiles=(PROFILE,), pareto=(PROFILE,))
        folder = write_variants(self.folder / f"{name}-{version}", [(made, content)], model=MODEL)
        where = ("--broker", self.broker.url, "--version", version, "--activate", activate)
        self("publish", folder, *where, "--plain", "--yes", "--json")

    def start_rollout(self, *options: object) -> RolloutState:
        """Start a rollout, and return at once."""
        self("rollout", "start", MODEL, "--broker", self.broker.url, "--no-wait", "--yes", "--json", *options)
        return self.rollout()

    def rollout(self) -> RolloutState:
        """Return the newest rollout."""
        with self.store() as store:
            return find_rollout(store, None)

    def store(self) -> closing[SqlStore]:
        """Provide the host's database."""
        return closing(SqlStore(f"sqlite:///{self.folder / 'edgepick.db'}"))

    def serve(self) -> Service:
        """Start the host service; what it says goes to a file of its own."""
        said = self.folder / f"serve-{time.monotonic_ns()}.log"
        with said.open("wb") as log:
            words = command("serve", "--broker", self.broker.url)
            return Service(subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log), said)

    def simulate(self, devices: int, scenario: str, *, processes: int = 1, options: tuple[str, ...] = ()) -> Simulation:
        """Start simulated devices."""
        (self.folder / "scenario.toml").write_text(scenario)
        records = self.folder / "records.jsonl"
        words = command(
            "simulate", "--devices", devices, "--processes", processes, "--scenario", "scenario.toml", "--broker",
            self.broker.url, "--records", records, "--json", *options,
        )  # fmt: skip
        with (self.folder / "simulate.log").open("ab") as log:
            process = subprocess.Popen(words, cwd=self.folder, stdout=subprocess.PIPE, stderr=log, text=True)
        return Simulation(process, records)


@contextmanager
def fleet_site(folder: Path) -> Iterator[FleetSite]:
    """Provide a site with keys, and mosquitto."""
    (folder / "broker").mkdir(parents=True)
    broker = Broker(port=free_port(), folder=folder / "broker", kind="mosquitto", extra=BROKER)
    broker.start()
    try:
        site = FleetSite(folder, broker)
        site("keys", "init", "--fleet", FLEET, "--json")
        yield site
    finally:
        broker.stop()


def machine_words() -> list[str]:
    """Return what this machine is, for the head of a table."""
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    return [cpu.partition(":")[2].strip(), f"{os.cpu_count()} processors", f"load {os.getloadavg()[0]:.1f}"]
