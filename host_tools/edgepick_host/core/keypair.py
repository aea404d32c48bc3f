"""Ed25519 keys and their PEM text (PKCS#8, RFC 8410), the format that ``openssl pkey`` reads."""

import base64

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from edgepick_host.errors import InputFileError

PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
"""DER of a PrivateKeyInfo with algorithm id-Ed25519, up to the 32 bytes of the seed (RFC 8410, section 10.3)."""

SEED_BYTES = 32
_HEAD = "-----BEGIN PRIVATE KEY-----"
_TAIL = "-----END PRIVATE KEY-----"


class KeySigner:
    """Keeps :class:`edgepick_host.ports.Signer` with a key in memory."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)

    @property
    def public_key(self) -> str:
        """Ed25519 public key, 32 bytes in hexadecimal."""
        return self._key.verify_key.encode().hex()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of ``message``."""
        return self._key.sign(message).signature


def to_pem(seed: bytes) -> str:
    """Return the PKCS#8 PEM text of the private key with this seed (32 bytes)."""
    return f"{_HEAD}\n{base64.b64encode(PKCS8_PREFIX + seed).decode()}\n{_TAIL}\n"


def from_pem(text: str, where: str) -> KeySigner:
    """Return the signer of a PEM text.

    Raises:
        InputFileError: Not an unencrypted Ed25519 private key; ``where`` is named, the text is not.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    try:
        body = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        body = b""
    framed = bool(lines) and lines[0] == _HEAD and lines[-1] == _TAIL
    if not framed or not body.startswith(PKCS8_PREFIX) or len(body) != len(PKCS8_PREFIX) + SEED_BYTES:
        raise InputFileError(
            f"{where}: not an Ed25519 private key in PEM (PKCS#8)",
            hint="`edgepick keys init` makes one, and so does `openssl genpkey -algorithm ed25519`.",
        )
    return KeySigner(body[len(PKCS8_PREFIX) :])


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether ``signature`` is that of ``message`` by the key: an ``edgepick_wire.envelope.VerifySignature``."""
    try:
        VerifyKey(public_key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True
