"""Files below the state directory: the only code on the device that writes there for keeps."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgepick_agent.errors import storage_error

NO_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP})
COPY_BYTES = 1024 * 1024


class FileStorage:
    """Keeps :class:`edgepick_agent.ports.Storage` on a file system.

    Durable means: data in a temporary file, fsync, rename, fsync of the folder. A folder that had
    to be made is made durable too.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = str(root)  # a Path would cost as much as the write of a chunk

    def path(self, name: str) -> Path:
        """Return where the file is."""
        return self._root / name

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or ``None``."""
        with _translated(name):
            try:
                return self.path(name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``."""
        with _translated(name):
            try:
                with self.path(name).open("rb", buffering=0) as file:
                    return os.pread(file.fileno(), size, offset)
            except (FileNotFoundError, NotADirectoryError):
                return b""

    def size(self, name: str) -> int | None:
        """Return a file's length, or ``None``."""
        with _translated(name):
            try:
                return self.path(name).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self, folder: str) -> Sequence[str]:
        """Return the names in a folder, temporary files left out."""
        with _translated(folder):
            try:
                return sorted(entry.name for entry in self.path(folder).iterdir() if not entry.name.startswith("."))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def free_bytes(self) -> int:
        """Return the space that an ordinary user may still take."""
        with _translated("."):
            found = os.statvfs(self._root)
            return found.f_bavail * found.f_frsize

    def write(self, name: str, data: bytes) -> None:
        """Replace a file atomically and durably."""
        target = self.path(name)
        temporary = target.with_name(f".{target.name}.tmp")
        with _translated(name):
            self._make_folder(target.parent)
            try:
                _write_whole(temporary, data)
                temporary.replace(target)
            except OSError:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def reserve(self, name: str, size: int) -> None:
        """Make a file of exactly ``size`` bytes exist, its blocks allocated."""
        with _translated(name):
            self._make_folder(self.path(name).parent)
            descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if size:
                    os.posix_fallocate(descriptor, 0, size)
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)

    def write_at(self, name: str, offset: int, data: bytes | memoryview) -> None:
        """Write into a reserved file."""
        with _translated(name):
            descriptor = os.open(f"{self._folder}/{name}", os.O_WRONLY)
            try:
                _write_all(data, lambda rest, done: os.pwrite(descriptor, rest, offset + done))
            finally:
                os.close(descriptor)

    def sync(self, name: str) -> None:
        """Make a file's content durable."""
        with _translated(name):
            _sync(self.path(name), os.O_RDONLY)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; copy it where that cannot be."""
        with _translated(target):
            self._make_folder(self.path(target).parent)
            self.path(target).unlink(missing_ok=True)
            try:
                os.link(self.path(source), self.path(target))
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                self._copy(self.path(source), self.path(target))
            _sync_folder(self.path(target).parent)

    def _copy(self, source: Path, target: Path) -> None:
        temporary = target.with_name(f".{target.name}.tmp")
        with source.open("rb") as incoming, temporary.open("wb") as outgoing:
            shutil.copyfileobj(incoming, outgoing, COPY_BYTES)
            outgoing.flush()
            os.fsync(outgoing.fileno())
        temporary.replace(target)

    def move(self, source: str, target: str) -> None:
        """Rename durably."""
        with _translated(target):
            self._make_folder(self.path(target).parent)
            self.path(source).replace(self.path(target))
            _sync_folder(self.path(target).parent)
            _sync_folder(self.path(source).parent)

    def remove(self, name: str) -> None:
        """Remove a file or a folder."""
        with _translated(name):
            path = self.path(name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                with suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(name, error) from error


def _write_whole(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write_all(data, lambda rest, _: os.write(descriptor, rest))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(data: bytes | memoryview, write: Callable[[memoryview, int], int]) -> None:
    rest, done = memoryview(data), 0
    while done < len(data):
        done += write(rest[done:], done)


def _sync_folder(folder: Path) -> None:
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
