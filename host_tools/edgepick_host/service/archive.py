"""The files that this host has published, kept so that later versions can travel as differences to them.

    files/<sha256>      a published file, or an encoded form of one
    slots/<key>.json    which files were published as one file of one variant, newest last
    memos/<key>.json    how such a file travels: publishing it again is the same manifest

Bounded: of each file of each variant the last :data:`KEPT` contents stay, with their encoded forms, and what
devices report to run. Losing the folder costs bytes on the network and nothing else. Every file appears whole
or not at all.

Which forms are made is a matter of what their upload costs: one complete form always, the compressed one if it
saves something and every device can decode it; then differences, as long as all forms together stay within
the budget.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from edgepick_host.core import delta
from edgepick_host.core.chunking import ChunkedFile, cut, describe
from edgepick_host.core.delta import Encoded, FindTensors
from edgepick_host.errors import StateError
from edgepick_host.service.prepare import Forms, Prepared, Slot, SourceFile
from edgepick_host.service.recipients import Recipients
from edgepick_wire import codec
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import DIGEST_BYTES, ZSTD, Encoding, FileEntry, chunk_count

KEPT = 3
"""Contents kept per file of a variant: what a device runs, the one before, and one that was skipped."""
UPLOAD = 1.05
"""Most that is uploaded of a file unless somebody says otherwise, in sizes of that file, indexes included."""
BLOCK_BYTES = 1024 * 1024
LARGEST_BYTES = 256 * 1024 * 1024
"""Larger files travel as they are: encoding holds a file, its base and the result in memory."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """Digests of what was published in one slot, newest last."""

    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memo:
    """How one file travels, and the budget that its forms were chosen within."""

    file: str
    upload: float
    encodings: tuple[Encoding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The folder, and what is known about model files and about those who fetch them.

    Attributes:
        recipients: What devices run is what differences are made to; if none has reported, what was published last.
        upload: Most that is uploaded of a file, in sizes of that file; ``None`` for what it was made with before,
            else :data:`UPLOAD`.
        remember: Write encoded forms down; without it nothing on disk changes, and nothing can be sent.
    """

    folder: Path
    find_tensors: FindTensors
    recipients: Recipients = field(default_factory=Recipients)
    upload: float | None = None
    remember: bool = True

    def forms(self, slot: Slot, source: SourceFile) -> Forms:
        """Return a file with its encoded forms: as it was published before, or else those worth their upload.

        Raises:
            StateError: The folder cannot be written.
        """
        try:
            known = self._remembered(slot, source)
            return known if known is not None else self._made(slot, source)
        except OSError as error:
            raise StateError(f"{self.folder}: {(error.strerror or 'cannot be written').lower()}") from error

    def keep(self, prepared: Prepared) -> None:
        """Keep what was published as a base for what comes later, and forget what is too old.

        Raises:
            StateError: The folder cannot be written.
        """
        try:
            for release in prepared.releases:
                for source in release.files:
                    slot = Slot(model=prepared.model, variant=release.manifest.variant, name=source.chunked.entry.name)
                    self._keep(slot, source)
            self._forget()
        except OSError as error:
            raise StateError(f"{self.folder}: {(error.strerror or 'cannot be written').lower()}") from error

    # --- forms ---

    def _remembered(self, slot: Slot, source: SourceFile) -> Forms | None:
        memo = _read(_Memo, self._memo(slot, source))
        if memo is None or memo.file != source.chunked.entry.sha256 or not self._suits(memo, slot):
            return None
        paths = [self._file(encoding.sha256) for encoding in memo.encodings]
        if not all(path.exists() for path in paths):
            return None
        pairs = zip(memo.encodings, paths, strict=True)
        found = [SourceFile(path=path, chunked=_chunked(path.read_bytes(), e.chunk_size)) for e, path in pairs]
        wanted = [e.sha256 for e in memo.encodings]
        return _with(source, memo.encodings, found) if [f.chunked.entry.sha256 for f in found] == wanted else None

    def _suits(self, memo: _Memo, slot: Slot) -> bool:
        """Return whether the budget is the same, and nobody has turned up since who could take none of the forms."""
        compressed = any(encoding.base is None for encoding in memo.encodings)
        return self.upload in (None, memo.upload) and (not compressed or self.recipients.all_decode(slot, ZSTD))

    def _made(self, slot: Slot, source: SourceFile) -> Forms:
        entry = source.chunked.entry
        made = self._encoded(slot, source) if entry.size <= LARGEST_BYTES else []
        sources = [
            SourceFile(path=self._file(digest_of(form.data)), chunked=_chunked(form.data, entry.chunk_size))
            for form, _ in made
        ]
        encodings = tuple(_encoding(form, base, s.chunked.entry) for (form, base), s in zip(made, sources, strict=True))
        if self.remember:
            for (form, _), each in zip(made, sources, strict=True):
                _write(each.path, form.data)
            memo = _Memo(file=entry.sha256, upload=self._upload, encodings=encodings)
            _write(self._memo(slot, source), codec.encode_document(memo, indent=1))
        return _with(source, encodings, sources)

    @property
    def _upload(self) -> float:
        return UPLOAD if self.upload is None else self.upload

    def _encoded(self, slot: Slot, source: SourceFile) -> list[tuple[Encoded, str | None]]:
        target, entry = source.path.read_bytes(), source.chunked.entry
        whole = delta.compressed(target) if self.recipients.all_decode(slot, ZSTD) else None
        below = len(whole.data) if whole is not None else len(target)
        left = self._upload * len(target) - _sent_bytes(below, entry.chunk_size)
        found: list[tuple[Encoded, str | None]] = [(whole, None)] if whole is not None else []
        for digest, base in self._bases(slot) if left > 0 else ():
            made = delta.difference(target, base, self.find_tensors, below=below)
            if made is not None and _sent_bytes(len(made.data), entry.chunk_size) <= left:
                found.append((made, digest))
                left -= _sent_bytes(len(made.data), entry.chunk_size)
        return found

    def _bases(self, slot: Slot) -> Iterator[tuple[str, bytes]]:
        """Yield what devices may have, most likely first."""
        published = _read(_Published, self._slot(slot)) or _Published()
        for digest in (self.recipients.bases(slot) or published.files[::-1])[:KEPT]:
            path = self._file(digest)
            data = path.read_bytes() if path.exists() else b""
            if digest_of(data) == digest:
                yield digest, data

    # --- keeping ---

    def _keep(self, slot: Slot, source: SourceFile) -> None:
        digest = source.chunked.entry.sha256
        if source.chunked.entry.size > LARGEST_BYTES:
            return
        if not self._file(digest).exists():
            with source.path.open("rb") as file:
                _write_blocks(self._file(digest), iter(lambda: file.read(BLOCK_BYTES), b""))
        before = _read(_Published, self._slot(slot)) or _Published()
        files = (*(d for d in before.files if d != digest), digest)[-KEPT:]
        _write(self._slot(slot), codec.encode_document(_Published(files=files), indent=1))

    def _forget(self) -> None:
        slots = [_read(_Published, path) for path in _listed(self.folder / "slots")]
        kept = {digest for slot in slots if slot is not None for digest in slot.files} | self.recipients.in_use()
        for path in _listed(self.folder / "memos"):
            memo = _read(_Memo, path)
            if memo is not None and memo.file in kept:
                kept |= {encoding.sha256 for encoding in memo.encodings}
            else:
                path.unlink()
        for path in _listed(self.folder / "files"):
            if path.name not in kept:
                path.unlink()

    def _file(self, digest: str) -> Path:
        return self.folder / "files" / digest

    def _slot(self, slot: Slot) -> Path:
        return self.folder / "slots" / f"{_key(slot.model, slot.variant, slot.name)}.json"

    def _memo(self, slot: Slot, source: SourceFile) -> Path:
        entry = source.chunked.entry
        key = _key(slot.model, slot.variant, slot.name, entry.sha256, str(entry.chunk_size))
        return self.folder / "memos" / f"{key}.json"


