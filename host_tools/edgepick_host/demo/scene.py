"""Everything that runs during the demo: broker, host service, agents, slow link; all of it is ended at the end."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepick_host import app
from edgepick_host.core.records import Device
from edgepick_host.core.settings import HostSettings
from edgepick_host.demo.broker import BrokerKind, RunningBroker, running_broker
from edgepick_host.demo.fleet import FLEET, MEMBERS, Member, Site, install
from edgepick_host.demo.processes import Child, stop_all
from edgepick_host.demo.slow_link import SlowLink
from edgepick_host.demo.workspace import Workspace, clean_environment, write_settings
from edgepick_host.ports import HostStore

SLOW_BYTES_PER_SECOND = 300e3
"""A weak mobile connection."""

QUICK_BYTES_PER_SECOND = 4e6
"""After the kill there is nothing left to show by waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The running parts.

    Attributes:
        workspace: Where everything lies.
        settings: The host's.
        broker: Of the demo's own.
        store: The host's memory, shared with the host service.
        host: The host service (`edgepick serve`).
        agents: By device id; not started yet.
        link: Between the broker and the one member that has a slow link.
    """

    workspace: Workspace
    settings: HostSettings
    broker: RunningBroker
    store: HostStore
    host: Child
    agents: Mapping[str, Child]
    link: SlowLink

    def check(self) -> None:
        """Do nothing while everything that should run does.

        Raises:
            StateError: Something ended by itself; its log is quoted.
        """
        self.host.check()
        for agent in self.agents.values():
            agent.check()

    def devices(self) -> Mapping[str, Device]:
        """Return every device that the host has heard of, by id."""
        return {device.device: device for device in self.store.devices()}


def slow_member() -> Member:
    """Return the member on the slow link."""
    return next(member for member in MEMBERS if member.slow_link)


@contextmanager
def open_scene(workspace: Workspace, *, kind: BrokerKind | None, tflite_python: Path | None) -> Iterator[Scene]:
    """Provide the scene with broker and host service running and agents ready; everything is ended afterwards.

    Raises:
        MissingExtraError: There is no broker.
        UnreachableError: The broker does not start.
    """
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(workspace.folder / "broker", kind=kind))
        settings = write_settings(workspace, broker.url)
        app.create_keys(workspace.keys, FLEET, config=None)
        store = stack.enter_context(app.store_of(settings))
        link = SlowLink(broker.port, bytes_per_second=SLOW_BYTES_PER_SECOND)
        stack.callback(link.close)
        site = Site(
            folder=workspace.folder / "agents",
            states=workspace.states,
            root_document=Path(settings.root_document),
            broker_port=broker.port,
            tflite_python=tflite_python,
        )
        host, agents = _host_service(workspace), _agents(site, link)
        stack.callback(lambda: stop_all([*agents.values(), host]))
        host.start()
        yield Scene(
            workspace=workspace, settings=settings, broker=broker, store=store, host=host, agents=agents, link=link
        )


def _agents(site: Site, link: SlowLink) -> dict[str, Child]:
    agents = {m.device: install(m, site, port=link.port if m.slow_link else None) for m in MEMBERS}
    for agent in agents.values():
        agent.environment = clean_environment()
    return agents


def _host_service(workspace: Workspace) -> Child:
    command = (sys.executable, "-m", "edgepick_host", "--config", str(workspace.config), "serve")
    log = workspace.folder / "host.log"
    return Child(name="the host service", command=command, log=log, environment=clean_environment())
