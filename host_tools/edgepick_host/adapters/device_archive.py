"""One file with all that a device needs, for a stick: a tar archive that every board can unpack."""

import io
import tarfile
from pathlib import Path

from edgepick_host.errors import StateError

FILES = ("agent.toml", "root.signed", "ca.pem", "device.pem", "device.key")
"""What lies in a device's folder."""
PRIVATE = 0o600
PUBLIC = 0o644


def archive_of(folder: Path) -> bytes:
    """Return the files of a device's folder as a tar archive; the same files give the same bytes.

    They belong to root, and the key is readable by its owner only.

    Raises:
        StateError: One is missing.
    """
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in FILES:
            data = _read(folder / name)
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), PRIVATE if name.endswith(".key") else PUBLIC
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = "A folder that was emptied: `edgepick devices expel` the device, then enroll it again."
        raise StateError(f"{path}: {(error.strerror or 'cannot be read').lower()}", hint=hint) from error
