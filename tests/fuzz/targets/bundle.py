"""An ``.edgepick`` file on a stick: a tar that anyone may have written."""

import io
import os
import tarfile
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

from edgepick_agent.adapters.bundle_file import BundleFile
from edgepick_agent.errors import RefusedError
from edgepick_wire import bundle, limits
from fuzz.records import recorded

PIECE_MAX_BYTES = 256 * 1024
STICK = Path("/dev/shm" if Path("/dev/shm").is_dir() else gettempdir())


def _tar(format_: int, *members: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format_) as archive:
        for name, data in members:
            found = tarfile.TarInfo(name)
            found.size = len(data)
            archive.addfile(found, io.BytesIO(data))
    return made.getvalue()


MEMBERS = ((bundle.MANIFEST_MEMBER, recorded("Envelope-manifest")[0]), ("files/model.tflite", b"model" * 200))
LONG = ("files/" + "ü" * 120, b"x")
SEEDS = [
    _tar(tarfile.USTAR_FORMAT, *MEMBERS),
    _tar(tarfile.PAX_FORMAT, LONG, *MEMBERS),
    _tar(tarfile.GNU_FORMAT, LONG, *MEMBERS),
    _tar(tarfile.USTAR_FORMAT, MEMBERS[0], ("root-2.signed", b"two"), ("root-3.signed", b"three"), MEMBERS[1]),
]


def one(data: bytes) -> None:
    """Read manifest and files; what comes out is no more than what lies in the file."""
    path = STICK / f"edgepick-fuzz-{os.getpid()}.edgepick"
    path.write_bytes(data)
    try:
        _read(str(path), len(data))
    finally:
        path.unlink()


def _read(path: str, size: int) -> None:
    with suppress(RefusedError):
        assert len(BundleFile().manifest(path)) <= limits.MAX_PAYLOAD_BYTES
    with suppress(RefusedError):
        assert sum(map(len, BundleFile().roots(path))) <= size
    total = 0
    try:
        for _, _, pieces in BundleFile().files(path):
            for piece in pieces:
                assert 0 < len(piece) <= PIECE_MAX_BYTES
                total += len(piece)
                assert total <= size
    except RefusedError:
        return
