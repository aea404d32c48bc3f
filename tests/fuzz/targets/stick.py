"""A bundle file that the host inspects and verifies: made by anybody, perhaps around a manifest that is good."""

import io
import os
import tarfile
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

from edgepick_agent.adapters.ed25519 import verify as check
from edgepick_host.errors import HostError
from edgepick_host.service.bundles import read_bundle, verify_bundle
from edgepick_wire import envelope
from edgepick_wire.bundle import FILES_PREFIX, MANIFEST_MEMBER
from fakes.host_stand_in import bundle
from wire.wire_keys import root, signed_root

FOLDER = Path("/dev/shm" if Path("/dev/shm").is_dir() else gettempdir())
ROOT = envelope.pack(signed_root(root(), 0))
MADE = bundle("1", model_size=600)


def _tar(format_: int) -> bytes:
    made = io.BytesIO()
    members = {MANIFEST_MEMBER: MADE.raw, **{FILES_PREFIX + name: data for name, data in MADE.files.items()}}
    with tarfile.open(fileobj=made, mode="w", format=format_) as archive:
        for name, data in members.items():
            found = tarfile.TarInfo(name)
            found.size = len(data)
            archive.addfile(found, io.BytesIO(data))
    return made.getvalue()


SEEDS = [_tar(tarfile.USTAR_FORMAT), _tar(tarfile.PAX_FORMAT), _tar(tarfile.GNU_FORMAT)]


def one(data: bytes) -> None:
    """Inspect and verify: refused as a person is told, or every file is the one that was signed."""
    path = FOLDER / f"edgepick-fuzz-stick-{os.getpid()}.edgepick"
    path.write_bytes(data)
    try:
        with suppress(HostError):
            read_bundle(path)
        with suppress(HostError):
            assert verify_bundle(path, ROOT, check).digest == MADE.digest
    finally:
        path.unlink()
