"""Roles in which more than one key has to sign: no single thief, and no single person, can publish alone."""

import tarfile

import pytest

from edgepick_wire import envelope
from edgepick_wire.bundle import MANIFEST_MEMBER
from edgepick_wire.envelope import DocumentType, key_id, signed_bytes
from host.keys.test_keys import openssl, public_key_by_openssl

VARIANT = ("--variant", "static_wi8_ai8", "--out", "b.edgepick")


@pytest.fixture
def second(tmp_path):
    """Provide a second person's release key, made by openssl."""
    openssl("genpkey", "-algorithm", "ed25519", "-out", "second.pem", folder=tmp_path)
    return tmp_path / "second.pem"


def two_release_keys(site, edgepick, second) -> dict:
    """Have two release keys sign together, and return what the command says."""
    addresses = ("--key", f"file:{site.keys}/release.pem", "--key", f"file:{second}")
    done = edgepick("keys", "rotate", "release", *addresses, "--threshold", 2, "--json")
    assert done.code == 0, done.err
    return done.json()


def cosign(site, second) -> None:
    toml = site.folder / "edgepick.toml"
    toml.write_text(f'{toml.read_text()}\n[signers]\nrelease_cosigners = ["file:{second}"]\n')


def test_two_release_keys_sign_together(site, edgepick, variants, second, tmp_path):
    """With both at hand a bundle carries both signatures, each good by openssl, and is verified."""
    change = two_release_keys(site, edgepick, second)
    cosign(site, second)

    built = edgepick("bundle", "build", variants, *VARIANT)
    verified = edgepick("bundle", "verify", "b.edgepick")

    with tarfile.open(site.folder / "b.edgepick") as archive:
        document = envelope.unpack(archive.extractfile(MANIFEST_MEMBER).read())
    (tmp_path / "m").write_bytes(signed_bytes(DocumentType.MANIFEST, document.payload))
    assert (built.code, verified.code) == (0, 0), built.err + verified.err
    assert ["signers.release_cosigners", f'["file:{second}"]'] in change["settings"]
    assert edgepick("keys", "show", "--json").json()["thresholds"]["release"] == 2
    for key in (site.keys / "release.pem", second):
        (made,) = [s for s in document.signatures if s.key_id == key_id(public_key_by_openssl(key.parent, key.name))]
        (tmp_path / "s").write_bytes(bytes.fromhex(made.signature))
        said = openssl("pkeyutl", "-verify", "-rawin", "-inkey", key, "-in", "m", "-sigfile", "s", folder=tmp_path)
        assert b"Verified Successfully" in said


def test_one_of_two_keys_is_not_enough(site, edgepick, variants, second):
    """A host that has only one of them is told so before it signs anything, and where to name the other."""
    two_release_keys(site, edgepick, second)

    built = edgepick("bundle", "build", variants, *VARIANT)

    assert built.code == 4
    assert "2 release keys have to sign, and this host has 1" in built.err
    assert "signers.release_cosigners" in built.err
    assert not (site.folder / "b.edgepick").exists()


def test_a_key_named_twice_counts_once(site, edgepick, variants, second):
    """The same key as its own co-signer does not make two."""
    two_release_keys(site, edgepick, second)
    cosign(site, site.keys / "release.pem")

    built = edgepick("bundle", "build", variants, *VARIANT)

    assert (built.code, "2 release keys have to sign" in built.err) == (4, True)


def test_a_threshold_is_not_lowered_by_accident(site, edgepick, second):
    """Replacing two keys by one new one is refused, unless a lower threshold is asked for."""
    two_release_keys(site, edgepick, second)

    refused = edgepick("keys", "rotate", "release")
    asked = edgepick("keys", "rotate", "release", "--threshold", 1, "--json")

    assert (refused.code, "a threshold of 2 with 1 release keys" in refused.err) == (2, True)
    assert asked.json()["in_force"] is True


def test_a_stranger_as_cosigner_is_named(site, edgepick, variants, second):
    """A co-signer that the root document does not name is refused by its id."""
    cosign(site, second)

    built = edgepick("bundle", "build", variants, *VARIANT)

    assert built.code == 4
    assert f"the release key {key_id(public_key_by_openssl(second.parent, second.name))} is not one" in built.err
