"""Who will fetch a publication, as the devices themselves reported it: what they run, and what they can decode."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgepick_host.core.records import Device
from edgepick_host.ports import Store
from edgepick_host.service.prepare import Slot
from edgepick_wire import envelope
from edgepick_wire.manifest import Manifest, parse_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """The devices that were heard, and the manifests of what they run; none of either in a fleet that is new.

    Attributes:
        manifests: By digest, as far as this host published them.
    """

    devices: tuple[Device, ...] = ()
    manifests: Mapping[str, Manifest] = field(default_factory=dict)

    def bases(self, slot: Slot) -> tuple[str, ...]:
        """Return the digests of what the slot's devices run in its place, that of the most devices first."""
        running = Counter(digest for device in self._of(slot) for digest in _active(device, slot.model))
        found: Counter[str] = Counter()
        for manifest, devices in running.items():
            found.update(dict.fromkeys(self._files(manifest, slot.name), devices))
        return tuple(sorted(found, key=lambda digest: (-found[digest], digest)))

    def all_decode(self, slot: Slot, algorithm: str) -> bool:
        """Return whether no device of the slot's kinds is known that cannot decode ``algorithm``."""
        return all(d.birth is None or algorithm in d.birth.capabilities for d in self._of(slot))

    def in_use(self) -> frozenset[str]:
        """Return the digests of every file that a device runs."""
        return frozenset(entry.sha256 for manifest in self.manifests.values() for entry in manifest.files)

    def _of(self, slot: Slot) -> Iterator[Device]:
        return (d for d in self.devices if d.birth is not None and d.birth.profile in slot.profiles)

    def _files(self, manifest: str, name: str) -> tuple[str, ...]:
        content = self.manifests.get(manifest)
        return tuple(entry.sha256 for entry in content.files if entry.name == name) if content else ()


def heard(store: Store) -> Recipients:
    """Return everybody whom the store has heard of."""
    devices = tuple(store.devices())
    signed = {digest: store.manifest(digest) for digest in {d for each in devices for d in _active(each)}}
    found = {digest: parse_manifest(envelope.unpack(raw).payload) for digest, raw in signed.items() if raw}
    return Recipients(devices=devices, manifests=found)


def _active(device: Device, model: str | None = None) -> Iterator[str]:
    states = device.reported.models if device.reported else ()
    return (state.active for state in states if state.active and model in (None, state.model))
