"""A bundle as one file for a USB stick: written from a prepared release, read back and checked.

``edgepick_wire.bundle`` says what the file holds. It carries the manifest that publishing would
send, so a device that has it from a stick has it for good.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgepick_host.errors import InputFileError, StateError, VerificationError
from edgepick_host.ports import SignDocument
from edgepick_host.service.prepare import PreparedRelease
from edgepick_wire import envelope, limits
from edgepick_wire.bundle import (
    FILES_PREFIX,
    MANIFEST_MEMBER,
    ROOT_MEMBER,
    ROOT_VERSION_MEMBER,
    ROOT_VERSIONS_MAX,
)
from edgepick_wire.envelope import DocumentType, VerifySignature
from edgepick_wire.errors import SignatureError, WireError
from edgepick_wire.manifest import FileEntry, Manifest, manifest_digest, parse_manifest
from edgepick_wire.plain_tar import PlainFile
from edgepick_wire.trust import RootDocument, first_root

BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """What a bundle says it holds.

    Attributes:
        digest: Digest of the manifest.
        manifest: The manifest; its signature is checked by :func:`verify_bundle` only.
        files: Names in the archive, in order.
        carries_root: It brings a root document.
        size_bytes: Size of the bundle file.
    """

    digest: str
    manifest: Manifest
    files: tuple[str, ...]
    carries_root: bool
    size_bytes: int


def write_bundle(
    release: PreparedRelease, out: Path, *, sign: SignDocument, roots: Mapping[int, bytes]
) -> BundleContent:
    """Return what the file at ``out`` now holds; it appeared whole, replacing any before.

    ``roots`` are the versions of the fleet's root document that are known, by number.

    Raises:
        StateError: It cannot be written.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            _write_archive(file, release, envelope.pack(sign(DocumentType.MANIFEST, release.payload)), roots)
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
        _sync_folder(out.parent)
    except OSError as error:
        raise StateError(f"{out}: {(error.strerror or 'cannot be written').lower()}") from error
    finally:
        part.unlink(missing_ok=True)
    return read_bundle(out)


def read_bundle(path: Path) -> BundleContent:
    """Return what a bundle says it holds; nothing is verified.

    Raises:
        InputFileError: Not a bundle.
    """
    with _opened(path) as archive:
        payload = envelope.unpack(_small(archive, MANIFEST_MEMBER)).payload
        names = archive.getnames()
        return BundleContent(
            digest=manifest_digest(payload),
            manifest=parse_manifest(payload),
            files=tuple(n.removeprefix(FILES_PREFIX) for n in names if n.startswith(FILES_PREFIX)),
            carries_root=ROOT_MEMBER in names,
            size_bytes=path.stat().st_size,
        )


def verify_bundle(path: Path, root: bytes, check: VerifySignature) -> BundleContent:
    """Return what a bundle holds, now known to be signed by the fleet's release role and undamaged.

    Raises:
        InputFileError: Not a bundle, or a file is missing in it.
        VerificationError: A signature or a digest is wrong, or it is for another fleet.
    """
    with _opened(path) as archive:
        try:
            trusted = first_root(envelope.unpack(root), check)
            signed = envelope.unpack(_small(archive, MANIFEST_MEMBER))
            payload = envelope.verify(signed, DocumentType.MANIFEST, trusted.release, check)
        except SignatureError as error:
            raise VerificationError(f"{path}: {error}", hint=error.hint) from error
        manifest = parse_manifest(payload)
        _check_fleet(path, manifest, trusted)
        for entry in manifest.files:
            _check_file(path, archive, entry)
    return read_bundle(path)


def _write_archive(file: IO[bytes], release: PreparedRelease, manifest: bytes, roots: Mapping[int, bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(_member(MANIFEST_MEMBER, len(manifest)), io.BytesIO(manifest))
        for name, root in _root_members(roots):
            archive.addfile(_member(name, len(root)), io.BytesIO(root))
        for source in release.files:
            entry = source.chunked.entry
            with source.path.open("rb") as content:
                archive.addfile(_member(FILES_PREFIX + entry.name, entry.size), content)


def _root_members(roots: Mapping[int, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the newest root document, and the versions that lead to it from the first."""
    if roots:
        yield ROOT_MEMBER, roots[max(roots)]
    for version in sorted(roots)[-ROOT_VERSIONS_MAX:]:
        if version > 1:
            yield ROOT_VERSION_MEMBER.format(version=version), roots[version]


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """Provide a bundle's archive; everything wrong with its form is an ``InputFileError``."""
    hint = "A bundle is what `edgepick bundle build` writes."
    try:
        with tarfile.open(path, mode="r:", tarinfo=PlainFile) as archive:
            yield archive
    except OSError as error:
        raise InputFileError(f"{path}: {(error.strerror or 'cannot be read').lower()}", hint=hint) from error
    except WireError as error:
        raise InputFileError(f"{path}: {error}", hint=hint) from error
    except (tarfile.TarError, OverflowError, ValueError) as error:  # the last two: lengths of many digits
        raise InputFileError(f"{path}: not a bundle: {error}", hint=hint) from error


def _stream(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        content = archive.extractfile(name)
    except KeyError as error:
        raise InputFileError(f"{archive.name!s}: not a bundle: {name} is missing") from error
    assert content is not None  # all members are regular files
    return content


def _small(archive: tarfile.TarFile, name: str) -> bytes:
    return _stream(archive, name).read(limits.MAX_PAYLOAD_BYTES + 1)


def _check_fleet(path: Path, manifest: Manifest, trusted: RootDocument) -> None:
    if manifest.fleet != trusted.fleet:
        raise VerificationError(f"{path}: for fleet {manifest.fleet!r}; this host's is {trusted.fleet!r}")


def _check_size(path: Path, archive: tarfile.TarFile, entry: FileEntry) -> None:
    """Refuse what has another size than it should before any of it is read."""
    with suppress(KeyError):
        member = archive.getmember(FILES_PREFIX + entry.name)
        if member.size != entry.size:
            raise VerificationError(
                f"{path}: {entry.name} has {member.size} bytes, the manifest says {entry.size}",
                hint="The bundle is damaged; build or copy it again.",
            )


def _check_file(path: Path, archive: tarfile.TarFile, entry: FileEntry) -> None:
    found = hashlib.sha256()
    _check_size(path, archive, entry)
    with _stream(archive, FILES_PREFIX + entry.name) as content:
        while block := content.read(BLOCK_BYTES):
            found.update(block)
    if found.hexdigest() != entry.sha256:
        raise VerificationError(
            f"{path}: {entry.name} has SHA-256 {found.hexdigest()[:16]}…, the manifest says {entry.sha256[:16]}…",
            hint="The bundle is damaged; build or copy it again.",
        )
