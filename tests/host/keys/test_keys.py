"""``edgepick keys``, with openssl as the judge of every file."""

import base64
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host import app
from edgepick_host.core.keypair import KeySigner, from_pem, to_pem, verify_signature
from edgepick_host.errors import ConfigError, InputFileError
from fakes.host_site import FLEET

SPKI_BYTES = 12
"""DER before the 32 bytes of an Ed25519 public key (RFC 8410, section 4)."""


def openssl(*arguments: object, folder) -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True).stdout


def public_key_by_openssl(folder, name: str) -> str:
    return openssl("pkey", "-in", name, "-pubout", "-outform", "DER", folder=folder)[SPKI_BYTES:].hex()


def test_openssl_reads_the_keys(site, edgepick):
    """Openssl derives from each private key the public key that the root document names for its role."""
    shown = edgepick("keys", "show", "--json").json()

    for key in shown["keys"]:
        assert public_key_by_openssl(site.keys, f"{key['role']}.pem") == key["public_key"]


def test_openssl_confirms_our_signature(site, tmp_path):
    """Openssl verifies what a key file of ours signed."""
    signer = app.signer(f"file:{site.keys / 'release.pem'}")
    (tmp_path / "message").write_bytes(b"any message")
    (tmp_path / "signature").write_bytes(signer.sign(b"any message"))

    said = openssl(
        *("pkeyutl", "-verify", "-rawin", "-inkey", site.keys / "release.pem"),
        *("-in", "message", "-sigfile", "signature"),
        folder=tmp_path,
    )

    assert b"Verified Successfully" in said


def test_we_confirm_openssls_signature(tmp_path):
    """A key that openssl made is a signer of ours, and what openssl signs with it we verify."""
    openssl("genpkey", "-algorithm", "ed25519", "-out", "k.pem", folder=tmp_path)
    (tmp_path / "message").write_bytes(b"any message")
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", "k.pem", "-in", "message", "-out", "signature", folder=tmp_path)

    public = app.signer(f"file:{tmp_path / 'k.pem'}").public_key

    assert verify_signature(bytes.fromhex(public), (tmp_path / "signature").read_bytes(), b"any message")
    assert not verify_signature(bytes.fromhex(public), (tmp_path / "signature").read_bytes(), b"other message")


def test_private_files_are_private(site):
    """Keys are readable by their owner only, the root document by all."""
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (site.keys, *site.keys.iterdir())}

    assert modes == {
        "keys": 0o700,
        "root.pem": 0o600,
        "release.pem": 0o600,
        "campaign.pem": 0o600,
        "root.signed": 0o644,
    }


def test_nothing_is_overwritten(site, edgepick):
    """Making keys where there are some fails, and leaves every file as it was."""
    before = {p.name: p.read_bytes() for p in site.keys.iterdir()}

    done = edgepick("keys", "init", "--dir", site.keys)

    assert done.code == 1
    assert "root.pem, release.pem, campaign.pem, root.signed exist already" in done.err
    assert {p.name: p.read_bytes() for p in site.keys.iterdir()} == before


def test_one_file_is_enough_to_refuse(edgepick, tmp_path):
    """A single file of the names stops the making of keys before anything is written."""
    (tmp_path / "campaign.pem").write_text("mine")

    done = edgepick("keys", "init", "--dir", tmp_path)

    assert done.code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["campaign.pem"]


def test_written_settings_are_usable(site):
    """The configuration that is written with new keys leads to them, from any directory."""
    settings = site.settings()

    assert settings.fleet == FLEET
    assert settings.root_document == str(site.keys / "root.signed")
    assert settings.database == str(site.folder / "edgepick.db")
    assert app.read_root(settings)[0].fleet == FLEET


def test_a_person_is_told_what_is_offline(edgepick, tmp_path):
    """Making keys says which key goes offline, what devices need, and never prints a private key."""
    done = edgepick("keys", "init", "--dir", tmp_path / "k")

    secret = (tmp_path / "k" / "root.pem").read_text().splitlines()[1]
    assert done.code == 0
    for word in ("offline", "Move root.pem off this machine", "root.signed to every device"):
        assert word in done.out
    assert secret not in done.out


def test_key_that_is_elsewhere(site, edgepick):
    """``keys show`` says which private keys this host does not hold."""
    (site.keys / "root.pem").unlink()

    shown = {k["role"]: k["private_key"] for k in edgepick("keys", "show", "--json").json()["keys"]}

    assert shown["root"] is None
    assert shown["release"].endswith("release.pem")


def test_altered_root_document(site, edgepick):
    """A root document that does not carry its own signature gives exit code 4."""
    path = site.keys / "root.signed"
    path.write_bytes(path.read_bytes().replace(FLEET.encode(), b"another"))

    done = edgepick("keys", "show")

    assert done.code == 4
    assert "root.signed" in done.err


def test_bad_fleet_name(edgepick, tmp_path):
    """A fleet name out of the alphabet gives exit code 2, says what is allowed, and leaves nothing."""
    done = edgepick("keys", "init", "--fleet", "My Fleet", "--dir", tmp_path / "k")

    assert done.code == 2
    assert "a-z 0-9" in done.err
    assert not (tmp_path / "k").exists()


def test_key_in_the_environment(monkeypatch):
    """A signer may stand in an environment variable; an unset one is named."""
    monkeypatch.setenv("A_KEY", to_pem(bytes(32)))

    assert app.signer("env:A_KEY").public_key == KeySigner(bytes(32)).public_key
    with pytest.raises(ConfigError, match="NOT_SET"):
        app.signer("env:NOT_SET")


@pytest.mark.parametrize("address", ["vault:x", "file:", "keys/release.pem", ""])
def test_unknown_signer(address):
    """A signer of an unknown scheme is refused, naming the known ones."""
    with pytest.raises(ConfigError, match=r"file:.*env:"):
        app.signer(address)


@given(seed=st.binary(min_size=32, max_size=32))
def test_pem_round_trip(seed):
    """A key written as PEM is read back as the same key."""
    assert from_pem(to_pem(seed), "x").public_key == KeySigner(seed).public_key


@given(text=st.text(max_size=200))
def test_anything_else_is_no_key(text):
    """Any other text is refused without repeating it."""
    with pytest.raises(InputFileError, match=r"^here: not an Ed25519 private key") as caught:
        from_pem(text, "here")

    assert len(str(caught.value)) < 80


def test_another_algorithm_is_no_key(tmp_path):
    """An X25519 key in the same form is refused."""
    openssl("genpkey", "-algorithm", "x25519", "-out", "k.pem", folder=tmp_path)

    with pytest.raises(InputFileError, match="not an Ed25519 private key"):
        app.signer(f"file:{tmp_path / 'k.pem'}")


def test_key_of_the_rfc():
    """The private key printed in RFC 8410, section 10.3, is read as the public key printed there."""
    text = (
        "-----BEGIN PRIVATE KEY-----\n"
        "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
        "-----END PRIVATE KEY-----\n"
    )
    spki = base64.b64decode("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")

    assert from_pem(text, "rfc").public_key == spki[SPKI_BYTES:].hex()
