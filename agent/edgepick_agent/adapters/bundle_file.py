"""Reading an ``.edgepick`` bundle from a stick: a tar of the manifest and its files, nothing trusted.

Only members with an expected name are read, only as far as the manifest says, and nothing is
written under a name from the archive.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgepick_agent.core.admission import refuse
from edgepick_agent.errors import RefusedError, mend_of
from edgepick_wire import limits
from edgepick_wire.bundle import FILES_PREFIX, MANIFEST_MEMBER, ROOT_VERSION_MEMBER, ROOT_VERSIONS_MAX
from edgepick_wire.messages import RefusalCode

if TYPE_CHECKING:
    import tarfile  # at run time only when a bundle is read: it brings three compression libraries along

READ_BYTES = 256 * 1024
MEMBERS_MAX = limits.MAX_ITEMS + 2 + ROOT_VERSIONS_MAX
ROOT_VERSION = re.compile(ROOT_VERSION_MEMBER.format(version="[1-9][0-9]{0,8}").replace(".", "\\."))
HINT = "Write the bundle again with `edgepick bundle`, and copy it once more."


class BundleFile:
    """Keeps :class:`edgepick_agent.ports.BundleReader`."""

    def __init__(self) -> None:
        self._lent: dict[str, BinaryIO] = {}

    @contextmanager
    def lent(self, path: str | None, file: BinaryIO | None) -> Iterator[None]:
        """While the block runs, read ``file`` for ``path``: who names it has opened it, and we may not be able to."""
        if path is None or file is None:
            yield
            return
        self._lent[path] = file
        try:
            yield
        finally:
            if self._lent.get(path) is file:  # somebody else may have lent another one meanwhile
                del self._lent[path]

    def manifest(self, path: str) -> bytes:
        """Return the signed manifest, not yet verified.

        Raises:
            RefusedError: Not a bundle, or its manifest is too large.
        """
        with self._opened(path) as archive:
            for member in _members(archive, path):
                if member.name == MANIFEST_MEMBER and member.size <= limits.MAX_PAYLOAD_BYTES:
                    return b"".join(_content(archive, member, path))
        raise _malformed(path, f"no {MANIFEST_MEMBER} in it")

    def roots(self, path: str) -> tuple[bytes, ...]:
        """Return the versions of the root document that it carries, in the archive's order, none verified.

        Raises:
            RefusedError: Not a bundle, or one is too large.
        """
        found: list[bytes] = []
        with self._opened(path) as archive:
            for member in _members(archive, path):
                if ROOT_VERSION.fullmatch(member.name):
                    if member.size > limits.MAX_PAYLOAD_BYTES or len(found) == ROOT_VERSIONS_MAX:
                        raise _malformed(path, f"too large a {member.name}, or too many of them")
                    found.append(b"".join(_content(archive, member, path)))
                elif member.name.startswith(FILES_PREFIX):
                    break  # what comes before the files is all there is
        return tuple(found)

    def files(self, path: str) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Yield name, size and content in pieces of each file, in the archive's order.

        Raises:
            RefusedError: Not a bundle, or damaged.
        """
        with self._opened(path) as archive:
            for member in _members(archive, path):
                if member.name.startswith(FILES_PREFIX):
                    yield member.name[len(FILES_PREFIX) :], member.size, _content(archive, member, path)

    @contextmanager
    def _opened(self, path: str) -> "Iterator[tarfile.TarFile]":
        import tarfile

        from edgepick_wire.plain_tar import PlainFile

        lent = self._lent.get(path)
        with _translated(path), nullcontext(lent) if lent is not None else Path(path).open("rb") as file:
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:", tarinfo=PlainFile) as archive:
                yield archive


@contextmanager
def _translated(path: str) -> Iterator[None]:
    import tarfile

    try:
        yield
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:  # the last two: lengths of many digits
        raise _malformed(path, f"it is not a whole bundle ({error})") from error
    except OSError as error:
        raise _malformed(path, error.strerror or str(error), mend_of(error, HINT)) from error


def _members(archive: "tarfile.TarFile", path: str) -> "Iterator[tarfile.TarInfo]":
    for count, member in enumerate(archive):
        if count >= MEMBERS_MAX:
            raise _malformed(path, f"more than {MEMBERS_MAX} members")
        yield member


def _content(archive: "tarfile.TarFile", member: "tarfile.TarInfo", path: str) -> Iterator[bytes]:
    with _translated(path):
        stream = archive.extractfile(member)
        assert stream is not None
        while piece := stream.read(READ_BYTES):
            yield piece


def _malformed(path: str, detail: str, hint: str = HINT) -> RefusedError:
    return RefusedError(refuse(RefusalCode.MALFORMED, f"{path}: {detail}", hint))
