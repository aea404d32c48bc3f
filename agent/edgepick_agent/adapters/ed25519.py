"""Ed25519 by libsodium (PyNaCl)."""


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether ``signature`` over ``message`` is by ``public_key`` (RFC 8032)."""
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(public_key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True
