"""The protocol does not change by accident: every message equals its recorded bytes."""

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from golden_samples import CHUNKS, ENVELOPES, INDEX, KEY, MANIFEST, MODEL, PUBLIC, RECORDS, SAMPLES
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

import edgepick_wire
from edgepick_wire import codec, envelope, manifest, messages, metrics, pairing, shadow, trust
from edgepick_wire.envelope import Envelope, Role, pack, signed_bytes, unpack, verify
from edgepick_wire.manifest import split_index

FILES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDS.glob("*.json"))}
ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")
"""What stands before an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410)."""

every_sample = pytest.mark.parametrize("name", SAMPLES)
every_envelope = pytest.mark.parametrize("name", ENVELOPES)


def wire_classes() -> set[type]:
    """Return every record of the wire package that can travel."""
    modules = (messages, metrics, pairing, shadow, manifest, trust, envelope)
    found = {v for module in modules for v in vars(module).values() if dataclasses.is_dataclass(v)}
    return {kind for kind in found if not kind.__name__.startswith("_")}


def mentioned(hint: Any) -> Iterator[type]:
    """Return the message classes inside a type."""
    if dataclasses.is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from mentioned(inner)


def inside(value: object) -> Iterator[type]:
    """Return the message classes of a message and of everything in it."""
    if dataclasses.is_dataclass(value):
        yield type(value)
        for field in dataclasses.fields(value):
            yield from inside(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from inside(part)
    elif isinstance(value, tuple):
        for part in value:
            yield from inside(part)


def valid(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        VerifyKey(public).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def test_samples_and_records_belong_together():
    """There is one record per sample and none without."""
    assert set(FILES) == {*SAMPLES, *ENVELOPES}


def test_every_top_level_message_has_a_record():
    """A message class that is part of no other one has a record of its own name."""
    parts = {kind for k in wire_classes() for hint in get_type_hints(k).values() for kind in mentioned(hint)}

    top_level = {kind.__name__ for kind in wire_classes() - parts}

    assert top_level >= {"Birth", "Presence", "Desired", "Reported", "Report", "Ack", "Manifest", "RootDocument"}
    assert top_level <= {name.partition("-")[0] for name in FILES}


def test_every_message_class_is_inside_a_record():
    """No class of the protocol is left unrecorded, however deep it lies."""
    recorded = {kind for sample in (*SAMPLES.values(), *ENVELOPES.values()) for kind in inside(sample)}

    assert {kind.__name__ for kind in wire_classes() - recorded} == set()


def test_every_kind_of_report_is_recorded():
    """Measurement, installation, incident and shadow each have a record."""
    kinds = {record["object"]["kind"] for name, record in FILES.items() if name.startswith("Report-")}

    assert kinds == {kind.value for kind in messages.ReportKind}


@every_sample
def test_encoding_gives_the_recorded_bytes(name: str):
    """What this version sends is, byte for byte, what was recorded."""
    assert codec.encode(SAMPLES[name]).decode() == FILES[name]["bytes"]


@every_sample
def test_recorded_bytes_are_decoded(name: str):
    """What was recorded is understood, and says what the sample says."""
    sample = SAMPLES[name]

    assert codec.decode(type(sample), FILES[name]["bytes"].encode()) == sample


@every_sample
def test_recorded_bytes_are_the_recorded_object(name: str):
    """The bytes are canonical JSON of the object, by another writer than ours."""
    described = FILES[name]["object"]

    assert json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == FILES[name]["bytes"]


@every_envelope
def test_signed_documents_equal_their_records(name: str):
    """Header line, payload and signature are what was recorded."""
    record, document = FILES[name], ENVELOPES[name]

    assert pack(document) == record["bytes"].encode()
    assert unpack(record["bytes"].encode()) == document
    assert record["bytes"].partition("\n")[2] == record["object"]["payload"]


@every_envelope
def test_signatures_are_valid(name: str):
    """PyNaCl accepts the recorded signature of the recorded payload."""
    document = unpack(FILES[name]["bytes"].encode())

    payload = verify(document, document.type, Role(threshold=1, keys=(PUBLIC,)), valid)

    assert payload == FILES[name]["object"]["payload"].encode()


@pytest.fixture
def public_pem(tmp_path: Path) -> Path:
    """Provide the test key as OpenSSL reads it."""
    text = base64.b64encode(ED25519_SPKI + KEY.verify_key.encode()).decode()
    path = tmp_path / "public.pem"
    path.write_text(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    return path


def openssl_accepts(document: Envelope, message: bytes, public_pem: Path) -> bool:
    """Return whether OpenSSL accepts the document's first signature for ``message``."""
    folder = public_pem.parent
    (folder / "message").write_bytes(message)
    (folder / "signature").write_bytes(bytes.fromhex(document.signatures[0].signature))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public_pem)]
    done = subprocess.run(
        [*command, "-in", str(folder / "message"), "-sigfile", str(folder / "signature")],
        capture_output=True,
        check=False,
        timeout=30,
    )
    return done.returncode == 0


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
@every_envelope
def test_openssl_agrees(name: str, public_pem: Path):
    """An independent implementation accepts the signature over the documented bytes, and no others."""
    document = unpack(FILES[name]["bytes"].encode())
    kind = f"edgepick/{document.type.value}"
    message = f"DSSEv1 {len(kind)} {kind} {len(document.payload)} ".encode() + document.payload

    assert openssl_accepts(document, message, public_pem)
    assert not openssl_accepts(document, document.payload, public_pem)


def test_the_sample_bundle_is_a_real_one():
    """The recorded manifest describes bytes that exist: chunks, index and digests fit."""
    store = {hashlib.sha256(chunk).hexdigest(): chunk for chunk in CHUNKS}
    file = MANIFEST.files[0]

    rebuilt = b"".join(store[digest] for digest in split_index(INDEX))

    assert rebuilt == MODEL
    assert (file.size, file.chunks, file.index_size) == (1500, 3, 96)
    assert file.sha256 == hashlib.sha256(rebuilt).hexdigest()
    assert file.index == (hashlib.sha256(INDEX).hexdigest(),)


def test_the_protocol_document_shows_real_values():
    """Every digest, key and signature that PROTOCOL.md prints is computed here."""
    text = (Path(edgepick_wire.__file__).parent / "PROTOCOL.md").read_text(encoding="utf-8")
    example = ENVELOPES["Envelope-small"]
    known = [
        PUBLIC,
        example.signatures[0].signature,
        example.signatures[0].key_id,
        hashlib.sha256(MODEL).hexdigest(),
        hashlib.sha256(INDEX).hexdigest(),
        *(hashlib.sha256(chunk).hexdigest() for chunk in CHUNKS),
    ]

    printed = set(re.findall(r"\b[0-9a-f]{16,}\b", text))

    assert set(known) <= printed
    assert printed <= {*known, bytes(range(32)).hex()}
    assert signed_bytes(example.type, example.payload).decode() in text
    assert pack(example).decode().partition("\n")[0] in text
