"""One agent per state directory: an advisory lock that the kernel drops with the process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepick_agent.errors import AlreadyRunningError, StorageError, mend_of


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file while the block runs.

    Raises:
        AlreadyRunningError: Somebody else holds it.
        StorageError: It cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        other = "Give this user a state directory that it may write: `state_dir` in the configuration."
        raise StorageError(f"{path}: {error.strerror}", hint=mend_of(error, other)) from error
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        hint = "Stop it first, or give this one a state directory of its own."
        raise AlreadyRunningError(f"{path.parent}: another edgepick-agent runs here", hint=hint) from error


def holder(path: Path) -> int | None:
    """Return the process that holds the lock file, or ``None``; looks it up, and never takes the lock to find out.

    By proc_locks(5): number, FLOCK, ADVISORY, WRITE, process, device:inode. A process in another
    container has the number 0 there.
    """
    try:
        inode = str(path.stat().st_ino)
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for fields in map(str.split, lines):
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            return int(fields[4])
    return None
