"""Keys behind a command: openssl plays the HSM."""

import shlex
import sys

import pytest

from edgepick_host import app
from edgepick_host.adapters.signer_exec import CommandSigner
from edgepick_host.core.keypair import KeySigner, to_pem, verify_signature
from edgepick_host.errors import ConfigError, SignerError

HSM = """\
#!/bin/sh
# An HSM of sorts: $1 is its key, $2 what is asked.
case "$2" in
  --public) openssl pkey -in "$1" -pubout -outform DER | tail -c 32 | od -An -v -tx1 | tr -d ' \\n' ;;
  --sign) cat > "$1.message"; openssl pkeyutl -sign -rawin -inkey "$1" -in "$1.message" | od -An -v -tx1 ;;
esac | tr -d ' \\n'
"""


@pytest.fixture
def hsm(tmp_path):
    """Provide the address of a release key that only openssl touches."""
    script, key = tmp_path / "hsm sign", tmp_path / "key.pem"
    script.write_text(HSM)
    script.chmod(0o700)
    key.write_text(to_pem(b"\x05" * 32))
    return f"exec:{shlex.quote(str(script))} {key}"


def python(code: str) -> CommandSigner:
    return CommandSigner([sys.executable, "-c", code], timeout_seconds=60.0)


def answering(public: str, signature: str) -> str:
    return f"import sys; sys.stdin.read(); print({public!r} if sys.argv[1] == '--public' else {signature!r})"


def test_a_command_signs(hsm):
    """The public key and the signature of the command are used as they are."""
    signer = app.signer(hsm)

    signature = signer.sign(b"any message")

    assert signer.public_key == KeySigner(b"\x05" * 32).public_key
    assert verify_signature(bytes.fromhex(signer.public_key), signature, b"any message")


def test_a_role_moves_into_an_hsm(site, edgepick, hsm, variants):
    """After ``rotate --key exec:…`` and the setting that it names, the command's key signs manifests."""
    change = edgepick("keys", "rotate", "release", "--key", hsm, "--json").json()
    before = edgepick("bundle", "build", variants, "--variant", "static_wi8_ai8", "--out", "a.edgepick")
    toml = site.folder / "edgepick.toml"
    toml.write_text(f"{toml.read_text()}\n[signers]\nrelease = {change['settings'][0][1]!r}\n")

    built = edgepick("bundle", "build", variants, "--variant", "static_wi8_ai8", "--out", "b.edgepick")
    verified = edgepick("bundle", "verify", "b.edgepick")

    assert change["settings"] == [["signers.release", hsm]]
    assert (before.code, "is not one that the root document names" in before.err) == (4, True)
    assert (built.code, verified.code) == (0, 0), built.err + verified.err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('no card in slot 2')", r"ended with 1: no card in slot 2"),
        ("print('zz')", r"expected 64 hexadecimal digits"),
        ("pass", r"expected 64 hexadecimal digits"),
        ("print('ab' * 33)", r"expected 64 hexadecimal digits"),
        ("import sys; sys.stderr.write('a\\x1b[31mb'); sys.exit(3)", r"ended with 3: a\?\[31mb"),
    ],
)
def test_a_command_that_fails_is_told_apart(code, message):
    """What a failing command says is passed on in one clean line; anything but a key is none."""
    with pytest.raises(SignerError, match=message):
        python(code)


def test_a_command_that_hangs_is_ended():
    """A command that does not answer is ended after the time limit, and the flag is named."""
    with pytest.raises(SignerError, match=r"--public: no answer within 0.2 s"):
        CommandSigner([sys.executable, "-c", "import time; time.sleep(60)"], timeout_seconds=0.2)


@pytest.mark.parametrize("place", ["/nowhere/hsm", "'unclosed", "   "])
def test_a_command_that_is_none_is_refused(place):
    """A missing command and a broken command line are errors of the configuration."""
    with pytest.raises(ConfigError, match="signer exec:"):
        app.signer(f"exec:{place}")


def test_a_signature_of_another_key_is_never_used():
    """A command whose two answers do not belong together is caught on the host, not on the devices."""
    public = KeySigner(b"\x01" * 32).public_key
    signer = python(answering(public, KeySigner(b"\x02" * 32).sign(b"m").hex()))

    with pytest.raises(SignerError, match="does not fit its public key"):
        signer.sign(b"m")
