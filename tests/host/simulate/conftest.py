"""A real broker, an operator's site, and simulated devices beside it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepick_host import app
from edgepick_host.core.settings import HostSettings
from edgepick_host.core.waves import Plan
from edgepick_host.service.prepare import Selection
from edgepick_host.service.publisher import Activation
from edgepick_host.simulate.hub import Hub, HubPlan
from edgepick_host.simulate.scenario import Pace, Scenario, identities
from edgepick_host.simulate.tally import DeviceRecord
from fakes.host_site import Site, blob, variant, write_variants

PROFILE = "generic-linux"
QUICK = Pace(measure=0.1, fetch=0.1, trial=0.05, confirm=0.1, crash=0.3, resend=5.0)
DEADLINE_SECONDS = 90.0


class SimSite:
    """An operator's folder at a broker, in this process."""

    def __init__(self, site: Site, url: str) -> None:
        self.settings: HostSettings = site.settings(broker=url)
        self.folder: Path = site.folder
        self.said: list[str] = []

    def publish(self, name: str, version: str, *, activate: str = "none") -> None:
        """Publish one variant that nobody compressed, small as a picture."""
        content = blob(len(name), 3000)
        made = variant(name, content, profiles=(PROFILE,), pareto=(PROFILE,))
        app.publish(
            self.settings,
            write_variants(self.folder / f"{name}-{version}", [(made, content)]),
            selection=Selection(fleet=self.settings.fleet, version=version, plain=True),
            activation=Activation(activate=activate, measure=True),
        )

    @contextmanager
    def devices(self, count: int, scenario: Scenario, **plan: Any) -> Iterator["SimDevices"]:
        """Have simulated devices live in a thread."""
        root, _ = app.read_root(self.settings)
        hub_plan = HubPlan(broker=self.settings.broker, root=root, session=1, **plan)
        made = replace(scenario, pace=QUICK)
        running = SimDevices(Hub(hub_plan, identities(made, count), app.verify_signature()))
        running.hub.open()
        running.start()
        try:
            yield running
        finally:
            running.stop()

    def rollout(self, plan: Plan) -> Any:
        """Return a rollout that has ended, in which this process was the host."""
        with app.coordinator_of(self.settings, say=self.said.append) as coordinator:
            app.start_rollout(self.settings, "digits", plan)
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not app.rollout(self.settings, None).settled:
                assert time.monotonic() < deadline, self.said[-20:]
                coordinator.step(0.05)
        return app.rollout(self.settings, None)

    def host_until(self, condition: Callable[[], Any], what: str) -> None:
        """Be the host until something holds."""
        with app.coordinator_of(self.settings, say=self.said.append) as coordinator:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not condition():
                assert time.monotonic() < deadline, what
                coordinator.step(0.05)


class SimDevices(threading.Thread):
    """Simulated devices, living until they are stopped."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(daemon=True)
        self.hub = hub
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            self.hub.turn()

    def stop(self) -> list[DeviceRecord]:
        """Return what became of each device; connections are closed."""
        if not self._ended.is_set():
            self._ended.set()
            self.join(DEADLINE_SECONDS)
            self.hub.close()
        return self.hub.records()

    def confirmed(self, count: int) -> Callable[[], bool]:
        """Return a question: whether so many devices run something that they have confirmed, all reports in."""

        def asked() -> bool:
            now = self.hub.tally()
            return now.phases.get("confirmed", 0) == count and now.waiting == 0

        return asked


@pytest.fixture
def sim_site(site: Site, broker: Any) -> SimSite:
    made = SimSite(site, broker.url)
    made.publish("float32", "1", activate="float32")
    return made
