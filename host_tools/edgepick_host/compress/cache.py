"""What was computed once is not computed again: a content-addressed folder of results.

The name of an entry is the digest of everything that its content depends on: the job, the model, the data, the seed,
the versions of the tools, and the code of this package. An entry starts with the digest of the rest and is checked when
it is read: one that is damaged is dropped and computed again. Entries appear by rename, so that a killed run leaves
none that is half written, and any number of runs may share a folder: what another one is writing is no entry yet, and
what it drops is gone. What a killed run was writing counts as an entry after an hour, and goes as one.
"""

import hashlib
import json
import os
import platform
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgepick_host.compress.provenance import provenance
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat

LARGEST_BYTES = 2 << 30
"""What a cache may grow to; the entries unused for longest go first."""

ABANDONED_SECONDS = 3600.0
"""What was begun so long ago, and is still no entry, is what a killed run left behind."""

_DIGEST_BYTES = 32
_UNFINISHED = "."
"""How the name of an entry begins while it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFacts:
    """What a cache holds."""

    folder: str
    entries: int
    size_bytes: int
    largest_bytes: int


class Cache:
    """Results in a folder; without a folder, nothing is kept."""

    def __init__(self, folder: Path | None, *, largest_bytes: int = LARGEST_BYTES) -> None:
        self._folder = folder
        self._largest_bytes = largest_bytes

    def read(self, key: str) -> bytes | None:
        """Return an entry's content, or ``None`` if there is none that is whole."""
        if self._folder is None:
            return None
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except OSError:
            return None
        content = entry[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != entry[:_DIGEST_BYTES]:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return content

    def write(self, key: str, content: bytes) -> None:
        """Keep an entry; a folder that cannot be written keeps nothing, and the work goes on without it."""
        if self._folder is None:
            return
        path = self._path(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(content).digest() + content)
                Path(name).replace(path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise

    def prune(self, largest_bytes: int | None = None) -> int:
        """Return how many entries were dropped, those unused for longest first, to keep the size."""
        limit = self._largest_bytes if largest_bytes is None else largest_bytes
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
        total, dropped = sum(found.st_size for _, found in entries), 0
        for path, found in entries:
            if total <= limit:
                break
            with suppress(OSError):  # in a folder of somebody else's it stays
                path.unlink(missing_ok=True)
                total -= found.st_size
                dropped += 1
        return dropped

    def facts(self) -> CacheFacts:
        """Return what is in the folder."""
        sizes = [found.st_size for _, found in self._entries()]
        return CacheFacts(
            folder=str(self._folder), entries=len(sizes), size_bytes=sum(sizes), largest_bytes=self._largest_bytes
        )

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / key[:2] / key

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        entries: list[tuple[Path, os.stat_result]] = []
        for path in [] if self._folder is None else self._folder.glob("??/*"):
            with suppress(FileNotFoundError):  # another run dropped it, or has just finished writing it
                found = path.stat()
                if _is_entry(path.name, found):
                    entries.append((path, found))
        return entries


def _is_entry(name: str, found: os.stat_result) -> bool:
    """Return whether a file is an entry, or what a killed run left of one."""
    being_written = name.startswith(_UNFINISHED) and time.time() - found.st_mtime <= ABANDONED_SECONDS
    return stat.S_ISREG(found.st_mode) and not being_written


def key_of_work(kind: str, facts: Mapping[str, object]) -> str:
    """Return the name of the entry for a piece of work on this machine's tools.

    Args:
        kind: What is computed.
        facts: Digests and parameters that the result depends on; JSON values.
    """
    known = {"kind": kind, "code": code_digest(), "tools": _tools(), "machine": platform.machine(), "facts": facts}
    return digest_of(json.dumps(known, sort_keys=True).encode())


def cpu_name() -> str:
    """Return the processor's name, for figures that hold on it only."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def code_digest() -> str:
    """Return the digest of this package's code: another version of a pass computes something else."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for folder in (root, root.parent / "core"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@cache
def _tools() -> dict[str, str]:
    return provenance(ModelFormat.TFLITE) | provenance(ModelFormat.ONNX)
