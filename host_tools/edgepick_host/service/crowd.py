"""The devices of one profile that a rollout is about, counted as they change."""

from collections import Counter
from collections.abc import Iterable

from edgepick_host.core.records import Device
from edgepick_host.core.selector import facts_of, parse_query
from edgepick_host.core.waves import Plan
from edgepick_wire.messages import ModelState
from edgepick_wire.pairing import CAPABILITY


class Crowd:
    """Who they are, and what is counted of them.

    Attributes:
        devices: By id.
        actives: Manifest -> devices that run it.
        online: Devices that are.
        pairing: Devices that compare variants in pairs on request.
    """

    def __init__(self, plan: Plan, model: str, profile: str, devices: Iterable[Device] = ()) -> None:
        self.profile = profile
        self._model = model
        self._query = parse_query(plan.only)
        self.devices: dict[str, Device] = {}
        self.actives: Counter[str] = Counter()
        self.online = 0
        self.pairing = 0
        for device in devices:
            self.see(device)

    def see(self, device: Device) -> None:
        """Take in a device as it was last heard, whether it belongs here or not."""
        before = self.devices.pop(device.device, None)
        if before is not None:
            self._count(before, -1)
        ours = device.birth is not None and device.birth.profile == self.profile
        if ours and self._query.matches(facts_of(device)):
            self.devices[device.device] = device
            self._count(device, 1)

    @property
    def incumbent(self) -> str | None:
        """What most of them run."""
        return most_common(self.actives)

    def _count(self, device: Device, by: int) -> None:
        said = state_of(device, self._model)
        if said is not None and said.active is not None:
            self.actives[said.active] += by
            if not self.actives[said.active]:
                del self.actives[said.active]
        self.online += by * device.online
        self.pairing += by * pairs(device)


def most_common(counts: Counter[str]) -> str | None:
    """Return the manifest that most run; the first by name of several, so that the order of devices says nothing."""
    best = min(counts.items(), key=lambda item: (-item[1], item[0]), default=None)
    return best[0] if best else None


def state_of(device: Device, model: str) -> ModelState | None:
    """Return what a device says about a model."""
    models = device.reported.models if device.reported else ()
    return next((m for m in models if m.model == model), None)


def pairs(device: Device) -> bool:
    """Return whether a device compares variants in pairs on request."""
    return device.birth is not None and CAPABILITY in device.birth.capabilities
