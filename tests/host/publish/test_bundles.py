"""Bundles: the file for a USB stick."""

import hashlib
import json
import tarfile

import pytest

from edgepick_host.core.keypair import verify_signature
from edgepick_host.service.bundles import verify_bundle
from fakes.archives import with_a_length_of
from fakes.host_site import FLEET, blob


@pytest.fixture
def stick(site, variants, edgepick):
    path = site.folder / "v.edgepick"
    assert edgepick("bundle", "build", variants, "--variant", "float32", "--out", path).code == 0
    return path


def rewrite(path, change) -> None:
    """Write the bundle again with ``change(name, content)`` applied to each member."""
    with tarfile.open(path) as archive:
        members = [(m, archive.extractfile(m).read()) for m in archive]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for member, content in members:
            new = change(member.name, content)
            if new is not None:
                member.size = len(new)
                (path.parent / "member").write_bytes(new)
                with (path.parent / "member").open("rb") as file:
                    archive.addfile(member, file)


def test_bundle_is_what_publishing_would_send(broker, stick, variants, edgepick):
    """A bundle carries the manifest that publishing the same directory sends, and the very file."""
    published = edgepick("publish", variants, "--broker", broker.url, "--json").json()
    digest = next(v["manifest"] for v in published["variants"] if v["variant"] == "float32")

    found = edgepick("bundle", "inspect", stick, "--json").json()
    with tarfile.open(stick) as archive:
        names = archive.getnames()
        payload = archive.extractfile("manifest.signed").read().partition(b"\n")[2]
        model = archive.extractfile("files/model.tflite").read()

    assert found["digest"] == digest == hashlib.sha256(payload).hexdigest()
    assert names == ["manifest.signed", "root.signed", "files/model.tflite", "files/golden.npz"]
    assert model == blob(1, 150_000)


def test_bundle_is_reproducible(stick, variants, edgepick):
    """The same directory and key give the same bytes."""
    before = stick.read_bytes()

    edgepick("bundle", "build", variants, "--variant", "float32", "--out", stick)

    assert stick.read_bytes() == before


def test_bundle_verifies(stick, edgepick):
    """A bundle that nobody touched is verified: exit code 0."""
    done = edgepick("bundle", "verify", stick)

    assert done.code == 0
    assert "verified" in done.out


def flipped(content: bytes) -> bytes:
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


def other_signature(content: bytes) -> bytes:
    head, _, payload = content.partition(b"\n")
    header = json.loads(head)
    header["signatures"][0]["signature"] = "00" * 64
    return json.dumps(header, separators=(",", ":")).encode() + b"\n" + payload


@pytest.mark.parametrize(
    "damage",
    [
        ("files/model.tflite", flipped, 4, "model.tflite has SHA-256"),
        ("files/model.tflite", lambda c: c[:-1], 4, "bytes, the manifest says"),
        ("manifest.signed", lambda c: c.replace(b"float32", b"float33"), 4, "needed signatures"),
        ("manifest.signed", other_signature, 4, "needed signatures"),
        ("manifest.signed", lambda _c: None, 2, "manifest.signed is missing"),
        ("manifest.signed", lambda _c: b"junk", 2, "no header line"),
        ("files/golden.npz", lambda _c: None, 2, "files/golden.npz is missing"),
    ],
)
def test_damage_is_found(stick, edgepick, damage):
    """A flipped bit, a cut file, a changed manifest and a missing member are each found and named."""
    member, change, code, said = damage
    rewrite(stick, lambda name, content: change(content) if name == member else content)

    done = edgepick("bundle", "verify", stick)

    assert done.code == code
    assert said in done.err


@pytest.mark.parametrize("content", [b"", b"not a tar at all", bytes(5000), *map(with_a_length_of, (30, 5000))])
def test_not_a_bundle(site, edgepick, content):
    """Any other file gives exit code 2 and its name."""
    path = site.folder / "x.edgepick"
    path.write_bytes(content)

    done = edgepick("bundle", "inspect", path)

    assert done.code == 2
    assert str(path) in done.err


def test_no_such_bundle(site, edgepick):
    """A file that is not there gives exit code 2."""
    done = edgepick("bundle", "verify", site.folder / "none.edgepick")

    assert done.code == 2
    assert "no such file" in done.err


def test_bundle_of_another_fleet(stick, edgepick, tmp_path):
    """A bundle that another fleet's keys signed does not verify."""
    edgepick("keys", "init", "--fleet", FLEET, "--dir", tmp_path / "others")

    done = edgepick("bundle", "verify", stick, "--keys", tmp_path / "others")

    assert done.code == 4


def test_stick_that_cannot_be_written(site, variants, edgepick):
    """A folder that is not there gives exit code 1, the path, and no half-written file."""
    done = edgepick("bundle", "build", variants, "--variant", "float32", "--out", site.folder / "none" / "v.edgepick")

    assert done.code == 1
    assert "none/v.edgepick: no such file or directory" in done.err


def test_verification_needs_no_private_key(stick, site):
    """A bundle is verified with the root document alone."""
    root = (site.keys / "root.signed").read_bytes()

    assert verify_bundle(stick, root, verify_signature).manifest.variant == "float32"
