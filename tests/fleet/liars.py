"""Devices of the simulated fleet that do not say what is true, and an honest fleet beside them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepick_host.core.records import Release
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.waves import Plan
from edgepick_wire import codec, topics
from edgepick_wire.messages import Report
from edgepick_wire.topics import DeviceTopic
from fleet.simulator import FLEET, Script, SimDevice, World
from fleet.synthetic import release

OLD, NEW = release("old", version="1"), release("new", version="2")
LIAR = "liar"
PLAN = Plan(version="2", wave_seconds=60, soak_seconds=0, measure_seconds=20)

Document = dict[str, Any]
Spoil = Callable[[Document], object]
"""Makes of a report's JSON what is sent instead of it; what is spoiled in place need not be returned."""


@dataclass
class Liar(SimDevice):
    """A device that spoils each of its reports before it sends it; ``spoil`` returns bytes, or a document."""

    spoil: Spoil = lambda document: document

    def _publish_report(self, report: Report) -> None:
        document = json.loads(codec.encode(report))
        made = self.spoil(document)
        data = made if isinstance(made, bytes) else json.dumps(document if made is None else made).encode()
        self.air.publish(topics.device(FLEET, self.name, DeviceTopic.REPORT), data, retain=False)


def measured_figures(document: Document, spoil: Callable[[Document], object]) -> None:
    """Spoil the measurement in a report, if it is about one."""
    part = document["measurement"]
    if part and part["measurement"]:
        spoil(part["measurement"])


def honest_fleet(count: int = 8, **scripts: Script) -> World:
    """Return a world with devices that run the old variant; the new one is faster on each of them."""
    world = World()
    world.add(count, running=OLD, **{NEW.manifest: Script(p50_ms=5), **scripts})
    world.publish(OLD)
    world.publish(NEW)
    world.host_up()
    return world


def join(world: World, device: SimDevice) -> None:
    """Have a device come up in a world."""
    device.boot()
    world.devices[device.name] = device


def liar(world: World, spoil: Spoil, *, running: Release | None = OLD, profile: str = "pi") -> Liar:
    """Return a liar that has come up beside the others."""
    device = Liar(
        name=LIAR,
        profile=profile,
        air=world.air,
        scripts={NEW.manifest: Script(p50_ms=5)},
        running=running.manifest if running else None,
        spoil=spoil,
    )
    join(world, device)
    return device


def honest(world: World) -> dict[str, str | None]:
    """Return what every device but the liar runs."""
    return {name: manifest for name, manifest in world.running().items() if name != LIAR}


def said(state: RolloutState) -> str:
    """Return everything that a rollout's lanes and history say."""
    lines = [*(lane.reason for lane in state.lanes), *(line.text for line in state.history)]
    return "\n".join(lines)
