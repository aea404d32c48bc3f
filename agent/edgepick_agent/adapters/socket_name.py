"""Stable names of sockets: symbolic links, exchanged in one step."""

from pathlib import Path


class SocketNames:
    """Makes names below ``root`` lead to sockets in the same folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, name: str, target: str | None) -> None:
        """Make ``name`` lead to ``target``, atomically; without a target, remove the name."""
        link = self._root / name
        if target is None:
            link.unlink(missing_ok=True)
            return
        link.parent.mkdir(exist_ok=True)
        temporary = link.with_name(f".{link.name}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path(target).name)
        temporary.replace(link)
