"""Documents that are not as they should be, signed with the fleet's real keys where that is the point."""

from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho

from edgepick_host.core.keypair import KeySigner, from_pem
from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType, Envelope, Signature, key_id, signed_bytes
from edgepick_wire.manifest import Manifest, manifest_digest, parse_manifest
from edgepick_wire.messages import Assignment, Desired, TargetKind
from edgepick_wire.topics import DeviceTopic
from integration.whole_system import DEADLINE_SECONDS, FLEET, MODEL, Device, Host


class Forger:
    """Has the keys of a host's folder, and a connection to the broker of its own."""

    def __init__(self, host: Host, device: Device) -> None:
        self.host = host
        self.device = device
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.connect("127.0.0.1", int(host.url.rpartition(":")[2]))
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def put(self, topic: str, payload: bytes) -> None:
        """Have the broker retain a message; it has acknowledged it when this returns."""
        self.client.publish(topic, payload, qos=1, retain=True).wait_for_publish(DEADLINE_SECONDS)

    # --- manifests ---

    def template(self) -> Manifest:
        """Return the manifest of what the device runs."""
        active = self.device.active()
        with self.host.store() as store:
            raw = store.manifest(active or "")
        assert raw is not None
        return parse_manifest(envelope.unpack(raw).payload)

    def manifest(self, content: Manifest, *, key: str = "release") -> str:
        """Publish a manifest signed with one of the fleet's keys; return its digest."""
        return self.manifest_bytes(codec.encode(content), key=key)

    def manifest_bytes(self, payload: bytes, *, key: str = "release", name: str | None = None) -> str:
        digest = name or manifest_digest(payload)
        self.put(topics.manifest(FLEET, digest), envelope.pack(self.signed(DocumentType.MANIFEST, payload, key)))
        return digest

    # --- desired state ---

    def want(self, manifest: str) -> int:
        """Tell the device to run a manifest, properly signed; return the sequence."""
        document = self.desired(manifest)
        self.tell(document)
        return document.sequence

    def desired(self, manifest: str | None = None, **changes: object) -> Desired:
        """Return a desired state of this device, with the host's next sequence."""
        with self.host.store() as store:
            sequence = store.next_sequence()
        models = (Assignment(model=MODEL, active=manifest),) if manifest else ()
        document = Desired(
            fleet=FLEET,
            target_kind=TargetKind.DEVICE,
            target=self.device.name,
            sequence=sequence,
            issued_at=0.0,
            models=models,
        )
        return replace(document, **changes)  # type: ignore[arg-type]

    def tell(self, document: Desired, *, key: str = "campaign") -> None:
        self.tell_bytes(envelope.pack(self.signed(DocumentType.DESIRED, codec.encode(document), key)))

    def tell_bytes(self, data: bytes) -> None:
        self.put(topics.device(FLEET, self.device.name, DeviceTopic.DESIRED), data)

    # --- signatures ---

    def signed(self, kind: DocumentType, payload: bytes, key: str) -> Envelope:
        """Return the document signed with ``keys/<key>.pem``; with a stranger's key for ``"stranger"``."""
        signer = KeySigner(b"\x07" * 32) if key == "stranger" else self._key(self.host.folder / "keys" / f"{key}.pem")
        made = Signature(key_id=key_id(signer.public_key), signature=signer.sign(signed_bytes(kind, payload)).hex())
        return Envelope(type=kind, payload=payload, signatures=(made,))

    def _key(self, path: Path) -> KeySigner:
        return from_pem(path.read_text(), str(path))
