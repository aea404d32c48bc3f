"""Every device as it was last heard, in memory: filled once from the store, kept up from messages.

Whatever asks about the whole fleet asks here; whatever only has to know what changed is told that, once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from edgepick_host.core.records import Device, Hearing
from edgepick_wire.messages import Birth, RuntimeAvailable


class FleetTable:
    """The devices of a fleet.

    Attributes:
        devices: By id.
    """

    def __init__(self, devices: Iterable[Device]) -> None:
        self.devices: dict[str, Device] = {}
        self._profiles: dict[str, dict[str, None]] = {}
        for device in devices:
            self._put(replace(device, birth=_compact(device.birth)))
        self._changed: dict[str, None] = dict.fromkeys(self.devices)

    def hear(self, hearings: Iterable[Hearing], online: Mapping[str, bool]) -> None:
        """Take in what was stored; ``online`` tells who of those is, where their birth or presence was heard."""
        for hearing in hearings:
            known = self.devices.get(hearing.device) or Device(device=hearing.device)
            changed = Device(
                device=hearing.device,
                birth=_compact(hearing.birth) or known.birth,
                reported=hearing.reported or known.reported,
                online=online.get(hearing.device, known.online),
                last_seen=hearing.at,
            )
            self._put(changed)
            if replace(changed, last_seen=known.last_seen) != known:
                self._changed[hearing.device] = None

    def of_profile(self, profile: str) -> tuple[Device, ...]:
        """Return the devices of a profile."""
        return tuple(self.devices[name] for name in self._profiles.get(profile, ()))

    def changed(self) -> tuple[Device, ...]:
        """Return the devices that have changed since :meth:`settle`."""
        return tuple(self.devices[name] for name in self._changed)

    def settle(self) -> None:
        """Forget which devices have changed: everyone who has to know was told."""
        self._changed.clear()

    def _put(self, device: Device) -> None:
        before = self.devices.get(device.device)
        if before is not None and before.birth is not None:
            self._profiles[before.birth.profile].pop(device.device, None)
        if device.birth is not None:
            self._profiles.setdefault(device.birth.profile, {})[device.device] = None
        self.devices[device.device] = device


def _compact(birth: Birth | None) -> Birth | None:
    """Return a birth whose parts that are the same on many devices are one object."""
    if birth is None:
        return None
    shared = (birth.profile, birth.agent_version, birth.machine, birth.system, birth.python)
    profile, agent_version, machine, system, python = map(_text, shared)
    return replace(
        birth,
        profile=profile,
        agent_version=agent_version,
        machine=machine,
        system=system,
        python=python,
        runtimes=_runtimes(birth.runtimes),
        sensors=_texts(birth.sensors),
        capabilities=_texts(birth.capabilities),
    )


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    return text


@lru_cache(maxsize=4096)
def _texts(texts: tuple[str, ...]) -> tuple[str, ...]:
    return texts


@lru_cache(maxsize=4096)
def _runtimes(runtimes: tuple[RuntimeAvailable, ...]) -> tuple[RuntimeAvailable, ...]:
    return runtimes
