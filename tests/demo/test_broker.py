"""Both brokers of the demo do what the protocol counts on."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgepick_host.demo import broker as brokers
from edgepick_host.demo import embedded_broker
from edgepick_host.demo.broker import BrokerKind, RunningBroker, running_broker, start_broker
from edgepick_host.errors import MissingExtraError, StateError, UnreachableError

DEADLINE = 60.0


@pytest.fixture(params=list(BrokerKind))
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningBroker]:
    if request.param is BrokerKind.MOSQUITTO and not brokers.mosquitto_program():
        pytest.skip("mosquitto is not installed")
    with running_broker(tmp_path / "broker", kind=request.param) as started:
        yield started


class Client:
    """A paho client that collects what it hears."""

    def __init__(self, broker: RunningBroker, *, will: str | None = None) -> None:
        self.heard: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self.up = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self.client.on_connect = lambda *_: self.up.set()
        self.client.on_message = lambda _client, _data, message: self.heard.put(message)
        if will:
            self.client.will_set(will, b"gone", qos=1, retain=True)
        self.client.connect("127.0.0.1", broker.port, keepalive=5)
        self.client.loop_start()
        assert self.up.wait(DEADLINE)

    def publish(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1, retain=True).wait_for_publish(DEADLINE)

    def subscribe(self, topic: str) -> None:
        done = threading.Event()
        self.client.on_subscribe = lambda *_: done.set()
        self.client.subscribe(topic, qos=1)
        assert done.wait(DEADLINE)

    def drop(self) -> None:
        """Lose the connection without saying good-bye."""
        link = self.client.socket()
        assert link is not None
        self.client.on_disconnect = lambda client, *_: client.loop_stop()
        link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_retained_message_survives_its_publisher(running: RunningBroker) -> None:
    """What was published and acknowledged is delivered after the publisher has gone, bytes unchanged."""
    chunk = os.urandom(128 * 1024)
    publisher = Client(running)
    publisher.publish("edgepick/1/fleet/c/chunk", chunk)
    publisher.close()

    reader = Client(running)
    reader.subscribe("edgepick/1/fleet/c/chunk")
    message = reader.heard.get(timeout=DEADLINE)

    reader.close()
    assert message.payload == chunk
    assert message.retain


def test_the_last_will_of_a_lost_client_is_delivered(running: RunningBroker) -> None:
    """A client that vanishes is announced by the broker."""
    watcher = Client(running)
    watcher.subscribe("presence/+")
    lost = Client(running, will="presence/lost")

    lost.drop()
    message = watcher.heard.get(timeout=DEADLINE)

    watcher.close()
    assert (message.topic, message.payload) == ("presence/lost", b"gone")


def test_a_burst_of_chunks_is_delivered_whole(running: RunningBroker) -> None:
    """Three hundred chunks asked for one by one all arrive."""
    publisher = Client(running)
    topics = [f"c/{number}" for number in range(300)]
    for topic in topics:
        publisher.publish(topic, topic.encode() * 100)
    publisher.close()

    reader = Client(running)
    for topic in topics:
        reader.client.subscribe(topic, qos=1)
    heard = {reader.heard.get(timeout=DEADLINE).topic for _ in topics}

    reader.close()
    assert heard == set(topics)


def test_a_stopped_broker_no_longer_answers(running: RunningBroker) -> None:
    """Stopping ends the process, and stopping again does nothing."""
    assert brokers.answers(running.port)

    running.stop()
    running.stop()

    assert running.process.poll() is not None
    assert not brokers.answers(running.port)


def test_a_broker_says_which_one_it_is(running: RunningBroker) -> None:
    """The text for people names the program and the address."""
    assert running.kind.value in str(running)
    assert running.url in str(running)


def test_the_embedded_broker_ends_on_sigterm_with_zero(tmp_path: Path) -> None:
    """A polite end is a success."""
    started = start_broker(tmp_path, kind=BrokerKind.AMQTT)

    started.process.send_signal(signal.SIGTERM)

    assert started.process.wait(DEADLINE) == 0
    assert (tmp_path / "broker.log").read_text() == ""


def test_the_embedded_broker_names_a_port_that_is_taken() -> None:
    """A port in use is one line of text, without a stack trace."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "edgepick_host.demo.embedded_broker", "--port", str(port)]

        ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)

    assert ended.returncode == StateError.exit_code
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_amqtt_is_mended_by_one_pip_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without amqtt the embedded broker says what to install."""
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)

    code = embedded_broker.main(["--port", "1"])

    assert code == MissingExtraError.exit_code
    assert "pip install 'edgepick[demo]'" in capsys.readouterr().err


def test_without_any_broker_both_remedies_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither mosquitto nor amqtt: the hint names both."""
    monkeypatch.setattr(brokers, "mosquitto_program", lambda: None)
    monkeypatch.setattr(brokers.importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(MissingExtraError) as raised:
        brokers.best_kind()

    assert "apt-get install mosquitto" in raised.value.hint
    assert "edgepick[demo]" in raised.value.hint


def test_without_mosquitto_the_embedded_broker_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second choice is amqtt."""
    monkeypatch.setattr(brokers, "mosquitto_program", lambda: None)

    assert brokers.best_kind() is BrokerKind.AMQTT


def test_a_broker_that_ends_at_once_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of a broker that does not start reaches the person."""
    complaint = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    monkeypatch.setattr(brokers, "_command", lambda *_: complaint)

    with pytest.raises(UnreachableError, match="no such luck"):
        start_broker(tmp_path, kind=BrokerKind.AMQTT)
