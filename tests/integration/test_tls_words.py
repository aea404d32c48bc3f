"""Certificates with odd dates, names and authorities at a real TLS listener: status and doctor say what is wrong."""

import queue
import subprocess
from datetime import datetime, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgepick_agent.adapters.broker_probe import probe_broker
from edgepick_agent.adapters.mqtt import MqttTransport
from edgepick_agent.core.events import Connected, Disconnected
from edgepick_agent.core.findings import Level
from edgepick_agent.core.settings import BrokerSettings
from edgepick_host.adapters.mqtt import MqttBroker
from edgepick_host.core.settings import BrokerSettings as HostBrokerSettings
from edgepick_host.errors import BrokerRefusedError, UnreachableError
from fakes.free_ports import free_port
from integration.tls_plant import MOSQUITTO, TlsBroker
from integration.whole_system import DEADLINE_SECONDS, until

pytestmark = pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed")

LONG_AGO, PAST = datetime(2001, 1, 1, tzinfo=timezone.utc), datetime(2002, 1, 1, tzinfo=timezone.utc)
FUTURE, FAR = datetime(2090, 1, 1, tzinfo=timezone.utc), datetime(2095, 1, 1, tzinfo=timezone.utc)


class Maker:
    """An authority that signs whatever a test asks for."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        builder = self._builder(self.name, self.key, LONG_AGO, FAR)
        ca = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._write("ca", self.key, ca.sign(self.key, hashes.SHA256()))

    def _builder(self, subject, key, begins, ends):
        return x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number(), begins, ends)

    def make(self, stem, begins=LONG_AGO, ends=FAR, san="localhost"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, stem)])
        names = x509.SubjectAlternativeName([x509.DNSName(san)])
        builder = self._builder(subject, key, begins, ends).add_extension(names, critical=False)
        self._write(stem, key, builder.sign(self.key, hashes.SHA256()))
        return self

    def _write(self, stem, key, certificate):
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (self.folder / f"{stem}.pem").write_bytes(pem)
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (self.folder / f"{stem}.key").write_bytes(pem)

    def __truediv__(self, name):
        return str(self.folder / name)


@pytest.fixture
def plant(tmp_path):
    return Maker(tmp_path / "plant").make("server").make("device")


@pytest.fixture
def other(tmp_path):
    return Maker(tmp_path / "other").make("server").make("device")


@pytest.fixture
def listeners():
    """Provide the brokers that a test has started; they are ended after it."""
    running = []
    yield running
    for broker in running:
        broker.stop()


@pytest.fixture
def listen(tmp_path, listeners):
    def start(maker, extra="require_certificate true\nuse_identity_as_username true"):
        folder = tmp_path / "listener"
        folder.mkdir()
        port = free_port()
        files = f"cafile {maker / 'ca.pem'}\ncertfile {maker / 'server.pem'}\nkeyfile {maker / 'server.key'}\n"
        (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\n{files}allow_anonymous false\n{extra}\n")
        listeners.append(TlsBroker(folder, port))
        listeners[-1].start()
        return port

    return start


def settings(port, trusted, own=None, **changes):
    files = {"cert_file": own / "device.pem", "key_file": own / "device.key"} if own else {}
    return BrokerSettings(host="localhost", port=port, tls=True, ca_file=trusted / "ca.pem", **files, **changes)


def said(found):
    """Return what the transport and the doctor say to one attempt."""
    inbox = queue.SimpleQueue()
    transport = MqttTransport(found, "pi-1", ("t", b""), inbox.put, lambda _digest, _data: None)
    transport.start()
    event = inbox.get(timeout=DEADLINE_SECONDS)
    transport.stop()
    return event, probe_broker(found, "pi-1-doctor")


def agree(event, findings, words):
    assert isinstance(event, Disconnected)
    assert words in event.reason
    assert words in findings[-1].detail
    assert findings[-1].level is Level.FAIL


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ends": PAST}, "the broker's certificate has expired"),
        ({"begins": FUTURE}, "the broker's certificate is not yet valid by this device's clock; set the clock"),
        ({"san": "elsewhere.example"}, "the broker's certificate is for another host name"),
    ],
)
def test_a_wrong_certificate_of_the_broker_is_named(plant, listen, changes, words):
    """Expired, not yet valid and made for another name are told apart, in the same words in both places."""
    port = listen(plant.make("server", **changes))

    agree(*said(settings(port, plant, plant)), words)


def test_a_broker_of_another_authority_is_named(plant, other, listen):
    """A broker whose certificate somebody else signed is not talked to."""
    port = listen(other)

    agree(*said(settings(port, plant, plant)), "an unknown authority")


@pytest.mark.parametrize(
    ("changes", "words", "doctor"),
    [
        ({"ends": PAST}, "refused this device's certificate: expired", "expired on 2002-01-01"),
        ({"begins": FUTURE}, "refused this device's certificate", "not yet valid: it begins on 2090-01-01"),
    ],
)
def test_a_wrong_certificate_of_the_device_is_named(plant, listen, changes, words, doctor):
    """What the broker says to it is passed on, and the doctor sees the dates in the file too."""
    port = listen(plant.make("device", **changes))

    event, findings = said(settings(port, plant, plant))

    agree(event, findings, words)
    assert (findings[0].check, findings[0].level) == ("device certificate", Level.FAIL)
    assert doctor in findings[0].detail


def test_a_device_of_another_authority_is_told_so(plant, other, listen):
    """The broker refuses a certificate that it cannot trace, and the device says that this is the matter."""
    port = listen(plant)

    agree(*said(settings(port, plant, other)), "refused this device's certificate")


def refused_host(port, trusted, own=None):
    """Return what the host is told that cannot get in, with what it should do."""
    files = {"cert_file": own / "device.pem", "key_file": own / "device.key"} if own else {}
    broker = MqttBroker(HostBrokerSettings(host="localhost", port=port, tls=True, ca_file=trusted / "ca.pem", **files))
    with pytest.raises((UnreachableError, BrokerRefusedError)) as caught:
        broker.connect()
    return f"{caught.value} | {caught.value.hint}"


@pytest.mark.parametrize(
    ("changes", "words", "hint"),
    [
        ({"ends": PAST}, "its certificate has expired", "edgepick broker renew"),
        ({"begins": FUTURE}, "its certificate is not yet valid by this machine's clock", "clock"),
        ({"san": "elsewhere.example"}, "its certificate is for another host name", "--host"),
    ],
)
def test_a_wrong_certificate_of_the_broker_is_named_to_the_operator(plant, listen, changes, words, hint):
    """The host's commands tell expired, not yet valid and another name apart, each with what mends it."""
    port = listen(plant.make("server", **changes))

    said_to_host = refused_host(port, plant, plant)

    assert words in said_to_host
    assert hint in said_to_host.partition(" | ")[2]


