"""Storage in memory that forgets like a disk does, and two troublemakers in front of any storage.

Stricter than a file system: what was not made durable is lost or torn at a power cut, and a file
that was removed comes back.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgepick_agent.errors import StorageError, StorageFullError

DISK_BYTES = 64 * 1024 * 1024


class PowerCut(BaseException):
    """The power went; nothing of the process goes on."""


class MemoryStorage:
    """Keeps ``edgepick_agent.ports.Storage``."""

    def __init__(self, capacity: int = DISK_BYTES) -> None:
        self.capacity = capacity
        self.files: dict[str, bytes] = {}
        self.durable: dict[str, bytes] = {}

    def _room(self, name: str, size: int) -> None:
        used = sum(len(data) for other, data in self.files.items() if other != name)
        if used + size > self.capacity:
            raise StorageFullError(f"{name}: No space left on device", hint="Free some space.")

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        return self.files.get(name, b"")[offset : offset + size]

    def size(self, name: str) -> int | None:
        return len(self.files[name]) if name in self.files else None

    def names(self, folder: str) -> Sequence[str]:
        inside = (name[len(folder) + 1 :] for name in self.files if name.startswith(f"{folder}/"))
        return sorted({name.partition("/")[0] for name in inside})

    def free_bytes(self) -> int:
        return self.capacity - sum(map(len, self.files.values()))

    def write(self, name: str, data: bytes) -> None:
        self._room(name, len(data) + len(self.files.get(name, b"")))
        self.files[name] = self.durable[name] = bytes(data)

    def reserve(self, name: str, size: int) -> None:
        self._room(name, size)
        self.files[name] = self.files.get(name, b"")[:size].ljust(size, b"\0")

    def write_at(self, name: str, offset: int, data: bytes) -> None:
        if name not in self.files:
            raise StorageError(f"{name}: No such file or directory")
        old = self.files[name]
        self.files[name] = old[:offset] + bytes(data) + old[offset + len(data) :]

    def sync(self, name: str) -> None:
        if name not in self.files:
            raise StorageError(f"{name}: No such file or directory")
        self.durable[name] = self.files[name]

    def link(self, source: str, target: str) -> None:
        if source not in self.files:
            raise StorageError(f"{target}: No such file or directory")
        self.files[target] = self.files[source]
        self.durable[target] = self.durable.get(source, bytes(len(self.files[source])))

    def move(self, source: str, target: str) -> None:
        if source not in self.files:
            raise StorageError(f"{target}: No such file or directory")
        data = self.files.pop(source)
        self.files[target] = data
        # The name is durable now, the content only as far as it was synced.
        self.durable[target] = self.durable.pop(source, bytes(len(data)))

    def remove(self, name: str) -> None:
        for other in [n for n in self.files if n == name or n.startswith(f"{name}/")]:
            del self.files[other]

    def path(self, name: str) -> Path:
        return Path("/memory") / name

    def cut(self) -> "MemoryStorage":
        """Return the disk as it is found after the power came back."""
        after = MemoryStorage(self.capacity)
        after.durable = dict(self.durable)
        after.files = dict(self.durable)
        return after


CHANGES = frozenset({"write", "reserve", "write_at", "sync", "link", "move", "remove"})
TAKES_SPACE = frozenset({"write", "reserve"})


class CuttingStorage:
    """Counts the operations that change something, and cuts the power at one of them."""

    def __init__(self, inner: Any, cut_at: int | None = None, *, torn: bool = False) -> None:
        self.inner = inner
        self.count = 0
        self.cut_at = cut_at
        self.torn = torn
        self.seen: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._counted(name, found) if name in CHANGES else found

    def _counted(self, kind: str, change: Callable[..., None]) -> Callable[..., None]:
        def counted(*args: Any) -> None:
            self.count += 1
            self.seen.append((kind, str(args[0])))
            if self.count == self.cut_at:
                self._tear(kind, args)
                raise PowerCut
            change(*args)

        return counted

    def _tear(self, kind: str, args: tuple[Any, ...]) -> None:
        """Do the operation by half, as far as it can be done by half."""
        if self.torn and kind == "write_at":
            name, offset, data = args
            self.inner.write_at(name, offset, data[: len(data) // 2])
            self.inner.sync(name)
        elif self.torn and kind == "remove":
            self.forget(args[0])
        elif self.torn and kind in {"sync", "move", "link", "write"}:
            getattr(self.inner, kind)(*args)

    def forget(self, name: str) -> None:
        """Remove every other file below ``name`` for good."""
        inside = sorted(other for other in getattr(self.inner, "durable", ()) if other.startswith(f"{name}/"))
        for other in inside[::2]:
            self.inner.durable.pop(other, None)
            self.inner.files.pop(other, None)


class FullStorage:
    """Has no room from one operation on, until :attr:`healed`."""

    def __init__(self, inner: Any, full_at: int) -> None:
        self.inner = inner
        self.count = 0
        self.full_at = full_at
        self.healed = False

    def free_bytes(self) -> int:
        return int(self.inner.free_bytes()) if self.healed or self.count < self.full_at else 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._bounded(found) if name in TAKES_SPACE else found

    def _bounded(self, change: Callable[..., None]) -> Callable[..., None]:
        def bounded(*args: Any) -> None:
            self.count += 1
            if self.count >= self.full_at and not self.healed:
                raise StorageFullError(f"{args[0]}: No space left on device", hint="Free some space.")
            change(*args)

        return bounded


class FaultyStorage:
    """Fails with ``error`` at one changing operation, or at it and all after it, until :attr:`healed`."""

    def __init__(self, inner: Any, fail_at: int, error: type[StorageError], *, lasting: bool) -> None:
        self.inner = inner
        self.count = 0
        self.fail_at = fail_at
        self.error = error
        self.lasting = lasting
        self.healed = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._bounded(found) if name in CHANGES else found

    def _bounded(self, change: Callable[..., None]) -> Callable[..., None]:
        def bounded(*args: Any) -> None:
            self.count += 1
            if not self.healed and (self.count == self.fail_at or (self.lasting and self.count > self.fail_at)):
                raise self.error(f"{args[0]}: operation {self.count} failed", hint="It is a test.")
            change(*args)

        return bounded
