"""A fleet behind a broker that `edgepick broker init` configured: TLS, certificates, access list."""

import getpass
import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from fakes.free_ports import free_port
from fakes.processes import ended
from integration.whole_system import DEADLINE_SECONDS, Device, Host, until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

STUCK_SECONDS = 30.0


class TlsBroker:
    """A mosquitto that runs from a folder that was written, with nothing changed but its account."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # Started by root, mosquitto would become a user who may not read our files.
        config = self.folder / "as-this-user.conf"
        config.write_text(f"user {getpass.getuser()}\n{(self.folder / 'mosquitto.conf').read_text()}")
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen([MOSQUITTO or "mosquitto", "-c", str(config)], stdout=log, stderr=log)
        until(self._listens, "the broker listens")

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return (self.folder / "broker.log").read_text()

    def is_stuck(self) -> bool:
        """Return whether it did not end when told to; it has ended now."""
        assert self.process is not None
        return not ended(self.process, STUCK_SECONDS)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(DEADLINE_SECONDS)
        self.process = None


class TlsHost(Host):
    """A host whose edgepick.toml has what `broker init` printed, so that no command names a broker."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        super().__init__(folder, f"mqtts://localhost:{self.port}")
        made = self(
            "broker",
            "init",
            "--host",
            "localhost",
            "--host",
            "127.0.0.1",
            "--port",
            self.port,
            "--fleet",
            "plant",
            "--json",
        )
        assert made.code == 0, made.err
        config = folder / "edgepick.toml"
        config.write_text(config.read_text().partition("[broker]")[0] + made.json()["settings"])

    def broker(self) -> TlsBroker:
        return TlsBroker(self.folder / "broker" / "server", self.port)

    def enroll(self, name: str, *options: object) -> Path:
        done = self("devices", "enroll", name, *options)
        assert done.code == 0, done.err
        return self.folder / "broker" / "devices" / name

    def device(self, name: str) -> Device:
        """Return an enrolled device, its certificate's folder being ``host.folder/broker/devices/name``."""
        folder = self.enroll(name)
        return Device(self.folder.parent, self, name, broker=tls_lines(folder))


def tls_lines(folder: Path) -> str:
    """Return the keys of ``[broker]`` for certificates in ``folder``."""
    return (
        f'tls = true\nca_file = "{folder}/ca.pem"\ncert_file = "{folder}/device.pem"\nkey_file = "{folder}/device.key"'
    )


@dataclass
class Intruder:
    """A bare client with somebody's certificate, or with none."""

    port: int
    ca: Path
    certificate: Path | None = None

    def __post_init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.settled = threading.Event()
        self.up = threading.Event()
        self.down = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        context = ssl.create_default_context(cafile=str(self.ca))
        if self.certificate:
            context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
        self.client.tls_set_context(context)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: self.down.set()
        self.client.on_message = lambda _c, _d, m: self.heard.append((m.topic, bytes(m.payload)))

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: object, _props: object) -> None:
        (self.down if reason.is_failure else self.up).set()

    def __enter__(self):
        self.client.connect("localhost", self.port)
        self.client.loop_start()
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish, acknowledged; mosquitto acknowledges what it drops, too."""
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(DEADLINE_SECONDS)

    def retained(self, topics: list[str], last: str) -> set[str]:
        """Return the topics of which something was heard, once ``last``, which may be read, was."""
        for topic in [*topics, last]:
            self.client.subscribe(topic, 1)
        until(lambda: last in {topic for topic, _ in self.heard}, f"{last} is heard")
        return {topic for topic, _ in self.heard}
