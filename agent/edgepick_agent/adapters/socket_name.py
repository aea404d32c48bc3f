"""Stable names of sockets: symbolic links, exchanged in one step."""

from pathlib import Path

from edgepick_agent.errors import storage_error


class SocketNames:
    """Makes names below ``root`` lead to sockets in the same folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, name: str, target: str | None) -> None:
        """Make ``name`` lead to ``target``, atomically; without a target, remove the name.

        Raises:
            StorageError: The name cannot be written; it leads where it led before.
        """
        try:
            _lead(self._root / name, Path(target) if target is not None else None)
        except OSError as error:
            raise storage_error(name, error) from error


def _lead(link: Path, target: Path | None) -> None:
    if target is None:
        link.unlink(missing_ok=True)
        return
    if link.is_symlink() and link.readlink().name == target.name:
        return  # always so after a restart, which a disk that is full or read-only must not undo
    link.parent.mkdir(exist_ok=True)
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(link)