def test_the_operator_is_told_of_an_unknown_authority(plant, other, listen):
    """A broker whose certificate somebody else signed is not talked to; the hint names the setting."""
    said_to_host = refused_host(listen(other), plant, plant)

    assert "an unknown authority" in said_to_host
    assert "ca_file" in said_to_host


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ends": PAST}, "refused this host's certificate: expired"),
        ({"begins": FUTURE}, "refused this host's certificate"),
        (None, "wants a certificate of this host"),
    ],
    ids=["expired", "not yet valid", "none"],
)
def test_a_wrong_certificate_of_the_host_is_named(plant, listen, changes, words):
    """What the broker has against the host's own certificate is passed on, although it says so after the handshake."""
    port = listen(plant.make("device", **changes) if changes else plant)

    assert words in refused_host(port, plant, plant if changes else None)


def test_the_host_takes_a_renewed_certificate_when_it_connects_again(plant, listen, listeners):
    """A service that runs for years needs no restart: the files are read anew at every connection."""
    port = listen(plant.make("renewed"))
    files = {"cert_file": plant / "device.pem", "key_file": plant / "device.key"}
    settings = HostBrokerSettings(host="localhost", port=port, tls=True, ca_file=plant / "ca.pem", **files)
    broker = MqttBroker(settings)
    broker.connect()
    before = listeners[-1].log()
    for kind in ("pem", "key"):
        (plant.folder / f"renewed.{kind}").replace(plant.folder / f"device.{kind}")

    listeners[-1].stop()
    listeners[-1].start()
    until(lambda: "u'renewed'" in listeners[-1].log(), "connected with the new certificate")
    broker.close()

    assert "u'device'" in before
    assert "u'renewed'" not in before


def test_a_missing_certificate_is_asked_for(plant, listen):
    """Where the broker wants a certificate and none is set, the keys to set are named."""
    port = listen(plant)

    agree(*said(settings(port, plant)), "`cert_file`")


def test_the_good_case_names_both_ends(plant, listen):
    """With good certificates the agent is connected, and the doctor says until when both hold."""
    port = listen(plant)

    event, findings = said(settings(port, plant, plant))

    assert event == Connected()
    assert {f.level for f in findings} == {Level.OK}
    assert findings[0].detail == "valid until 2095-01-01"


def test_a_password_over_tls_works_on_both_sides(plant, listen, tmp_path):
    """A broker with a password file and no client certificates, as hosted ones are, lets in who knows the password."""
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "pi-1", "s3cret"], check=True, capture_output=True)
    secret.write_text("s3cret\n")
    port = listen(plant, f"password_file {passwords}")
    common = {"host": "localhost", "port": port, "tls": True, "username": "pi-1", "ca_file": plant / "ca.pem"}

    event, findings = said(settings(port, plant, username="pi-1", password_file=str(secret)))
    host = MqttBroker(HostBrokerSettings(**common, password="s3cret"))
    host.connect()
    host.close()
    with pytest.raises(BrokerRefusedError):
        MqttBroker(HostBrokerSettings(**common, password="wrong")).connect()

    assert event == Connected()
    assert {f.level for f in findings} == {Level.OK}
