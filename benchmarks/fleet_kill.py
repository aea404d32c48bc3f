"""The host killed by SIGKILL at random moments of one rollout, and started again: the same end as without."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

from fleet_site import NEW, OLD, FleetSite, Service, fleet_site, until
from verdicts import Figure

from edgepick_host.core.rollout_state import Stage
from edgepick_host.simulate.tally import DeviceRecord

SEED = 6
SCENARIO = """\
seed = 6
[[strata]]
profile = "generic-linux"
[strata.variants.int8]
latency = 0.9
[pace]
resend = 5.0
"""
WORKED_SHARE = 0.8
"""Kills are spread over so much of an undisturbed rollout's time: soaking goes on while no host is there."""
AT_START_SHARE = 0.2
"""Share of kills that fall anywhere from the start of the process on: reading the store, waiting for the lease."""
START_SECONDS = 13.0
PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a rollout ended.

    Attributes:
        kills: How often the host was killed while it ran.
        hit: Stages and waves in which it was.
        reports: Reports in the store, by device.
    """

    stage: Stage
    kills: int
    hit: frozenset[str]
    seconds: float
    records: tuple[DeviceRecord, ...]
    reports: dict[str, int]

    @property
    def standing(self) -> dict[str, tuple[object, ...]]:
        """What each device runs, what it has run, and how many of its reports are stored."""
        return {r.device: (r.models, r.served, r.waiting, self.reports.get(r.device, 0)) for r in self.records}


def figures(devices: int, kills: int, say: Callable[[str], None]) -> list[Figure]:
    """Return what differs between a rollout in which the host was killed and one in which it was not."""
    calm = one_rollout(devices, kills, [], say)
    say(f"undisturbed: {calm.stage} after {calm.seconds:.0f} s")
    killed = one_rollout(devices, kills, lives(kills, calm.seconds), say)
    straight = (OLD, NEW)
    differ = sum(killed.standing[device] != stands for device, stands in calm.standing.items())
    name = f"host killed in a rollout of {devices} devices"
    return [
        Figure(name=f"{name}: kills", found=killed.kills, at_least=kills),
        Figure(name=f"{name}: stages and waves that were hit", found=len(killed.hit)),
        Figure(name=f"{name}: both ended as done", found=float(calm.stage is killed.stage is Stage.DONE), at_least=1),
        Figure(name=f"{name}: devices that ended otherwise", found=differ, at_most=0),
        Figure(name=f"{name}: devices skipped", found=sum(NEW not in r.served for r in killed.records), at_most=0),
        Figure(
            name=f"{name}: devices sent back or offered twice",
            found=sum(NEW in r.served and r.served != straight for r in killed.records),
            at_most=0,
        ),
        Figure(
            name=f"{name}: reports lost or counted twice",
            found=sum(abs(killed.reports.get(d, 0) - count) for d, count in calm.reports.items()),
            at_most=0,
        ),
        Figure(name=f"{name}: seconds, without kills", found=calm.seconds, unit="s"),
        Figure(name=f"{name}: seconds, with them", found=killed.seconds, unit="s"),
    ]


def lives(kills: int, seconds: float) -> list[float]:
    """Return how long each host is at work: the gaps between moments that are spread evenly at random."""
    lot = Random(SEED)
    moments = [0.0, *sorted(lot.uniform(0, WORKED_SHARE * seconds) for _ in range(kills))]
    return [after - before for before, after in pairwise(moments)]


def one_rollout(devices: int, kills: int, lives: list[float], say: Callable[[str], None]) -> End:
    """Return how a rollout ended whose hosts lived so long each, and the last one to the end."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, fleet_site(Path(folder) / "site") as site:
        site.publish(OLD, version="1", activate=OLD)
        service = site.serve()
        simulation = site.simulate(devices, SCENARIO)
        try:
            until(lambda: simulation.all_run(OLD, devices), "the old variant is everywhere", PATIENCE_SECONDS)
            site.publish(NEW, version="1", activate="none")
            began = time.monotonic()
            site.start_rollout("--version", "1", "--canary", "2", "--waves", waves(kills), "--soak", "1s")
            service, hit = kill_often(site, service, lives, say)
            until(lambda: site.rollout().settled, "the rollout ends", PATIENCE_SECONDS)
            until(lambda: not simulation.now.waiting, "every report is stored", PATIENCE_SECONDS)
            seconds = time.monotonic() - began
        finally:
            records = simulation.end()
            service.end()
        with site.store() as store:
            reports = {r.device: len(store.reports(device=r.device)) for r in records}
        return End(
            stage=site.rollout().stage,
            kills=len(hit),
            hit=frozenset(hit),
            seconds=seconds,
            records=tuple(records),
            reports=reports,
        )


def waves(kills: int) -> str:
    """Return waves enough for the rollout to outlast the kills."""
    count = max(10, kills * 4 // 5)
    return ",".join(f"{100 * n / count:g}%" for n in range(1, count + 1))


def kill_often(
    site: FleetSite, service: Service, lives: list[float], say: Callable[[str], None]
) -> tuple[Service, list[str]]:
    """Return the service that lives at the end, and where the rollout stood at each kill before it had ended."""
    lot = Random(SEED)
    hit: list[str] = []
    for number, life in enumerate(lives, start=1):
        if lot.random() < AT_START_SHARE:
            time.sleep(lot.uniform(0, START_SECONDS))
        else:
            until(service.at_work, "the new host has taken over", 120)
            time.sleep(life)
        if (state := site.rollout()).stage.terminal:
            break
        service.kill()
        hit.append(f"{state.stage} {state.wave}")
        say(f"kill {number} of {len(lives)} in {state.stage}, wave {state.wave} of {state.waves}")
        service = site.serve()
    return service, hit
