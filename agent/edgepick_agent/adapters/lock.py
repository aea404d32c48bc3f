"""One agent per state directory: an advisory lock that the kernel drops with the process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepick_agent.errors import AlreadyRunningError, StorageError


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
        hint = "Give this user a state directory that it may write: `state_dir` in the configuration."
        raise StorageError(f"{path}: {error.strerror}", hint=hint) from error
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
