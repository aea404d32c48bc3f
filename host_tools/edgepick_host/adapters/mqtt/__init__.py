"""The broker port over paho-mqtt; see :class:`edgepick_host.adapters.mqtt.broker.MqttBroker`."""

from edgepick_host.adapters.mqtt.broker import MqttBroker

__all__ = ["MqttBroker"]
