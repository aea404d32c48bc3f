"""What a broker holds of simulated devices once they have ended."""

import multiprocessing
import time
from collections import Counter

import pytest

from edgepick_host import app
from edgepick_host.simulate import fleet, hub, link
from edgepick_host.simulate.fleet import FleetPlan
from edgepick_host.simulate.hub import HubPlan
from edgepick_host.simulate.link import IN_FLIGHT
from edgepick_host.simulate.scenario import Scenario
from edgepick_wire import codec, topics
from edgepick_wire.messages import Presence
from edgepick_wire.topics import DeviceTopic
from host.simulate.conftest import DEADLINE_SECONDS, SimDevices, SimSite
from host.simulate.doors import CONNACK, Door


@pytest.fixture
def quiet_site(site, broker):
    """Provide a fleet for which nothing is published: its devices come and go."""
    return SimSite(site, broker.url)


def presences(site: SimSite) -> Counter[bool]:
    """Return of how many devices the broker says that they are there, and that they are not."""
    with app.broker_of(site.settings) as asking:
        found = asking.retained([topics.every_device(site.settings.fleet, DeviceTopic.PRESENCE)])
    return Counter(codec.decode(Presence, payload).online for payload in found.values())


def wait_for(devices: SimDevices, count: int) -> None:
    """Return once so many devices are there."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while devices.hub.tally().online < count:
        assert time.monotonic() < deadline, devices.hub.tally()
        time.sleep(0.05)


@pytest.mark.parametrize("at_once", [IN_FLIGHT, 5], ids=["all at once", "few at once"])
def test_the_broker_has_heard_every_goodbye(quiet_site, monkeypatch, at_once):
    """Nobody stays behind as a ghost that a rollout would wait for, also where not all may speak at once."""
    for module in (hub, link):
        monkeypatch.setattr(module, "IN_FLIGHT", at_once)
    with quiet_site.devices(50, Scenario()) as devices:
        wait_for(devices, 50)
        devices.stop()

    assert presences(quiet_site) == {False: 50}


def test_devices_with_connections_of_their_own_say_goodbye(quiet_site):
    """One connection a device: each of them is offline at the broker afterwards."""
    with quiet_site.devices(20, Scenario(), connection_each=True) as devices:
        wait_for(devices, 20)
        devices.stop()

    assert presences(quiet_site) == {False: 20}


def test_a_broker_that_takes_no_goodbye_is_given_up_and_told_of(site, monkeypatch, capsys):
    """The process ends although the broker acknowledges nothing, and says that devices may stay online there."""
    monkeypatch.setattr(hub, "GOODBYE_SECONDS", 0.3)
    monkeypatch.setattr(fleet.signal, "signal", lambda *_: None)  # this process keeps its own
    door = Door(lambda link: link.sendall(CONNACK))
    settings = site.settings(broker=f"mqtt://127.0.0.1:{door.port}")
    root, _ = app.read_root(settings)
    plan = HubPlan(broker=settings.broker, root=root, session=1)
    ours, theirs = multiprocessing.Pipe()
    ours.close()

    fleet.work(
        FleetPlan(scenario=Scenario(), devices=1, processes=1, hub=plan, check=app.verify_signature()), 0, theirs
    )
    door.close()
    theirs.close()

    assert "did not acknowledge the last 4 messages" in capsys.readouterr().err
