"""Starting the relay of an external meter beside a runner; imported by the agent, so it stays light."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from edgepick_agent.adapters.sensors.external_meter import ExternalMeter
from edgepick_agent.core.meter import MeterSource
from edgepick_agent.core.settings import BrokerSettings, PowerSettings
from edgepick_wire import codec

MODULE = "edgepick_agent.runner.meter_relay"


class Relay:
    """A relay process, and the end of its pipe that a runner inherits.

    Attributes:
        descriptor: That end, until it was handed over.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self._popen = popen
        self.descriptor = descriptor
        self._handed_over = False

    def hand_over(self) -> None:
        """Close our copy, once the runner has its own: when that ends, the relay does."""
        if not self._handed_over:
            self._handed_over = True
            os.close(self.descriptor)

    def stop(self) -> None:
        """End the relay and whatever it started."""
        self.hand_over()
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


def try_meter(power: PowerSettings, broker: BrokerSettings) -> str | None:
    """Return why the external meter tells nothing, after waiting for its first value; ``None`` if it does."""
    relay = start_meter(power, broker, os.environ)
    try:
        return ExternalMeter(relay.descriptor, power.period_seconds).why_not()
    finally:
        relay.stop()


def start_meter(power: PowerSettings, broker: BrokerSettings | None, environment: Mapping[str, str]) -> Relay:
    """Return a running relay of the external meter that the settings name."""
    source = MeterSource(power=power, broker=broker, parent_pid=os.getpid())
    ours, theirs = os.pipe()
    try:
        # The agent's own interpreter: the runner's may lack paho.
        popen = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    assert popen.stdin is not None
    with popen.stdin:
        popen.stdin.write(codec.encode_document(source))
    return Relay(popen, ours)
