"""What the host keeps of its publications, and the encoded forms that come of it."""

from pathlib import Path

import pytest

from edgepick_host.core import delta
from edgepick_host.core.chunking import cut, describe
from edgepick_host.errors import StateError
from edgepick_host.service.archive import KEPT, Archive
from edgepick_host.service.prepare import Selection, Slot, SourceFile, prepare, read_chunks
from edgepick_profiles.load import load_profile
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ALIGNED, BSDIFF, ZSTD
from fakes.host_site import blob, variant, write_variants

SLOT = Slot(model="digits", variant="float32", name="model.tflite")


def edited(content: bytes, step: int = 97) -> bytes:
    """Return a file of the same layout with some of its numbers changed."""
    return bytes((byte + (i % step == 0)) % 256 for i, byte in enumerate(content))


@pytest.fixture
def archive(tmp_path):
    return Archive(folder=tmp_path / "archive", find_tensors=lambda _: ())


@pytest.fixture
def made(archive, tmp_path):
    """Return a function that prepares a version of one variant, and one that publishes it."""

    def prepared(content: bytes, *, plain: bool = False):
        folder = tmp_path / digest_of(content)[:8]
        folder.mkdir(exist_ok=True)
        write_variants(folder, [(variant("float32", content), content)])
        selection = Selection(fleet="testers", plain=plain)
        return prepare(folder, selection, load_profile, now=1.0, find_forms=archive.forms)

    return prepared


def model(prepared):
    return prepared.releases[0].files[0].chunked.entry


def test_the_second_version_travels_as_a_difference(archive, made):
    """A version whose predecessor was published names a difference to it, and the difference gives it back."""
    first, second = blob(1, 90_000), edited(blob(1, 90_000))
    archive.keep(made(first))

    prepared = made(second)

    (encoding,) = model(prepared).encodings
    (form,) = [f for f in prepared.releases[0].encoded if f.chunked.entry.sha256 == encoding.sha256]
    data = b"".join(chunk for _, chunk in read_chunks(form))
    assert encoding.base == digest_of(first)
    assert encoding.algorithm in {ALIGNED, BSDIFF}
    assert encoding.size == len(data) < len(second) / 5
    assert delta.decoded(delta.Encoded(algorithm=encoding.algorithm, data=data), first) == second
    assert model(prepared).sha256 == digest_of(second)


def test_what_is_only_prepared_is_no_base(made):
    """A version that no device can have, since it was not published, is nothing to differ from."""
    made(blob(1, 90_000))

    assert model(made(edited(blob(1, 90_000)))).encodings == ()


def test_nothing_larger_than_the_file_is_made(archive, made):
    """Noise and a stranger to it get neither a compressed form nor a difference."""
    archive.keep(made(blob(1, 50_000)))

    assert model(made(blob(2, 50_000))).encodings == ()


def test_a_file_that_compresses_is_offered_compressed(made):
    """A file of few different bytes has a form of its own, much smaller."""
    (encoding,) = model(made(blob(1, 100) * 900)).encodings

    assert (encoding.algorithm, encoding.base) == (ZSTD, None)
    assert encoding.size < 9000


def test_differences_are_smaller_than_the_compressed_file(archive, made):
    """A difference that does not beat the compressed file is left out."""
    archive.keep(made(blob(1, 90_000)))

    kinds = [e.algorithm for e in model(made(bytes(90_000))).encodings]

    assert kinds == [ZSTD]


def test_publishing_the_same_again_is_the_same_manifest(archive, made):
    """Whatever was published since, a version keeps its encoded forms and with them its name."""
    first, second = blob(1, 90_000), edited(blob(1, 90_000))
    before = made(first)
    archive.keep(before)
    archive.keep(made(second))

    assert made(first).releases[0].digest == before.releases[0].digest


def test_plain_is_plain(archive, made):
    """Whoever wants the files as they are gets a manifest without encoded forms."""
    archive.keep(made(blob(1, 90_000)))

    prepared = made(edited(blob(1, 90_000)), plain=True)

    assert model(prepared).encodings == ()
    assert prepared.releases[0].encoded == ()


def test_the_archive_is_bounded(archive, made):
    """Of each file of each variant the last few contents stay, and nothing that belongs to older ones."""
    versions = [edited(blob(1, 60_000), step) for step in range(50, 50 + KEPT + 3)]
    for version in versions:
        archive.keep(made(version))

    kept = {path.name for path in (archive.folder / "files").iterdir()}
    assert {digest_of(v) for v in versions[-KEPT:]} <= kept
    assert not {digest_of(v) for v in versions[:-KEPT]} & kept
    assert len(list((archive.folder / "memos").iterdir())) == KEPT + 1  # and the self-test's


@pytest.mark.parametrize("damage", ["file", "memo", "slot"])
def test_a_damaged_archive_costs_bytes_and_nothing_else(archive, made, damage):
    """A file, memo or list that was damaged or lost is made again or left out."""
    first, second = blob(1, 90_000), edited(blob(1, 90_000))
    archive.keep(made(first))
    made(second)
    for path in (archive.folder / f"{damage}s").iterdir():
        path.write_bytes(b"damaged")

    prepared = made(second)

    for form in prepared.releases[0].encoded:
        assert b"".join(chunk for _, chunk in read_chunks(form))


def test_a_dry_run_writes_nothing(tmp_path):
    """Without leave to remember, encoded forms are counted and nothing is written."""
    data = blob(1, 100) * 900
    (tmp_path / "model").write_bytes(data)
    archive = Archive(folder=tmp_path / "archive", find_tensors=lambda _: (), remember=False)
    chunked = describe("model.tflite", cut(data, 65536))

    source, forms = archive.forms(SLOT, SourceFile(path=tmp_path / "model", chunked=chunked))

    assert len(source.chunked.entry.encodings) == len(forms) == 1
    assert not archive.folder.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """Where the archive cannot be, the message says which path and why."""
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "model").write_bytes(b"x" * 5000)
    archive = Archive(folder=Path(tmp_path / "file" / "archive"), find_tensors=lambda _: ())
    chunked = describe("model.tflite", cut(b"x" * 5000, 65536))

    with pytest.raises(StateError, match="archive: not a directory"):
        archive.forms(SLOT, SourceFile(path=tmp_path / "model", chunked=chunked))
