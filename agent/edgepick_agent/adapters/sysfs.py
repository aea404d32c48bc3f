"""Reading sysfs and procfs: a file that is missing, unreadable or not a number is ``None``, never 0."""

import os
from pathlib import Path


def text(path: Path) -> str | None:
    """Return the stripped content of a small file, or ``None`` if it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\x00 \n\t")
    except OSError:
        return None


def integer(path: Path) -> int | None:
    """Return the integer in a file, or ``None`` if it cannot be read or is none."""
    content = text(path)
    try:
        return None if content is None else int(content)
    except ValueError:
        return None


class Attribute:
    """One sysfs file, kept open: re-reading it costs a microsecond instead of fifteen."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return

    def integer(self) -> int | None:
        """Return the integer that it holds now, or ``None`` if it cannot be read or is none."""
        if self._descriptor is None:
            return None
        try:
            return int(os.pread(self._descriptor, 64, 0))
        except (OSError, ValueError):
            return None

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def hwmon_chips(root: Path, names: frozenset[str]) -> list[tuple[str, Path]]:
    """Return ``(name, folder)`` of the hwmon chips with these names, each once.

    By name: the number in ``hwmonN`` depends on the order of probing and changes from boot to boot.
    """
    folders = [*root.glob("sys/class/hwmon/hwmon*"), *root.glob("sys/bus/i2c/drivers/*/*/hwmon/hwmon*")]
    unique = {folder.resolve(): folder for folder in sorted(folders)}
    chips = [(text(folder / "name") or "", folder) for folder in unique]
    return sorted((name, folder) for name, folder in chips if name in names)
