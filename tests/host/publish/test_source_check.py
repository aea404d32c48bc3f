"""What is looked at before a manifest names an HTTPS source."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_host.errors import VerificationError
from edgepick_host.service.prepare import Prepared, prepare_file
from edgepick_host.service.source_check import check_sources, check_templates
from edgepick_wire.manifest import RuntimeChoice, RuntimeName

SOURCE = "https://models.example.com/{sha256}"
CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """Provide one file of several chunks, with a source."""
    (tmp_path / "model.tflite").write_bytes(CONTENT)
    choice = RuntimeChoice(name=RuntimeName.LITERT)
    made = prepare_file(
        tmp_path / "model.tflite", fleet="demo", model="m", version="1", profiles=("p",), runtimes=(choice,)
    )
    release = made.releases[0]
    return replace(made, releases=(replace(release, manifest=replace(release.manifest, sources=(SOURCE,))),))


def test_the_first_and_the_last_chunk_are_compared(prepared):
    """Two ranges of the file's own URL are read, and no more."""
    asked = []

    def read(url: str, offset: int, size: int) -> bytes:
        asked.append((url.rpartition("/")[2], offset, size))
        return CONTENT[offset : offset + size]

    check_sources(prepared, read)

    digest = prepared.releases[0].manifest.files[0].sha256
    assert asked == [(digest, 0, 65536), (digest, 3 * 65536, len(CONTENT) - 3 * 65536)]


def test_other_bytes_at_a_source_are_refused(prepared):
    """A stale file at the source is found before anything is signed."""
    with pytest.raises(VerificationError, match="other bytes from 0 on"):
        check_sources(prepared, lambda _url, _offset, size: bytes(size))


@pytest.mark.parametrize(
    "wrong",
    [
        "http://a.example/{sha256}",
        "https:///{sha256}",
        "https://me@a.example/{sha256}",
        "https://a.example/model",
        "https://a.example/{digest}{sha256}",
        "https://a.example/ {name}",
        "https://a.example/{name}" + "x" * 1024,
    ],
)
def test_a_template_that_no_manifest_may_name_is_refused(wrong):
    """Only https, with the file in the URL and nothing that could be taken for something else."""
    with pytest.raises(VerificationError):
        check_templates((wrong,))


def test_at_most_four_sources_are_named():
    """A fifth is refused."""
    with pytest.raises(VerificationError, match="at most 4"):
        check_templates((SOURCE,) * 5)
