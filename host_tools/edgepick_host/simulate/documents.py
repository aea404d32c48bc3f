"""Signed documents as simulated devices take them: verified for real, once per document and process."""

from collections.abc import Callable
from typing import TypeVar

from edgepick_host.simulate.state import Known
from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType, Role, VerifySignature, unpack, verify
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import Manifest, chunk_count, manifest_digest, parse_manifest
from edgepick_wire.messages import Desired, TargetKind
from edgepick_wire.trust import RootDocument

T = TypeVar("T")


class Documents:
    """Checks what arrives on signed topics.

    Attributes:
        refused: How many documents were not followed.
    """

    def __init__(self, root: RootDocument, check: VerifySignature) -> None:
        self._root = root
        self._check = check
        self._common: dict[tuple[str, str], Desired | None] = {}
        self.refused = 0

    def own_desired(self, raw: bytes, device: str) -> Desired | None:
        """Return the desired state of one device, or ``None`` if it must not be followed."""
        return self._desired(raw, TargetKind.DEVICE, device)

    def common_desired(self, raw: bytes, profile: str) -> Desired | None:
        """Return the desired state of a profile likewise; the same bytes are looked at once."""
        key = (profile, digest_of(raw))
        if key not in self._common:
            self._common = {k: v for k, v in self._common.items() if k[0] != profile}
            self._common[key] = self._desired(raw, TargetKind.PROFILE, profile)
        return self._common[key]

    def manifest(self, raw: bytes, digest: str) -> Manifest | None:
        """Return a manifest that the release role has signed and that has this digest, or ``None``."""
        payload = self._payload(raw, DocumentType.MANIFEST, self._root.release)
        if payload is None or manifest_digest(payload) != digest:
            return None
        return self._guarded(lambda: parse_manifest(payload))

    def _desired(self, raw: bytes, kind: TargetKind, target: str) -> Desired | None:
        payload = self._payload(raw, DocumentType.DESIRED, self._root.campaign)
        desired = None if payload is None else self._guarded(lambda: codec.decode(Desired, payload))
        if desired is None or (desired.fleet, desired.target_kind, desired.target) == (self._root.fleet, kind, target):
            return desired
        self.refused += 1
        return None

    def _payload(self, raw: bytes, kind: DocumentType, role: Role) -> bytes | None:
        return self._guarded(lambda: verify(unpack(raw), kind, role, self._check))

    def _guarded(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except WireError:
            self.refused += 1
            return None


def known_of(manifest: Manifest) -> Known:
    """Return what a simulated device needs to know of a manifest."""
    chunks = sum(chunk_count(f.size, f.chunk_size) for f in manifest.files)
    return Known(variant=manifest.variant, size=manifest.size, chunks=chunks)
