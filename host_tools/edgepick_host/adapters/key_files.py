"""Private files: a folder for its owner only, and files that never replace another."""

import os
import secrets
from pathlib import Path

from edgepick_host.core.keypair import SEED_BYTES
from edgepick_host.errors import StateError


def new_seed() -> bytes:
    """Return the 32 random bytes that an Ed25519 key is."""
    return secrets.token_bytes(SEED_BYTES)


def make_private_folder(folder: Path) -> None:
    """Leave ``folder`` existing and readable by its owner only.

    Raises:
        StateError: It cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror}", hint="Choose another folder with --dir.") from error


def write_new(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that must not exist yet; it appears whole or not at all.

    Raises:
        StateError: It exists, or cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # fails if the name is taken, unlike a rename
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}", hint="Nothing was overwritten.") from error
    finally:
        part.unlink(missing_ok=True)
