"""Identifiers: what a name and a digest look like, checked in one place."""

import re
from typing import NewType

from edgepick_wire.errors import BadNameError

FleetName = NewType("FleetName", str)
DeviceId = NewType("DeviceId", str)
ModelName = NewType("ModelName", str)
ProfileName = NewType("ProfileName", str)
Digest = NewType("Digest", str)
"""SHA-256 of some bytes as 64 lower-case hexadecimal digits."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_name(kind: str, value: str) -> str:
    """Return ``value`` if it may stand in a topic and in a file name.

    Args:
        kind: What it names, for the message ("device", "model", ...).
        value: The candidate.

    Raises:
        BadNameError: Anything else than 1 to 64 of ``a-z 0-9 . _ -``, or a leading mark.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise BadNameError(f"{kind} name {value!r}: allowed are 1 to 64 of a-z 0-9 . _ - after a letter or digit")
    return value


def check_digest(value: str) -> Digest:
    """Return ``value`` as a digest.

    Raises:
        BadNameError: Not 64 lower-case hexadecimal digits.
    """
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise BadNameError(f"digest {str(value)[:80]!r}: expected 64 lower-case hexadecimal digits (SHA-256)")
    return Digest(value)


def digest_of(data: bytes | bytearray | memoryview) -> Digest:
    """Return the SHA-256 digest of ``data``."""
    import hashlib  # it loads OpenSSL, and runners, which read names but hash nothing, do without

    return Digest(hashlib.sha256(data).hexdigest())
