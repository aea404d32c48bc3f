"""A site with a broker of its own, bridged by two real mosquittos: one download for all, and no uplink for hours."""

import pytest

from edgepick_host.core.broker_access import bridge_state
from edgepick_host.core.rollout_state import Stage
from edgepick_host.service.requests import load_rollouts
from edgepick_wire import topics
from edgepick_wire.messages import Outcome
from edgepick_wire.topics import DeviceTopic
from integration.site_plant import Site
from integration.tls_plant import MOSQUITTO, Intruder, TlsHost
from integration.whole_system import FLEET, MODEL, retire, until

pytestmark = pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed")


@pytest.fixture
def host(tmp_path):
    folder = tmp_path / "host"
    folder.mkdir()
    return TlsHost(folder)


@pytest.fixture
def site(host):
    made = Site(host, "line-a")
    yield made
    made.close()


@pytest.fixture
def central(host, site):
    running = host.broker()
    running.start()
    site.broker.start()
    yield running
    running.stop()


@pytest.fixture
def pair(site, central):
    devices = [site.device("pi-1"), site.device("pi-2")]
    yield devices
    retire(devices)


@pytest.fixture
def versions(variants, newer_variants):
    return variants, newer_variants


def publish(host, variants, *options):
    done = host("publish", variants, "--no-measure", "--json", *options)
    assert done.code == 0, done.err
    return done.json()


def rollout(host):
    with host.store() as store:
        return load_rollouts(store)[-1]


def operator(host, port):
    own = host.folder / "broker" / "host"
    return Intruder(port, own / "ca.pem", own / "host.pem")


def installs(host, device, manifest):
    return [r.install.outcome for r in host.reports(device) if r.install and r.install.manifest == manifest]


def test_a_site_goes_on_without_its_uplink(host, site, central, pair, versions):
    """One download serves the site; without the central broker a device installs; its report arrives later, once."""
    (first, second), (variants, newer_variants) = pair, versions
    with host.service(), operator(host, site.port) as seen:
        sent = publish(host, variants, "--version", "1", "--variant", "float32-tflite")
        old = sent["targets"][0]["active"]
        for device in pair:
            device.start()
        for device in pair:
            until(lambda d=device: d.confirmed(old), "the first version is confirmed")
        carried = site.uplink.carried_bytes
        new = publish(host, newer_variants, "--version", "2", "--activate", "none")["variants"][0]["manifest"]
        second.stop()
        seen.client.subscribe(topics.device(FLEET, "pi-2", DeviceTopic.DESIRED), 1)
        options = ("--version", "2", "--variant", "static_wi8_ai8-tflite", "--waves", "100%", "--soak", "0s")
        begun = host("rollout", "start", MODEL, *options, "--yes", "--no-wait")
        assert begun.code == 0, begun.err
        until(lambda: any(new.encode() in payload for _, payload in seen.heard), "the site knows what pi-2 should run")
        central.stop()
        second.start()
        until(lambda: second.confirmed(new), "installed from the site's broker")
        meanwhile = installs(host, "pi-2", new), len(second.waiting_reports()), second.answers() > 0.5
        central.start()
        with site.unless_stuck():
            until(lambda: rollout(host).settled, "the rollout has ended")
            until(lambda: not second.waiting_reports(), "every report is acknowledged")

    assert carried < 1.2 * sent["bytes_sent"]
    assert (meanwhile[0], meanwhile[1] > 0, meanwhile[2]) == ([], True, True)
    assert rollout(host).stage is Stage.DONE
    assert installs(host, "pi-2", new) == [Outcome.CONFIRMED]
    assert (first.active(), second.active()) == (new, new)


def test_only_what_belongs_crosses_the_bridge(host, site, central):
    """What the host writes comes in and stays retained; nobody at a site can write it, and nothing comes back."""
    report, ack = (topics.device(FLEET, "pi-1", kind) for kind in (DeviceTopic.REPORT, DeviceTopic.ACK))
    everything = f"{topics.PREFIX}/{FLEET}/#"
    with operator(host, host.port) as there, operator(host, site.port) as here:
        for each in (there, here):
            each.client.subscribe(everything, 1)
        there.publish(topics.host(FLEET), b"genuine")
        until(lambda: (topics.host(FLEET), b"genuine") in here.heard, "the host's word comes in")
        with Intruder(host.port, site.folder / "ca.pem", site.folder / "bridge.pem") as thief:
            thief.publish(topics.root(FLEET), b"forged")
            thief.publish(ack, b"forged")
            thief.publish(report, b"from the site", retain=False)
        here.publish(topics.root(FLEET), b"only at the site")
        until(lambda: (report, b"from the site") in there.heard, "a report goes out")
        there.publish(topics.host(FLEET), b"last")
        until(lambda: (topics.host(FLEET), b"last") in here.heard, "the last word comes in")
        with operator(host, site.port) as late:
            kept = late.retained([everything], topics.host(FLEET))

    assert b"forged" not in {payload for _, payload in [*there.heard, *here.heard]}
    assert (topics.root(FLEET), b"only at the site") not in there.heard
    assert (report, b"from the site") not in here.heard
    assert topics.host(FLEET) in kept


def test_a_site_is_told_when_its_bridge_goes_down(host, site, central):
    """Both brokers keep, retained, whether the bridge is connected: 1, and 0 at the site once the uplink is cut."""
    state = bridge_state("line-a")
    with operator(host, site.port) as here:
        here.client.subscribe(state, 1)
        until(lambda: (state, b"1") in here.heard, "connected")
        here.heard.clear()
        site.uplink.cut()
        until(lambda: (state, b"0") in here.heard, "cut off")
        site.uplink.restore()
        until(lambda: (state, b"1") in here.heard, "connected again")
