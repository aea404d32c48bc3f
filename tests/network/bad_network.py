"""A fleet on a bad network: a broker, a host that publishes and acknowledges, and agents behind the proxy."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from edgepick_agent.adapters.control_socket import ask_agent
from edgepick_agent.core.control import CONTROL_SOCKET, AgentStatus, Command, ControlRequest
from edgepick_agent.errors import UnreachableError
from edgepick_wire import codec, envelope, topics
from edgepick_wire.messages import Ack, Assignment, ModelState, Phase, Presence, Report, TargetKind
from edgepick_wire.topics import DeviceTopic
from fakes.agent_process import until
from fakes.host_stand_in import Bundle, HostStandIn, bundle
from network.proxy import CALM, Proxy, Tally, Weather
from wire.wire_keys import root, signed_root

TESTS = Path(__file__).parent.parent
WINDOW = 8
PATIENT_SECONDS, BRISK_SECONDS = 60.0, 2.0
"""Silence that an agent takes for a loss: where a network loses nothing, none is one, however busy the machine."""
CONVERGE_SECONDS = 120.0


def big_bundle(version: str, **changes: Any) -> Bundle:
    """Return a variant of 53 different chunks, the two of its golden file the same in every version."""
    return bundle(version, model_size=24_000, **changes)


class Host:
    """Publishes, and says at each connection that it is there, as the host's service does.

    Attributes:
        publishes_again: The broker forgets; whenever it is back it is told everything again.
    """

    def __init__(self, port: int) -> None:
        self.publishes_again = False
        self.reports: dict[str, Report] = {}
        self._retained: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"host-{os.getpid()}")
        self._client.reconnect_delay_set(1, 1)
        self._client.max_queued_messages_set(0)
        self._client.on_connect = self._connected
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._desk = HostStandIn(self)

    def publish(self, topic: str, payload: bytes) -> None:
        with self._lock:
            self._retained[topic] = payload
        self._client.publish(topic, payload, qos=1, retain=True)

    def release(self, made: Bundle) -> Bundle:
        return self._desk.publish(made)

    def want(self, made: Bundle) -> None:
        """Have every device of the profile run a variant."""
        change = Assignment(model="digits", active=made.digest)
        address = {"target_kind": TargetKind.PROFILE, "target": self._desk.profile}
        self.publish(self._desk.topic(TargetKind.PROFILE), self._desk.desired(change, **address))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: paho.Client, *_: object) -> None:
        client.subscribe(topics.every_device("demo", DeviceTopic.REPORT), qos=1)
        presence = Presence(session=1, online=True)
        client.publish(topics.host("demo"), codec.encode(presence), qos=1, retain=True)
        with self._lock:
            kept = list(self._retained.items())
        for topic, payload in kept:
            if self.publishes_again or topic.endswith("/desired"):
                client.publish(topic, payload, qos=1, retain=True)

    def _heard(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        report = codec.decode(Report, message.payload)
        self.reports[report.id] = report
        topic = topics.device("demo", report.device, DeviceTopic.ACK)
        self._client.publish(topic, codec.encode(Ack(ids=(report.id,))), qos=1)


class LightAgent:
    """One agent process with a folder of its own."""

    def __init__(
        self, folder: Path, name: str, port: int, *, confirm_seconds: float = 0.2, lossy: bool = False
    ) -> None:
        self.name = name
        self.folder = folder / name
        self.state = self.folder / "s"
        self.config = self.folder / "agent.toml"
        self.process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir()
        (self.folder / "root.signed").write_bytes(envelope.pack(signed_root(root(), 0)))
        silence = BRISK_SECONDS if lossy else PATIENT_SECONDS
        self.config.write_text(
            f'device = "{name}"\nfleet = "demo"\nprofile = "generic-linux"\nstate_dir = "s"\n'
            f'root_document = "root.signed"\nstand_in = true\n[broker]\nhost = "127.0.0.1"\nport = {port}\n'
            "keepalive_seconds = 5\nreconnect_max_seconds = 1.0\n"
            f"[fetch]\nwindow = {WINDOW}\ntimeout_seconds = {silence}\nretries = 10\n"
            f"[runner]\nconfirm_seconds = {confirm_seconds}\nhealth_interval_seconds = 0.05\n"
        )

    @property
    def client(self) -> str:
        return f"edgepick-demo-{self.name}"

    @property
    def hold(self) -> Path:
        return self.folder / "hold"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "network.light_agent", str(self.config)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def status(self) -> AgentStatus | None:
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-3000:]
        try:
            return ask_agent(self.state / CONTROL_SOCKET, ControlRequest(command=Command.STATUS)).status
        except UnreachableError:
            return None

    def model(self) -> ModelState | None:
        status = self.status()
        return status.models[0] if status and status.models else None

    def is_in(self, phase: Phase) -> bool:
        model = self.model()
        return model is not None and model.phase is phase

    def has_converged(self, made: Bundle) -> bool:
        """Return whether the variant is active and confirmed, and nothing waits to be acknowledged."""
        model = self.model()
        confirmed = model is not None and (model.phase, model.active) == (Phase.CONFIRMED, made.digest)
        return confirmed and not list((self.state / "outbox").glob("*.json"))

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(CONVERGE_SECONDS)
            assert (code, "Traceback" in self.log()) == (0, False), self.log()[-3000:]

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Site:
    """All of it, to be closed at the end."""

    def __init__(self, folder: Path, broker: Any, *, weather: Weather = CALM, seed: int = 0) -> None:
        self.folder = folder
        self.broker = broker
        self.proxy = Proxy(broker.port, weather=weather, seed=seed)
        self.host = Host(broker.port)
        self.agents: list[LightAgent] = []

    def agent(self, name: str = "pi-1", **options: Any) -> LightAgent:
        lossy = self.proxy.weather.lose_share > 0
        made = LightAgent(self.folder, name, self.proxy.port, lossy=lossy, **options)
        self.agents.append(made)
        return made

    def converge(self, made: Bundle) -> None:
        """Return once every agent runs the variant, confirmed, and every report is acknowledged."""
        left = list(self.agents)

        def done() -> bool:
            left[:] = [agent for agent in left if not agent.has_converged(made)]
            return not left

        try:
            until(done, "every agent converges", CONVERGE_SECONDS)
        except AssertionError:
            raise AssertionError("\n".join(f"{a.name}: {a.model()}\n{a.log()[-2000:]}" for a in left[:3])) from None

    def tally(self, agent: LightAgent) -> Tally:
        return self.proxy.tally(agent.client)

    def kill_broker(self) -> None:
        """End the broker as a power cut does."""
        assert self.broker.process is not None
        self.broker.process.kill()
        self.broker.process.wait()

    def stop(self) -> None:
        for agent in self.agents:
            agent.stop()

    def close(self) -> None:
        for agent in self.agents:
            agent.end()
        self.host.close()
        self.proxy.close()
