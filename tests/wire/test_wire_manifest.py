"""Manifests and messages: a constructed one is valid, whatever builds it."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_strategies import digests, file_entries, instances, manifests

from edgepick_wire import codec, limits, manifest, messages, metrics
from edgepick_wire.errors import BadNameError, LimitError, MalformedError, WireError
from edgepick_wire.manifest import DIGEST_BYTES, FileEntry, Manifest, chunk_count, manifest_digest, split_index

DIGEST = "ab" * 32


def entry(**changes: object) -> FileEntry:
    values = {"name": "model.tflite", "size": 1000, "sha256": DIGEST, "chunk_size": 512, "index": (DIGEST,)}
    return FileEntry(**{**values, **changes})  # type: ignore[arg-type]


def bundle(**changes: object) -> Manifest:
    values = {
        "fleet": "demo",
        "model": "digits",
        "version": "1.0",
        "variant": "float32",
        "security_epoch": 0,
        "profiles": ("generic-linux",),
        "format": manifest.ModelFormat.TFLITE,
        "runtimes": (manifest.RuntimeChoice(name=manifest.RuntimeName.LITERT),),
        "model_file": "model.tflite",
        "files": (entry(),),
    }
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


@given(file_entries())
def test_chunks_cover_the_file(file: FileEntry):
    """All chunks but the last are full, the last is not empty, and the index holds one digest for each."""
    last = file.size - (file.chunks - 1) * file.chunk_size

    assert 0 < last <= file.chunk_size
    assert file.index_size == file.chunks * DIGEST_BYTES
    assert len(file.index) == chunk_count(file.index_size, file.chunk_size)


@given(file_entries(), st.data())
def test_an_index_of_the_wrong_length_is_refused(file: FileEntry, data: st.DataObject):
    """An index that could not describe a file of this size makes no entry."""
    other = data.draw(st.lists(digests, max_size=4).filter(lambda found: len(found) != len(file.index)))

    with pytest.raises(MalformedError, match="does not fit its size"):
        replace(file, index=tuple(other))


@given(st.binary(min_size=1, max_size=5000), st.integers(512, 2000))
def test_files_are_rebuilt_from_index_and_chunks(content: bytes, chunk_size: int):
    """Cutting a file, naming its chunks by digest and joining them by the index gives the file back."""
    chunks = [content[i : i + chunk_size] for i in range(0, len(content), chunk_size)]
    store = {hashlib.sha256(c).hexdigest(): c for c in chunks}
    index = b"".join(hashlib.sha256(c).digest() for c in chunks)

    rebuilt = b"".join(store[digest] for digest in split_index(index))

    assert rebuilt == content
    assert len(index) == chunk_count(len(content), chunk_size) * DIGEST_BYTES


def test_the_largest_file_fits_a_manifest():
    """A file of 2 GiB in default chunks has an index of 1 MiB and a manifest far below the payload limit."""
    chunks = chunk_count(limits.MAX_FILE_BYTES, limits.CHUNK_BYTES)
    index = (DIGEST,) * chunk_count(chunks * DIGEST_BYTES, limits.CHUNK_BYTES)

    data = codec.encode(bundle(files=(entry(size=limits.MAX_FILE_BYTES, chunk_size=limits.CHUNK_BYTES, index=index),)))

    assert chunks * DIGEST_BYTES == 1024**2
    assert len(data) < 4096


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"size": 0}, LimitError),
        ({"size": -1}, LimitError),
        ({"size": limits.MAX_FILE_BYTES + 1}, LimitError),
        ({"chunk_size": 0}, LimitError),
        ({"chunk_size": limits.MIN_CHUNK_BYTES - 1}, LimitError),
        ({"chunk_size": limits.MAX_CHUNK_BYTES + 1}, LimitError),
        ({"index": ()}, MalformedError),
        ({"index": ("x",)}, BadNameError),
        ({"sha256": DIGEST.upper()}, BadNameError),
        ({"name": "../model"}, BadNameError),
        ({"name": "a/b"}, BadNameError),
        ({"name": ""}, BadNameError),
    ],
)
def test_file_entries_that_are_none(changes: dict, error: type[WireError]):
    """Sizes out of bounds, names with folders and wrong digests make no file entry."""
    assert entry()

    with pytest.raises(error):
        entry(**changes)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"fleet": "Demo"}, BadNameError),
        ({"model": "a b"}, BadNameError),
        ({"variant": ""}, BadNameError),
        ({"model_file": "other"}, MalformedError),
        ({"golden": manifest.GoldenSpec(file="g.npz", min_agreement=1.0, max_mean_abs_error=0.0)}, MalformedError),
        ({"files": ()}, MalformedError),
        ({"files": (entry(), entry())}, MalformedError),
        ({"runtimes": ()}, MalformedError),
        ({"profiles": ()}, MalformedError),
        ({"security_epoch": -1}, MalformedError),
    ],
)
def test_manifests_that_are_none(changes: dict, error: type[WireError]):
    """Names out of the alphabet, files not listed or listed twice, and empty lists make no manifest."""
    assert bundle()

    with pytest.raises(error):
        bundle(**changes)


@given(manifests())
def test_a_manifest_is_named_by_its_bytes(found: Manifest):
    """The name is the digest of the payload, and the size that of all files."""
    payload = codec.encode(found)

    assert manifest.parse_manifest(payload) == found
    assert manifest_digest(payload) == hashlib.sha256(payload).hexdigest()
    assert found.size == sum(f.size for f in found.files)


@given(instances(messages.Report), st.sampled_from(messages.ReportKind))
def test_reports_fill_exactly_one_part(report: messages.Report, kind: messages.ReportKind):
    """A report whose kind names another part than the filled one cannot be made."""
    if kind is not report.kind:
        with pytest.raises(MalformedError, match="fills exactly that part"):
            replace(report, kind=kind)


def test_messages_that_contradict_themselves():
    """A result is a measurement or a refusal, energy has a value or a reason, a model is assigned once."""
    assignment = messages.Assignment(model="m")

    with pytest.raises(MalformedError, match="either a measurement or a refusal"):
        messages.MeasuredVariant(request="r", model="m", manifest=DIGEST, measurement=None)
    with pytest.raises(MalformedError, match="needs a reason"):
        metrics.EnergySummary()
    with pytest.raises(MalformedError, match="assigned twice"):
        messages.Desired(
            fleet="f",
            target_kind=messages.TargetKind.DEVICE,
            target="d",
            sequence=1,
            issued_at=0.0,
            models=(assignment, assignment),
        )


@pytest.mark.parametrize("changes", [{"min_runs": 0}, {"threads": 0}, {"max_seconds": 0.0}])
def test_plans_that_measure_nothing(changes: dict):
    """A plan without runs, threads or time cannot be made."""
    with pytest.raises(MalformedError):
        metrics.MeasurePlan(**changes)
