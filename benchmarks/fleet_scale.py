"""A whole rollout with paired experiment at several sizes of fleet: time, the host's processor time and memory, load.

The host service, mosquitto and the devices are processes of their own on this machine. Devices run the old variant
when the clock starts; it starts with the rollout and stops when every device has confirmed the new one and the
rollout has ended. Messages and bytes of payload are counted where devices are.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fleet_site import NEW, OLD, FleetSite, Service, Simulation, busy_seconds, fleet_site, until
from verdicts import Figure

from edgepick_host.core.rollout_state import Stage
from edgepick_host.simulate.tally import Tally

SCENARIO = """\
seed = 6
[[strata]]
profile = "generic-linux"
[strata.variants.int8]
latency = 0.9
"""
PLAN = ("--version", "1", "--canary", "10", "--waves", "1%,10%,50%,100%", "--soak", "5s")
START_SECONDS = 900.0
ROLLOUT_SECONDS = 1800.0
WINDOW_SECONDS = 5.0
MOST_SECONDS = 300.0
MOST_RSS_MIB = 400.0
MOST_GROWTH = 1.20
MOST_FOREIGN = 0.15
"""Processors that others may keep busy; with more, a comparison of two runs is no evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One rollout at one size.

    Attributes:
        devices: Size of the fleet.
        seconds: From the start of the rollout until everybody has confirmed and it has ended.
        stage: How it ended.
        cpu_seconds: Of the host service.
        peak_rss_bytes: Of the host service.
        ingest_mean: Reports acknowledged per second, while any waited.
        ingest_best: The most in five seconds, per second.
        to_host: Messages from the devices to the host, of all devices.
        to_host_bytes: Their payloads.
        from_host: Messages that reached devices.
        from_host_bytes: Their payloads.
        foreign: Processors that something else kept busy, on average.
    """

    devices: int
    seconds: float
    stage: Stage
    cpu_seconds: float
    peak_rss_bytes: int
    ingest_mean: float
    ingest_best: float
    to_host: int
    to_host_bytes: int
    from_host: int
    from_host_bytes: int
    foreign: float

    @property
    def cpu_per_device(self) -> float:
        """Milliseconds of the host's processor per device."""
        return 1000 * self.cpu_seconds / self.devices


def one_size(devices: int, say: Callable[[str], None]) -> Run:
    """Return how a rollout over so many devices went."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, fleet_site(Path(folder) / "site") as site:
        site.publish(OLD, version="1", activate=OLD)
        service = site.serve()
        simulation = site.simulate(devices, SCENARIO, processes=2)
        try:
            began = time.monotonic()
            until(lambda: simulation.all_run(OLD, devices), f"{devices} devices run the old variant", START_SECONDS)
            say(f"{devices} devices run the old variant after {time.monotonic() - began:.0f} s")
            site.publish(NEW, version="1", activate="none")
            return measured(site, service, simulation, devices)
        finally:
            simulation.end()
            service.end()


def measured(site: FleetSite, service: Service, simulation: Simulation, devices: int) -> Run:
    """Return the run from here on."""
    cpu, before, began = service.cpu_seconds, simulation.now, time.monotonic()
    busy = busy_seconds()
    ours = cpu + site.broker_cpu_seconds + simulation.cpu_seconds
    site.start_rollout(*PLAN)
    until(lambda: simulation.all_run(NEW, devices), f"{devices} devices run the new variant", ROLLOUT_SECONDS)
    until(lambda: site.rollout().settled, "the rollout ends", ROLLOUT_SECONDS)
    seconds, after = time.monotonic() - began, simulation.now
    ours = service.cpu_seconds + site.broker_cpu_seconds + simulation.cpu_seconds - ours
    mean, best = ingested([(at, tally) for at, tally in simulation.tallies if at >= began])
    return Run(
        devices=devices,
        seconds=seconds,
        stage=site.rollout().stage,
        cpu_seconds=service.cpu_seconds - cpu,
        peak_rss_bytes=service.peak_rss_bytes,
        ingest_mean=mean,
        ingest_best=best,
        to_host=after.sent - before.sent,
        to_host_bytes=after.sent_bytes - before.sent_bytes,
        from_host=after.heard - before.heard,
        from_host_bytes=after.heard_bytes - before.heard_bytes,
        foreign=max(0.0, busy_seconds() - busy - ours) / seconds,
    )


def ingested(tallies: list[tuple[float, Tally]]) -> tuple[float, float]:
    """Return the reports acknowledged per second: on average while some waited, and in the best five seconds."""
    stored = [(at, tally.filed - tally.waiting, tally.waiting) for at, tally in tallies]
    steps = [(b - a, after - before) for (a, before, waiting), (b, after, _) in pairwise(stored) if waiting]
    mean = sum(count for _, count in steps) / max(sum(seconds for seconds, _ in steps), 1e-9)
    best = max(
        (
            (done - start) / (at - since)
            for since, start, _ in stored
            for at, done, _ in stored
            if WINDOW_SECONDS <= at - since < WINDOW_SECONDS + 2
        ),
        default=mean,
    )
    return mean, best


def figures(runs: list[Run]) -> list[Figure]:
    """Return every figure, beside its target where there is one."""
    return [figure for run in runs for figure in _of_one(run)] + _growth(runs)


def _of_one(run: Run) -> list[Figure]:
    name = f"{run.devices:,} devices"
    done = run.stage is Stage.DONE
    return [
        Figure(name=f"{name}: rollout to 100 % confirmed", found=run.seconds, unit="s", at_most=MOST_SECONDS),
        Figure(name=f"{name}: the rollout ended as done", found=float(done), at_least=1),
        Figure(
            name=f"{name}: peak memory of the host",
            found=run.peak_rss_bytes / 2**20,
            unit="MiB",
            at_most=MOST_RSS_MIB,
        ),
        Figure(name=f"{name}: reports taken in, mean", found=run.ingest_mean, unit="/s"),
        Figure(name=f"{name}: reports taken in, best 5 s", found=run.ingest_best, unit="/s"),
        Figure(name=f"{name}: messages to the host, a device", found=run.to_host / run.devices),
        Figure(name=f"{name}: bytes to the host, a device", found=run.to_host_bytes / run.devices, unit="B"),
        Figure(name=f"{name}: messages from the host, a device", found=run.from_host / run.devices),
        Figure(name=f"{name}: bytes from the host, a device", found=run.from_host_bytes / run.devices, unit="B"),
        Figure(name=f"{name}: host processor time, a device", found=run.cpu_per_device, unit="ms"),
        Figure(name=f"{name}: processors that others kept busy", found=run.foreign),
    ]


def _growth(runs: list[Run]) -> list[Figure]:
    """Return the cost of a device in larger fleets beside that in the smallest; no verdict if a run was disturbed."""
    first = runs[0]
    found = []
    for run in runs[1:]:
        disturbed = max(first.foreign, run.foreign) > MOST_FOREIGN
        note = " (no verdict: disturbed)" if disturbed else ""
        found.append(
            Figure(
                name=f"cost of a device, {run.devices:,} to {first.devices:,}{note}",
                found=run.cpu_per_device / first.cpu_per_device,
                unit="x",
                at_most=None if disturbed else MOST_GROWTH,
            )
        )
    return found
