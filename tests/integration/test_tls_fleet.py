"""The broker that `edgepick broker init` configured, with real agents: they get in and get models; nobody gets more."""

import subprocess

import pytest

from edgepick_wire import topics
from edgepick_wire.topics import DeviceTopic
from integration.tls_plant import MOSQUITTO, Intruder, TlsHost
from integration.whole_system import DEADLINE_SECONDS, FLEET, retire, run, until

pytestmark = pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed")


@pytest.fixture
def host(tmp_path):
    folder = tmp_path / "host"
    folder.mkdir()
    return TlsHost(folder)


@pytest.fixture
def tls_broker(host):
    running = host.broker()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def pair(host, tls_broker):
    devices = [host.device("pi-1"), host.device("pi-2")]
    yield devices
    retire(devices)


def own(host, name):
    folder = host.folder / "broker" / "devices" / name
    return Intruder(host.port, folder / "ca.pem", folder / "device.pem")


def publish(host, variants):
    done = host("publish", variants, "--no-measure", "--json")
    assert done.code == 0, done.err
    return done.json()["targets"][0]["active"]


def test_two_enrolled_devices_and_the_host_do_the_whole_job_over_tls(host, tls_broker, pair, variants):
    """Publish, install and confirm work with certificates alone, and a device reaches only its own topics."""
    manifest = publish(host, variants)
    for device in pair:
        device.start()
    for device in pair:
        until(lambda d=device: d.confirmed(manifest), "confirmed over TLS")
    listed = host("devices", "list", "--json")
    mine = topics.device(FLEET, "pi-1", DeviceTopic.PRESENCE)
    theirs = [topics.device(FLEET, "pi-2", kind) for kind in DeviceTopic]
    with Intruder(host.port, host.folder / "broker/host/ca.pem", host.folder / "broker/host/host.pem") as operator:
        operator.publish(topics.device(FLEET, "pi-2", DeviceTopic.DESIRED), b"for pi-2 alone")
        operator.publish(topics.device(FLEET, "pi-1", DeviceTopic.DESIRED), b"for pi-1 alone")
    with own(host, "pi-1") as thief:
        shared = topics.root(FLEET)
        heard = thief.retained([*theirs, f"{topics.PREFIX}/#"], shared)
        thief.publish(theirs[list(DeviceTopic).index(DeviceTopic.REPORTED)], b"forged")
        thief.publish(topics.device(FLEET, "pi-1", DeviceTopic.DESIRED), b"forged")
        thief.publish(topics.root(FLEET), b"forged")
        thief.publish(mine, b"my own", retain=False)
    with Intruder(host.port, host.folder / "broker/host/ca.pem", host.folder / "broker/host/host.pem") as operator:
        operator.retained([f"{topics.PREFIX}/{FLEET}/#"], topics.root(FLEET))

    assert listed.code == 0
    assert {d["device"] for d in listed.json()} == {"pi-1", "pi-2"}
    assert not set(theirs) & heard
    assert topics.device(FLEET, "pi-1", DeviceTopic.DESIRED) in heard
    assert b"forged" not in {payload for _, payload in operator.heard}


def test_nobody_without_a_certificate_gets_in(host, tls_broker):
    """A client that trusts the broker but shows no certificate is cut off before it can say anything."""
    with Intruder(host.port, host.folder / "broker/host/ca.pem") as nobody:
        assert nobody.down.wait(DEADLINE_SECONDS)
        assert not nobody.up.is_set()


def test_a_device_set_up_from_one_file_is_let_in(host, tls_broker, tmp_path):
    """The archive of an enrolment, unpacked on the device, is all that it needs to get in."""
    host.enroll("pi-1", "--archive", tmp_path / "pi-1.tar")
    there = tmp_path / "etc"
    there.mkdir()
    subprocess.run(["tar", "-xf", str(tmp_path / "pi-1.tar"), "-C", str(there)], check=True)

    doctor = run("edgepick_agent", "doctor", "--config", there / "agent.toml", "--json", folder=there)

    checks = {found["check"]: found["level"] for found in doctor.json()["findings"]}
    assert checks["broker login"] == "ok"


def test_an_expelled_device_is_refused_and_comes_back_with_a_new_key(host, tls_broker, pair):
    """After `devices expel` the old certificate counts no longer; enrolled again the device is let in."""
    device, _ = pair
    device.start()
    until(lambda: device.status().broker == "connected", "connected")

    expelled = host("devices", "expel", "pi-1")
    tls_broker.stop()
    tls_broker.start()
    words = until(lambda: "revoked" in (b := device.status().broker) and b, "it says so")
    doctor = device("doctor")
    host.enroll("pi-1")
    until(lambda: device.status().broker == "connected", "connected with the new certificate, without a restart")

    assert expelled.code == 0
    assert "the broker refused this device's certificate: it was revoked" in words
    assert "it was revoked" in doctor.out


def test_a_renewed_certificate_counts_at_the_next_connection(host, tls_broker, pair):
    """The running agent takes the new file when it connects again; only the old certificate being expelled shows it."""
    device, _ = pair
    folder = host.folder / "broker" / "devices" / "pi-1"
    device.start()
    until(lambda: device.status().broker == "connected", "connected")
    before = (folder / "device.pem").read_bytes(), (folder / "device.key").read_bytes()

    host.enroll("pi-1", "--renew")
    tls_broker.stop()
    until(lambda: device.status().broker != "connected", "cut off")
    tls_broker.start()
    until(lambda: device.status().broker == "connected", "connected again")

    assert (folder / "device.pem").read_bytes() != before[0]
    assert (folder / "device.key").read_bytes() == before[1]
