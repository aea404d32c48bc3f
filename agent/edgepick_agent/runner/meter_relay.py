"""``python -m edgepick_agent.runner.meter_relay``: an external meter's watts, one number per line, on standard output.

Standard input holds a :class:`edgepick_agent.core.meter.MeterSource`. It runs beside a runner, with the
network and the rights of the agent, and ends with the process that started it or with its reader.
"""

import os
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Any

from edgepick_agent.core.meter import COMPLAINT, MeterSource, watts
from edgepick_agent.core.settings import BrokerSettings
from edgepick_agent.instruments import adapter
from edgepick_agent.runner import process
from edgepick_wire import codec

LEAST_PAUSE_SECONDS = 0.01
MOST_COMPLAINT = 300
MOST_ERRORS = 150
"""Bytes that are kept of what a command says on standard error: its last ones."""


def main() -> None:
    """Relay until the reader is gone."""
    source = codec.decode_document(MeterSource, sys.stdin.buffer.read())
    process.die_with(source.parent_pid)
    try:
        if source.power.command:
            _relay_command(source)
        else:
            _relay_topic(source)
    except BrokenPipeError:
        os._exit(0)


def _say(text: str) -> None:
    os.write(1, f"{' '.join(text.split())}\n".encode())


def _relay_command(source: MeterSource) -> None:
    while True:
        began = time.monotonic()
        complaint = _run(source)
        if complaint:
            _say(COMPLAINT + complaint[:MOST_COMPLAINT])
        time.sleep(max(LEAST_PAUSE_SECONDS, source.power.period_seconds - (time.monotonic() - began)))


def _run(source: MeterSource) -> str | None:
    """Relay what one run of the command prints; return why it was of no use."""
    own_pid = os.getpid()
    try:
        meter = subprocess.Popen(
            source.power.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: process.die_with(own_pid),  # noqa: PLW1509 - there is one thread while none runs
        )
    except OSError as error:
        return f"{source.power.command[0]}: {error.strerror}"
    said = _relay_lines(meter)
    return said and f"{source.power.command[0]} ended with {meter.returncode}: {said}"


def _relay_lines(meter: "subprocess.Popen[bytes]") -> str | None:
    """Relay what it prints until it ends; return what it said instead of watts, or as it failed."""
    assert meter.stdout is not None
    assert meter.stderr is not None
    errors: deque[int] = deque(maxlen=MOST_ERRORS)
    drain = threading.Thread(target=_drain, args=(meter.stderr.fileno(), errors))
    drain.start()
    told, line = 0, b""
    with meter.stdout, meter.stderr:
        for line in meter.stdout:
            told += _relay(line.decode("utf-8", "replace"), None)
        drain.join()
    if meter.wait() == 0 and told:
        return None
    said = bytes(errors).decode("utf-8", "replace").strip()
    return said or f"printed {line.decode('utf-8', 'replace').strip()[:80]!r}"


def _drain(descriptor: int, last: deque[int]) -> None:
    """Read to the end, so that the writer never waits, and keep the last bytes."""
    while piece := os.read(descriptor, 4096):
        last.extend(piece)


def _relay(text: str, key: str | None) -> bool:
    value = watts(text.strip(), key)
    if value is not None:
        _say(repr(value))
    return value is not None


def _relay_topic(source: MeterSource) -> None:
    assert source.broker is not None
    topic, key = source.power.mqtt_topic or "", source.power.mqtt_key
    client = adapter("edgepick_agent.adapters.mqtt:plain_client")(source.broker, f"edgepick-meter-{os.getpid()}")

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _say(f"{COMPLAINT}the broker refused: {reason}")
        else:
            client.subscribe(topic)

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        # A retained message says what was, not what is.
        text = message.payload.decode("utf-8", "replace")
        if not message.retain and not _relay(text, key):
            _say(f"{COMPLAINT}{topic}: no watts in {text[:80]!r}")

    client.on_connect, client.on_message = on_connect, on_message
    _connect(client, source.broker)
    client.loop_forever(retry_first_connection=True)


def _connect(client: Any, broker: BrokerSettings) -> None:
    try:
        client.connect(broker.host, broker.port, broker.keepalive_seconds)
    except OSError as error:
        _say(f"{COMPLAINT}{broker.host}:{broker.port}: {error}")


if __name__ == "__main__":
    main()
