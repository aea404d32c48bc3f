"""A host that signs and publishes: bundles, desired states, root documents, with the keys of the wire's tests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import (
    Encoding,
    FileEntry,
    GoldenSpec,
    Manifest,
    ModelFormat,
    RuntimeChoice,
    RuntimeName,
    manifest_digest,
)
from edgepick_wire.messages import Assignment, Desired, MeasureRequest, TargetKind
from edgepick_wire.shadow import ShadowRequest
from edgepick_wire.topics import DeviceTopic
from wire.wire_keys import sign

RELEASE, CAMPAIGN, STRANGER = 4, 5, 3
CHUNK = 512


def noise(seed: str, size: int) -> bytes:
    """Return bytes that look random and are the same every time."""
    blocks = (bytes.fromhex(digest_of(f"{seed} {i}".encode())) for i in range(-(-size // 32)))
    return b"".join(blocks)[:size]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def entry(name: str, data: bytes, chunk_size: int = CHUNK) -> tuple[FileEntry, dict[str, bytes]]:
    """Return a file's entry, and its chunks and its index's by digest."""
    chunks = cut(data, chunk_size)
    index = cut(b"".join(bytes.fromhex(digest_of(c)) for c in chunks), chunk_size)
    file = FileEntry(
        name=name,
        size=len(data),
        sha256=digest_of(data),
        chunk_size=chunk_size,
        index=tuple(digest_of(c) for c in index),
    )
    return file, {digest_of(c): c for c in (*chunks, *index)}


def encoding(
    algorithm: str, data: bytes, base: bytes | None, chunk_size: int = CHUNK
) -> tuple[Encoding, dict[str, bytes]]:
    """Return an encoded form, and its chunks and its index's by digest."""
    file, parts = entry("encoded", data, chunk_size)
    form = Encoding(
        algorithm=algorithm,
        size=file.size,
        sha256=file.sha256,
        chunk_size=chunk_size,
        index=file.index,
        base=digest_of(base) if base is not None else None,
    )
    return form, parts


@dataclass(frozen=True)
class Bundle:
    """A variant as a host has it."""

    content: Manifest
    raw: bytes
    digest: str
    files: dict[str, bytes]
    chunks: dict[str, bytes]


def bundle(
    version: str = "1",
    *,
    model_size: int = 3000,
    model_bytes: bytes | None = None,
    encoded: Sequence[tuple[str, bytes, bytes | None]] = (),
    key: int = RELEASE,
    chunk_size: int = CHUNK,
    **changes: Any,
) -> Bundle:
    """Return a signed variant of model ``digits`` for fleet ``demo`` and profile ``generic-linux``.

    ``model_bytes`` are the model file's bytes, ``encoded`` its encoded forms: algorithm, bytes, and the base's bytes.
    Of a file with a form that ``requires`` names, its own chunks are left out.
    """
    name = changes.get("model", "digits")
    files = {"model.tflite": model_bytes or noise(f"{name} {version}", model_size), "golden.npz": noise("golden", 700)}
    entries = {file: entry(file, data, chunk_size) for file, data in files.items()}
    forms = [encoding(*form, chunk_size) for form in encoded]
    file, parts = entries["model.tflite"]
    entries["model.tflite"] = replace(file, encodings=tuple(form for form, _ in forms)), parts
    content = Manifest(
        fleet="demo",
        model="digits",
        version=version,
        variant="static_wi8_ai8",
        security_epoch=1,
        profiles=("generic-linux",),
        format=ModelFormat.TFLITE,
        runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
        model_file="model.tflite",
        files=tuple(file for file, _ in entries.values()),
        golden=GoldenSpec(file="golden.npz", min_agreement=0.9, max_mean_abs_error=0.1),
        requires=("golden",),
    )
    content = replace(content, **changes)
    payload = codec.encode(content)
    own = [parts for file, parts in entries.values() if content.has_own_chunks(file)]
    chunks = {digest: data for parts in (*own, *(parts for _, parts in forms)) for digest, data in parts.items()}
    raw = envelope.pack(sign(DocumentType.MANIFEST, payload, [key]))
    return Bundle(content=content, raw=raw, digest=manifest_digest(payload), files=files, chunks=chunks)


class HostStandIn:
    """Publishes to anything with ``publish(topic, payload)`` that retains."""

    def __init__(self, broker: Any, fleet: str = "demo", device: str = "pi-1", profile: str = "generic-linux") -> None:
        self.broker = broker
        self.fleet = fleet
        self.device = device
        self.profile = profile
        self.sequence = 0

    def publish(self, made: Bundle, *, without: int = 0) -> Bundle:
        """Publish a variant, the first ``without`` chunks left out."""
        self.broker.publish(topics.manifest(self.fleet, made.digest), made.raw)
        for digest, data in list(made.chunks.items())[without:]:
            self.broker.publish(topics.chunk(self.fleet, digest), data)
        return made

    def desired(self, *assignments: Assignment, key: int = CAMPAIGN, **changes: Any) -> bytes:
        """Return a signed desired state with the next sequence."""
        self.sequence += 1
        document = Desired(
            fleet=self.fleet,
            target_kind=TargetKind.DEVICE,
            target=self.device,
            sequence=self.sequence,
            issued_at=1.0,
            models=assignments,
        )
        return envelope.pack(sign(DocumentType.DESIRED, codec.encode(replace(document, **changes)), [key]))

    def topic(self, kind: TargetKind = TargetKind.DEVICE) -> str:
        if kind is TargetKind.PROFILE:
            return topics.profile_desired(self.fleet, self.profile)
        return topics.device(self.fleet, self.device, DeviceTopic.DESIRED)

    def want(
        self,
        made: Bundle | None,
        *,
        rollout: str | None = None,
        measure: tuple[MeasureRequest, ...] = (),
        shadow: ShadowRequest | None = None,
    ) -> None:
        """Have the device run a variant, measure others, and run one as its shadow."""
        wanted = Assignment(
            model=made.content.model if made else "digits",
            active=made.digest if made else None,
            rollout=rollout,
            measure=measure,
            shadow=shadow,
        )
        self.broker.publish(self.topic(), self.desired(wanted))
