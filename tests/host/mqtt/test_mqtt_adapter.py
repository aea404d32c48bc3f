"""The broker adapter against mosquitto: TLS, reconnecting, permissions, presence."""

import contextlib
import gc
import socket
import subprocess
import threading

import pytest

from edgepick_host import app
from edgepick_host.adapters.mqtt import MqttBroker
from edgepick_host.core.settings import BrokerSettings, HostSettings
from edgepick_host.errors import BrokerRefusedError, ConfigError, UnreachableError

WAIT_SECONDS = 60


def connected(port: int, **more) -> MqttBroker:
    made = MqttBroker(BrokerSettings(port=port), **more)
    made.connect()
    return made


def needs_mosquitto(broker) -> None:
    if broker.kind != "mosquitto":
        pytest.skip("only mosquitto is configured like this")


class Inbox:
    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()

    def __call__(self, topic: str, payload: bytes) -> None:
        with self._changed:
            self.messages.append((topic, payload))
            self._changed.notify_all()

    def wait_for(self, payload: bytes) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: payload in [p for _, p in self.messages], WAIT_SECONDS)


def test_reconnects_and_subscribes_again(broker):
    """After the broker was restarted, subscriptions and the birth are there again without anybody's doing."""
    inbox, witness = Inbox(), Inbox()
    host = connected(broker.port, birth=("t/host", b"here"))
    host.subscribe(["t/x"], inbox)

    broker.stop()
    broker.start()
    other = connected(broker.port)
    other.subscribe(["t/host"], witness)
    witness.wait_for(b"here")
    other.publish("t/x", b"after", retain=True)
    inbox.wait_for(b"after")

    host.close()
    other.close()


def test_publication_survives_a_restart_of_the_broker(broker):
    """Messages in flight while the broker restarts are acknowledged after it."""
    host = connected(broker.port)
    counts: list[int] = []

    def messages():
        for number in range(60):
            if number == 30:
                broker.stop()
                broker.start()
            yield f"t/{number}", bytes(1000)

    host.publish_many(messages(), on_done=counts.append)

    assert counts[-1] == 60
    assert "t/59" in host.retained(["t/59"])
    host.close()


def test_in_flight_is_bounded(broker):
    """A generator is asked for the next message only while fewer than the window are unacknowledged."""
    host = connected(broker.port)
    ahead: list[int] = []
    done = [0]

    def messages():
        for number in range(100):
            ahead.append(number + 1 - done[0])
            yield f"t/{number}", b"x"

    host.publish_many(messages(), on_done=lambda count: done.__setitem__(0, count))

    assert max(ahead) <= 16
    host.close()


def test_last_will(broker):
    """A host that vanishes leaves its will; one that closes does not."""
    inbox = Inbox()
    watcher = connected(broker.port)
    watcher.subscribe(["t/+"], inbox)
    vanishing = connected(broker.port, will=("t/gone", b"dead"))
    leaving = connected(broker.port, will=("t/left", b"dead"))

    leaving.close()
    vanishing._client.socket().shutdown(2)
    inbox.wait_for(b"dead")

    assert ("t/left", b"dead") not in inbox.messages
    vanishing.close()
    watcher.close()


def test_handler_that_fails_silences_nobody(broker, caplog):
    """An error in one handler is logged, and the next message is delivered."""
    inbox = Inbox()
    host = connected(broker.port)

    def fail(_topic: str, _payload: bytes) -> None:
        raise RuntimeError("a bug")

    host.subscribe(["t/x"], fail)
    host.subscribe(["t/x"], inbox)
    host.publish("t/x", b"1", retain=False)
    inbox.wait_for(b"1")
    host.publish("t/x", b"2", retain=False)
    inbox.wait_for(b"2")
    host.close()

    assert "a handler of broker messages failed" in caplog.text


def refuse_to_subscribe(server: socket.socket) -> None:
    """Speak just enough MQTT to accept one client and refuse its subscription (SUBACK 0x80)."""
    peer, _ = server.accept()
    with peer:
        peer.recv(1000)
        peer.sendall(bytes([0x20, 2, 0, 0]))
        packet = peer.recv(1000)
        peer.sendall(bytes([0x90, 3]) + packet[2:4] + b"\x80")
        peer.recv(1000)


