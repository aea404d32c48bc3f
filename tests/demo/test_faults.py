"""What the demo does wrong on purpose is wrong in exactly one way."""

from pathlib import Path

import numpy as np
import pytest

from edgepick_host.core.keypair import KeySigner, verify_signature
from edgepick_host.core.trust import sign
from edgepick_host.core.variants import Quality, Recipe, Variant, VariantSet
from edgepick_host.demo.faults import tampered, write_wrong_variant, wrong_answers
from edgepick_host.demo.workspace import data
from edgepick_host.errors import StateError
from edgepick_host.service.prepare import read_variants
from edgepick_wire import codec, envelope
from edgepick_wire.envelope import DocumentType, Role
from edgepick_wire.errors import SignatureError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import (
    FileEntry,
    Manifest,
    ModelFormat,
    RuntimeChoice,
    RuntimeName,
    manifest_digest,
    parse_manifest,
)


def answers(model: bytes, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for image in images:
        interpreter.set_tensor(source, image[None].astype(np.float32))
        interpreter.invoke()
        found.append(interpreter.get_tensor(sink)[0].argmax())
    return np.array(found)


@pytest.fixture(scope="module")
def evaluation() -> tuple[np.ndarray, np.ndarray]:
    with np.load(data("evaluation.npz")) as archive:
        return archive["x"][:100], archive["y"][:100]


def test_the_wrong_variant_is_wrong_everywhere_and_looks_alike(evaluation: tuple[np.ndarray, np.ndarray]) -> None:
    """It loads and runs, has the right one's size, and answers hardly anything correctly."""
    images, labels = evaluation
    right = data("digits.tflite").read_bytes()

    wrong = wrong_answers(right)

    assert np.mean(answers(right, images) == labels) > 0.95
    assert np.mean(answers(wrong, images) == labels) < 0.2
    assert abs(len(wrong) - len(right)) < 1024


def variant(**changes) -> Variant:
    model = data("digits.tflite").read_bytes()
    values = {
        "name": "float32-tflite",
        "recipe": Recipe(name="float32", format=ModelFormat.TFLITE, steps=()),
        "folder": "float32-tflite",
        "file": "model.tflite",
        "sha256": digest_of(model),
        "size_bytes": len(model),
        "compressed_bytes": len(model),
        "quality": Quality(samples=1, accuracy=1.0, accuracy_drop=0.0, agreement=1.0, mean_abs_error=0.0),
        "host_latency_ns": 1,
        "profiles": ("raspberry-pi-4", "raspberry-pi-3"),
        "golden_min_agreement": 0.9,
        "golden_max_mean_abs_error": 0.1,
    }
    return Variant(**{**values, **changes})


def variants(folder: Path, *found: Variant) -> VariantSet:
    for each in found:
        (folder / each.folder).mkdir(parents=True)
        (folder / each.folder / each.file).write_bytes(data("digits.tflite").read_bytes())
    (folder / "golden.npz").write_bytes(b"golden")
    return VariantSet(
        model="digits",
        source_sha256="0" * 64,
        golden="golden.npz",
        float_accuracy=1.0,
        max_accuracy_drop=0.01,
        profiles=("raspberry-pi-4", "raspberry-pi-3"),
        variants=found,
    )


def test_a_wrong_variant_can_be_published_like_any_other(tmp_path: Path) -> None:
    """What is written reads back as a set of one variant for one profile, with the digest of its changed file."""
    found = variants(tmp_path / "right", variant())

    wrong = write_wrong_variant(found, tmp_path / "right", "raspberry-pi-4", tmp_path / "wrong")

    read = read_variants(tmp_path / "wrong")
    model = (tmp_path / "wrong" / wrong.folder / wrong.file).read_bytes()
    assert read.variants == (wrong,)
    assert read.profiles == wrong.profiles == ("raspberry-pi-4",)
    assert wrong.sha256 == digest_of(model) != found.variants[0].sha256
    assert (tmp_path / "wrong" / "golden.npz").read_bytes() == b"golden"


def test_without_a_variant_to_spoil_the_demo_says_so(tmp_path: Path) -> None:
    """A profile that has only ONNX variants cannot be used for this."""
    onnx = variant(recipe=Recipe(name="float32", format=ModelFormat.ONNX, steps=()))

    with pytest.raises(StateError, match="raspberry-pi-4"):
        write_wrong_variant(variants(tmp_path, onnx), tmp_path, "raspberry-pi-4", tmp_path / "wrong")


def test_only_the_signature_gives_a_tampered_manifest_away() -> None:
    """Its digest fits its bytes and it parses, but no signature is valid any more."""
    key = KeySigner(b"k" * 32)
    entry = FileEntry(name="model.tflite", size=10, sha256="a" * 64, chunk_size=4096, index=("b" * 64,))
    manifest = Manifest(
        fleet="demo",
        model="digits",
        version="1",
        variant="float32",
        security_epoch=0,
        profiles=("raspberry-pi-4",),
        format=ModelFormat.TFLITE,
        runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
        model_file="model.tflite",
        files=(entry,),
    )
    signed = envelope.pack(sign(DocumentType.MANIFEST, codec.encode(manifest), [key]))

    digest, forged = tampered(signed, version="3")

    unpacked = envelope.unpack(forged)
    assert manifest_digest(unpacked.payload) == digest
    assert parse_manifest(unpacked.payload).version == "3"
    role = Role(threshold=1, keys=(key.public_key,))
    assert envelope.verify(envelope.unpack(signed), DocumentType.MANIFEST, role, verify_signature)
    with pytest.raises(SignatureError):
        envelope.verify(unpacked, DocumentType.MANIFEST, role, verify_signature)
