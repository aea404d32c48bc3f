"""The agent's log where no journal collects it: two files, together never more than their bound.

A full or broken disk costs lines, never more; nothing is made durable, for a log is not worth the
wear of a card.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edgepick_agent.errors import StorageError

FILE_BYTES = 256 * 1024
LOOK_SECONDS = 0.3
CURRENT, BEFORE = "agent.log", "agent.1.log"


class LogFiles:
    """The two files in ``folder``; any thread may append."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._torn = False
        self._read_to: tuple[int | None, int] | None = None

    def append(self, line: str) -> None:
        """Add a line, putting a full file aside first; without room or rights the line is lost."""
        with self._lock, contextlib.suppress(OSError):
            data = ("\n" if self._torn else "").encode() + line.encode("utf-8", "replace") + b"\n"
            self._torn = True
            self._write(data)
            self._torn = False

    def _write(self, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        current = self._folder / CURRENT
        if _size(current) + len(data) > FILE_BYTES and current.exists():
            current.replace(self._folder / BEFORE)
        descriptor = os.open(current, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError("only a part could be written")
        finally:
            os.close(descriptor)

    def read(self) -> list[str]:
        """Return every line that is there, oldest first.

        Raises:
            StorageError: They are there, but may not be read.
        """
        current = self._folder / CURRENT
        try:
            before, file, data = _bytes(self._folder / BEFORE, 0), _identity(current), _bytes(current, 0)
        except OSError as error:
            hint = "They belong to the account that runs the agent: put sudo before the command."
            raise StorageError(f"{error.filename or self._folder}: {error.strerror}", hint=hint) from error
        self._read_to = (file, data.rfind(b"\n") + 1)
        return _split(before) + _split(data)

    def follow(self) -> Iterator[str]:
        """Yield the lines that are added after what was read, for ever, also past the change of files."""
        current = self._folder / CURRENT
        file, at = self._read_to or (_identity(current), _size(current))
        while True:
            if _identity(current) != file:
                yield from _split(_bytes(self._folder / BEFORE, at)) if file is not None else ()
                file, at = _identity(current), 0
            data = _bytes(current, at)
            whole = data[: data.rfind(b"\n") + 1]
            at += len(whole)
            yield from _split(whole)
            if not whole:
                time.sleep(LOOK_SECONDS)


def _split(data: bytes) -> list[str]:
    """Return the whole lines; only a newline ends one, whatever else Unicode counts as an end."""
    return data.decode("utf-8", "replace").split("\n")[:-1]


def _bytes(path: Path, at: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _identity(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