def _key(*parts: str) -> str:
    return digest_of("\n".join(parts).encode())[:32]


def _chunked(data: bytes, chunk_size: int) -> ChunkedFile:
    return describe("encoded", cut(data, chunk_size), chunk_size=chunk_size)


def _sent_bytes(size: int, chunk_size: int) -> int:
    """Return what publishing ``size`` bytes takes, with the index of their chunks."""
    return size + DIGEST_BYTES * chunk_count(size, chunk_size)


def _encoding(made: Encoded, base: str | None, entry: FileEntry) -> Encoding:
    return Encoding(
        algorithm=made.algorithm,
        size=entry.size,
        sha256=entry.sha256,
        chunk_size=entry.chunk_size,
        index=entry.index,
        base=base,
        window_bytes=made.window_bytes,
    )


def _with(source: SourceFile, encodings: tuple[Encoding, ...], sources: Sequence[SourceFile]) -> Forms:
    chunked = replace(source.chunked, entry=replace(source.chunked.entry, encodings=encodings))
    return replace(source, chunked=chunked), tuple(sources)


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _read(kind: type[T], path: Path) -> T | None:
    """Return what was written down; a damaged note is as good as none."""
    try:
        return codec.decode_document(kind, path.read_bytes())
    except (FileNotFoundError, WireError):
        return None


def _write(path: Path, data: bytes) -> None:
    _write_blocks(path, [data])


def _write_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
