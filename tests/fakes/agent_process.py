"""A real agent process with a state directory of its own, and a host's client for a real broker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from edgepick_agent.adapters.control_socket import ask_agent
from edgepick_agent.core.control import CONTROL_SOCKET, AgentStatus, Command, ControlReply, ControlRequest
from edgepick_wire import envelope
from wire.wire_keys import root, signed_root

CODE = """
import atexit, sys
from edgepick_agent.__main__ import main
atexit.register(lambda: print("MODULES", *sorted(sys.modules), flush=True))
main(["run", "--config", sys.argv[1]])
"""
DEADLINE_SECONDS = 60.0


def until(condition: Callable[[], Any], what: str, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
    """Return the first true value of ``condition``."""
    end = time.monotonic() + deadline_seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {deadline_seconds:g} s: {what}")


class AgentProcess:
    """Starts and ends ``edgepick-agent run``."""

    def __init__(self, folder: Path, port: int, *, more: str = "", broker: str = "") -> None:
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "agent.toml"
        (folder / "root.signed").write_bytes(envelope.pack(signed_root(root(), 0)))
        self.config.write_text(
            'device = "pi-1"\nfleet = "demo"\nprofile = "generic-linux"\nstate_dir = "state"\n'
            f'root_document = "root.signed"\nstand_in = true\n{more}\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {port}\n{broker}\n[runner]\nconfirm_seconds = 0.5\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "AgentProcess":
        self.process = self.spawn()
        until(lambda: self.answers() or self._ended(), "the agent answers")
        return self

    def spawn(self) -> "subprocess.Popen[bytes]":
        with (self.folder / "agent.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-c", CODE, str(self.config)], stdout=log, stderr=log)

    def _ended(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the agent ended: {self.log()[-2000:]}")
        return False

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def answers(self) -> bool:
        try:
            self.ask(Command.STATUS)
        except Exception:  # noqa: BLE001 - not there yet, whatever the reason
            return False
        return True

    def ask(self, command: Command, **rest: Any) -> ControlReply:
        return ask_agent(self.state / CONTROL_SOCKET, ControlRequest(command=command, **rest))

    def status(self) -> AgentStatus:
        found = self.ask(Command.STATUS).status
        assert found is not None
        return found

    def is_connected(self) -> bool:
        return self.status().broker == "connected"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def memory(self, field: str) -> int:
        """Return a field of ``/proc/pid/status`` in bytes: VmRSS, VmHWM."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        """End it as systemd does, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_SECONDS)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


class HostClient:
    """Publishes retained messages to a real broker, and collects what devices say."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"host-{os.getpid()}")
        self.client.on_message = lambda _c, _d, m: self.got.append((m.topic, bytes(m.payload)))
        self.client.max_queued_messages_set(0)
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("edgepick/1/demo/d/#", qos=1)
        self.client.loop_start()

    def publish(self, topic: str, payload: bytes) -> None:
        self.last = self.client.publish(topic, payload, qos=1, retain=True)

    def flush(self) -> None:
        self.last.wait_for_publish(60)

    def latest(self, ending: str) -> bytes | None:
        return next((payload for topic, payload in reversed(self.got) if topic.endswith(ending)), None)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
