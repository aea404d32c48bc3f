"""Simulated devices on a real broker, in this process."""

import threading
from collections.abc import Callable
from contextlib import ExitStack

from edgepick_host.adapters.mqtt import MqttBroker
from edgepick_host.core.settings import BrokerSettings
from fleet.simulator import Script, SimDevice


class MqttAir:
    """The end of one simulated device at a real broker; keeps what devices use of ``Air``."""

    def __init__(self, port: int):
        self.broker = MqttBroker(BrokerSettings(port=port))
        self.broker.connect()
        self.lock = threading.RLock()

    def listen(self, patterns: tuple[str, ...], deliver: Callable[[str, bytes], None]) -> None:
        def locked(topic: str, payload: bytes) -> None:
            with self.lock:
                deliver(topic, payload)

        self.broker.subscribe(patterns, locked)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self.broker.publish(topic, payload, retain=retain)


class MqttFleet:
    """Devices that act whenever ``act_unless`` is called."""

    def __init__(self, port: int, count: int, *, profile: str, scripts: dict[str, Script]):
        self.airs = [MqttAir(port) for _ in range(count)]
        self.devices = [
            SimDevice(name=f"{profile}-{n}", profile=profile, air=air, scripts=scripts)  # type: ignore[arg-type]
            for n, air in enumerate(self.airs)
        ]
        for device in self.devices:
            device.boot()

    def act_unless(self, done: Callable[[], bool]) -> bool:
        """Return ``done``; the devices have acted if it is not, and heard nothing since they were asked."""
        with ExitStack() as held:
            for air in self.airs:
                held.enter_context(air.lock)
            if done():
                return True
            for device in self.devices:
                device.act()
        return False

    def close(self) -> None:
        for air in self.airs:
            air.broker.close()
