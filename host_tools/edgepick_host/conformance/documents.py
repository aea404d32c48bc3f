"""What the simulated host signs: keys made for one case, and documents good and bad. Pure but for randomness."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from edgepick_host.conformance.interface import Capability
from edgepick_host.core.chunking import cut, describe
from edgepick_host.core.keypair import SEED_BYTES, KeySigner
from edgepick_wire import codec, envelope
from edgepick_wire.envelope import DocumentType, Envelope, Role, Signature, key_id, signed_bytes
from edgepick_wire.ids import digest_of
from edgepick_wire.limits import MIN_CHUNK_BYTES
from edgepick_wire.manifest import (
    FileEntry,
    GoldenSpec,
    Manifest,
    ModelFormat,
    RuntimeChoice,
    RuntimeName,
    manifest_digest,
)
from edgepick_wire.trust import RootDocument

MODEL = "conformance"
GOLDEN_FILE = "golden.npz"
PADDING_FILE = "padding.bin"
PADDING_BYTES = 4 * MIN_CHUNK_BYTES + 100
"""Five chunks of the smallest size, the last one short: enough for every attack on chunks."""
GOLDEN_SAMPLES = 8
FEATURES = 4
"""Inputs of the tiny model, which is one ReLU on float32 ``[1, 4]``."""


def new_key() -> KeySigner:
    """Return a key that nobody else has."""
    return KeySigner(os.urandom(SEED_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of a case's fleet, and one that is nobody's."""

    root: KeySigner = field(default_factory=new_key)
    release: KeySigner = field(default_factory=new_key)
    campaign: KeySigner = field(default_factory=new_key)
    stranger: KeySigner = field(default_factory=new_key)

    def document(self, fleet: str, version: int = 1) -> RootDocument:
        """Return the root document that names these keys."""
        return RootDocument(
            fleet=fleet,
            version=version,
            root=role(self.root),
            release=role(self.release),
            campaign=role(self.campaign),
        )


def role(*keys: KeySigner) -> Role:
    """Return a role that each of these keys fulfils alone."""
    return Role(threshold=1, keys=tuple(key.public_key for key in keys))


def sign(kind: DocumentType, payload: bytes, *keys: KeySigner) -> bytes:
    """Return the signed document as it travels."""
    message = signed_bytes(kind, payload)
    made = tuple(Signature(key_id=key_id(k.public_key), signature=k.sign(message).hex()) for k in keys)
    return envelope.pack(Envelope(type=kind, payload=payload, signatures=made))


def altered(raw: bytes, before: bytes, after: bytes) -> bytes:
    """Return a signed document with some words of its payload replaced by others, its signatures left as they are."""
    head, newline, payload = raw.partition(b"\n")
    return head + newline + payload.replace(before, after, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A bundle as the host has it.

    Attributes:
        content: Its manifest.
        payload: The manifest's exact bytes.
        chunks: Bytes of every chunk of its files and of their indexes, by digest.
        padding: Digests of the chunks of the file that no other variant shares, in order.
    """

    content: Manifest
    payload: bytes
    chunks: Mapping[str, bytes]
    padding: tuple[str, ...]

    @property
    def digest(self) -> str:
        """What it is called."""
        return manifest_digest(self.payload)

    def with_manifest(self, payload: bytes) -> "Variant":
        """Return the same files under other manifest bytes."""
        return replace(self, payload=payload)


def make_variant(
    fleet: str, profile: str, capabilities: Sequence[str], /, *, wrong_golden: bool = False, **changes: Any
) -> Variant:
    """Return a variant that the agent can run, unlike any other by its padding; ``changes`` go into its manifest."""
    kind = ModelFormat.ONNX if _takes_onnx_only(capabilities) else ModelFormat.TFLITE
    files = {f"model.{kind}": tiny_model(kind), PADDING_FILE: os.urandom(PADDING_BYTES)}
    if changes.get("golden"):
        files[GOLDEN_FILE] = golden_archive(wrong=wrong_golden)
    entries: list[FileEntry] = []
    chunks: dict[str, bytes] = {}
    for name, data in files.items():
        pieces = list(cut(data, MIN_CHUNK_BYTES))
        made = describe(name, pieces, chunk_size=MIN_CHUNK_BYTES)
        entries.append(made.entry)
        chunks |= {digest_of(piece): piece for piece in (*pieces, *made.index)}
    padding = tuple(digest_of(piece) for piece in cut(files[PADDING_FILE], MIN_CHUNK_BYTES))
    content = _manifest(fleet, profile, kind, tuple(entries))
    content = replace(content, **changes)
    return Variant(content=content, payload=codec.encode(content), chunks=chunks, padding=padding)


def _takes_onnx_only(capabilities: Sequence[str]) -> bool:
    return Capability.ONNX in capabilities and Capability.TFLITE not in capabilities


def _manifest(fleet: str, profile: str, kind: ModelFormat, files: tuple[FileEntry, ...]) -> Manifest:
    names = {
        ModelFormat.TFLITE: (RuntimeName.LITERT, RuntimeName.TFLITE_RUNTIME, RuntimeName.TFLM),
        ModelFormat.ONNX: (RuntimeName.ONNXRUNTIME,),
    }
    return Manifest(
        fleet=fleet,
        model=MODEL,
        version="1",
        variant="tiny",
        security_epoch=1,
        profiles=(profile,),
        format=kind,
        runtimes=tuple(RuntimeChoice(name=name) for name in names[kind]),
        model_file=f"model.{kind}",
        files=files,
    )


@cache
def tiny_model(kind: ModelFormat) -> bytes:
    """Return the model that the kit ships: one ReLU."""
    return (resources.files("edgepick_host.conformance") / "data" / f"tiny.{kind}").read_bytes()


def golden_archive(*, wrong: bool) -> bytes:
    """Return the self-test of the tiny model; a wrong one expects what no such model answers."""
    x = np.random.default_rng(1).normal(0, 1, (GOLDEN_SAMPLES, FEATURES)).astype(np.float32)
    expected = -np.abs(x[:, ::-1]) - 1 if wrong else np.maximum(x, 0)
    target = io.BytesIO()
    np.savez(target, x=x, expected=expected.astype(np.float32))
    return target.getvalue()


def golden_spec() -> GoldenSpec:
    """Return the terms of the self-test: every answer right."""
    return GoldenSpec(file=GOLDEN_FILE, min_agreement=1.0, max_mean_abs_error=0.01)
