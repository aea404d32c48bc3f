"""Who is in the fleet, from what devices have said on their own topics. Pure; fed message by message."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgepick_host.core.records import Device, is_online, newer_presence
from edgepick_wire import codec, topics
from edgepick_wire.errors import MalformedError, WireError
from edgepick_wire.messages import Birth, Presence, Reported
from edgepick_wire.topics import DeviceTopic

Spoken = TypeVar("Spoken", Birth, Reported)

HEARD = (DeviceTopic.BIRTH, DeviceTopic.PRESENCE, DeviceTopic.REPORTED)
"""What a roster is made from; all of it is retained."""


def filters(fleet: str) -> tuple[str, ...]:
    """Return the topic filters that a roster listens to."""
    return tuple(topics.every_device(fleet, kind) for kind in HEARD)


@dataclass(slots=True)
class Roster:
    """The devices of a fleet.

    Attributes:
        fleet: Its name.
        known: What the store remembers: it fills in what the broker no longer holds.
        unreadable: Topics whose message could not be read, and why; shown, never fatal.
    """

    fleet: str
    known: Mapping[str, Device] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    _births: dict[str, Birth] = field(default_factory=dict)
    _presences: dict[str, Presence] = field(default_factory=dict)
    _reported: dict[str, Reported] = field(default_factory=dict)

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a message of a device into account; one that cannot be read is noted instead."""
        try:
            self._take(topic, payload)
        except WireError as error:
            self.unreadable[topic] = str(error)
        else:
            self.unreadable.pop(topic, None)

    def devices(self) -> tuple[Device, ...]:
        """Return every device, by id."""
        names = {*self.known, *self._births, *self._presences, *self._reported}
        return tuple(self._device(name) for name in sorted(names))

    def _take(self, topic: str, payload: bytes) -> None:
        name, kind = topics.parse_device(self.fleet, topic)
        if not payload:
            self._forget(name, kind)
        elif kind is DeviceTopic.PRESENCE:
            heard = codec.decode(Presence, payload)
            self._presences[name] = newer_presence(self._presences.get(name), heard)
        elif kind is DeviceTopic.BIRTH:
            self._births[name] = _own(name, codec.decode(Birth, payload))
        elif kind is DeviceTopic.REPORTED:
            self._reported[name] = _own(name, codec.decode(Reported, payload))

    def _forget(self, name: str, kind: DeviceTopic) -> None:
        heard: Mapping[DeviceTopic, dict[str, Any]] = {
            DeviceTopic.BIRTH: self._births,
            DeviceTopic.PRESENCE: self._presences,
            DeviceTopic.REPORTED: self._reported,
        }
        heard.get(kind, {}).pop(name, None)

    def _device(self, name: str) -> Device:
        before = self.known.get(name, Device(device=name))
        birth = self._births.get(name)
        return Device(
            device=name,
            birth=birth or before.birth,
            reported=self._reported.get(name, before.reported),
            online=is_online(birth, self._presences.get(name)),
            last_seen=before.last_seen,
        )


def _own(name: str, message: Spoken) -> Spoken:
    """Return a message that speaks for the device whose topic it came on."""
    if message.device != name:
        raise MalformedError(f"speaks for device {message.device!r} on the topic of {name!r}")
    return message


def by_name(devices: Iterable[Device]) -> dict[str, Device]:
    """Return devices by id."""
    return {d.device: d for d in devices}
