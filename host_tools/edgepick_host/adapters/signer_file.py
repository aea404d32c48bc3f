"""A private key in a file: ``file:keys/release.pem``."""

import os
from pathlib import Path

from edgepick_host.core.keypair import KeySigner, from_pem
from edgepick_host.errors import InputFileError


def open_signer(place: str) -> KeySigner:
    """Return the signer whose PEM file is at ``place``.

    Raises:
        InputFileError: No such file, not readable, or not a key.
    """
    path = Path(os.path.expanduser(place))  # noqa: PTH111 - Path.expanduser fails for a user that is none
    try:
        text = path.read_text("ascii")
    except FileNotFoundError as error:
        raise InputFileError(
            f"{path}: no such key", hint="Make keys with `edgepick keys init`, or name another in [signers]."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path}: {getattr(error, 'strerror', None) or 'not a PEM text'}") from error
    return from_pem(text, str(path))
