"""Simulated devices on a real broker, in this process."""

import threading
from collections.abc import Callable

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
    """Devices that act whenever ``act`` is called; used as a context."""

    def __init__(self, port: int, count: int, *, profile: str, scripts: dict[str, Script]):
        self.airs = [MqttAir(port) for _ in range(count)]
        self.devices = [
            SimDevice(name=f"{profile}-{n}", profile=profile, air=air, scripts=scripts)  # type: ignore[arg-type]
            for n, air in enumerate(self.airs)
        ]
        for device in self.devices:
            device.boot()

    def act(self) -> None:
        for device, air in zip(self.devices, self.airs, strict=True):
            with air.lock:
                device.act()

    def close(self) -> None:
        for air in self.airs:
            air.broker.close()