def test_subscription_that_is_not_allowed():
    """A broker that forbids reading is an error that says which topics."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        refuser = threading.Thread(target=refuse_to_subscribe, args=[server])
        refuser.start()
        host = connected(server.getsockname()[1])

        with pytest.raises(BrokerRefusedError, match="does not allow to read secret/x"):
            host.subscribe(["secret/x"], lambda _topic, _payload: None)
        host.close()
        refuser.join(WAIT_SECONDS)


class LateBroker:
    """Takes in one client, grants what it subscribes to, and says what it has to say when it is asked once more.

    So it is for whoever stood still, or whose broker did, between the subscription and what is retained on it.
    """

    def __init__(self, topic: str) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self._late = bytes([0x31, 2 + len(topic) + 1, 0, len(topic)]) + topic.encode() + b"1"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        link, _ = self._door.accept()
        with link, link.makefile("rb") as stream, contextlib.suppress(ConnectionError):  # the client may be gone first
            while packet := self._packet(stream):
                link.sendall(self._answer(*packet))

    def _packet(self, stream) -> tuple[int, bytes] | None:
        head = stream.read(2)  # every packet of these tests is shorter than 128 bytes
        return (head[0] >> 4, stream.read(head[1])) if head else None

    def _answer(self, kind: int, body: bytes) -> bytes:
        said, self._late = (self._late, b"") if kind == 10 else (b"", self._late)
        answers = {1: b"\x20\x02\x00\x00", 3: b"\x40\x02" + body[-2:], 8: b"\x90\x03" + body[:2] + b"\x01"}
        return said + (b"\xb0\x02" + body[:2] if kind == 10 else answers.get(kind, b""))

    def close(self) -> None:
        self._thread.join(WAIT_SECONDS)
        self._door.close()


@pytest.fixture
def late():
    """Provide a host at a broker that is late with a message on ``t/x``."""
    broker = LateBroker("t/x")
    host = connected(broker.port)
    yield host
    host.close()
    broker.close()


def test_what_is_retained_is_heard_however_late_it_comes(late):
    """A silence is no end while the broker has more to say: half a second of a busy machine hides no message."""
    found = late.retained(["t/+"], quiet_seconds=0.0)

    assert found == {"t/x": b"1"}


def test_a_share_is_heard_however_late_it_comes(late, monkeypatch):
    """A broker that deals out is not taken for one that does not because it was busy for a second."""
    monkeypatch.setattr("edgepick_host.adapters.mqtt.broker.SHARE_SECONDS", 0.0)

    assert late.shares("t/x")


@pytest.fixture
def certificates(tmp_path):
    """Provide an authority and a broker's certificate for 127.0.0.1."""
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 2",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile san",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def secure(broker, certificates):
    """Provide a broker that speaks TLS."""
    needs_mosquitto(broker)
    broker.stop()
    broker.extra = (
        f"user root\ncafile {certificates / 'ca.pem'}\n"
        f"certfile {certificates / 'server.pem'}\nkeyfile {certificates / 'server.key'}"
    )
    broker.start()
    return broker


def test_tls(secure, certificates):
    """With the right authority, a TLS broker is reached and verified."""
    host = MqttBroker(BrokerSettings(port=secure.port, tls=True, ca_file=str(certificates / "ca.pem")))
    host.connect()

    host.publish("t/x", b"1", retain=True)

    assert host.retained(["t/x"]) == {"t/x": b"1"}
    host.close()


# paho leaves the socket of a failed handshake to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_of_a_stranger(secure):
    """A broker whose certificate nobody here vouches for is not spoken to."""
    with pytest.raises(UnreachableError, match="no trusted TLS connection") as caught:
        MqttBroker(BrokerSettings(port=secure.port, tls=True)).connect()

    assert "ca_file" in caught.value.hint
    del caught
    gc.collect()


def test_tls_without_tls(secure):
    """Plain MQTT to a TLS port ends with a hint at mqtts."""
    with pytest.raises(UnreachableError) as caught:
        MqttBroker(BrokerSettings(port=secure.port)).connect(timeout_seconds=5)

    assert "mqtts://" in caught.value.hint


def test_certificate_file_that_is_missing(tmp_path):
    """A certificate file that does not exist is a configuration error that names it."""
    with pytest.raises(ConfigError, match=r"none\.pem"):
        MqttBroker(BrokerSettings(tls=True, ca_file=str(tmp_path / "none.pem")))


def test_unknown_host():
    """A name that does not resolve is unreachable, by its name."""
    settings = HostSettings(broker=BrokerSettings(host="no-such-host.invalid"))

    with pytest.raises(UnreachableError, match=r"no-such-host\.invalid:1883 cannot be reached"):
        app.connect_broker(settings)
