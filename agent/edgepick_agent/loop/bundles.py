"""The store of bundles on top of the Storage port: survey, complete, check, and clean up.

Everything here can be interrupted anywhere and done again: a bundle counts only once its signed
manifest lies beside its files, which is written last.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from edgepick_agent.core import places
from edgepick_agent.core.admission import label_of, no_space
from edgepick_agent.core.effects import StoreBundle, TakeSurvey
from edgepick_agent.core.events import BundleStored, FileSurvey, Holding, SlotsChecked, Survey, Way
from edgepick_agent.errors import RefusedError, StorageFullError
from edgepick_agent.ports import BundleReader, Decode, Storage, UndecodedError
from edgepick_wire import envelope
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import Encoding, FileEntry, Manifest, manifest_digest, parse_manifest, split_index
from edgepick_wire.messages import Refusal

READ_BYTES = 1024 * 1024


class Bundles:
    """The bundles of one device."""

    def __init__(self, storage: Storage, reader: BundleReader, decode: Decode | None = None) -> None:
        self._storage = storage
        self._reader = reader
        self._decode = decode

    # --- what is there ---

    def manifest(self, digest: str) -> bytes | None:
        """Return the signed manifest of a complete bundle."""
        return self._storage.read(places.manifest_file(digest))

    def survey(self, asked: TakeSurvey) -> Survey:
        """Return what there is of a bundle; a file in its place with the wrong content is removed."""
        files = tuple(self._survey_file(asked, entry) for entry in asked.content.files)
        return Survey(manifest=asked.manifest, files=files, free_bytes=self._storage.free_bytes())

    def _survey_file(self, asked: TakeSurvey, entry: FileEntry) -> FileSurvey:
        digest = asked.manifest
        place = places.bundle_file(digest, entry.name)
        if self._is(place, entry):
            return FileSurvey(name=entry.name, holding=Holding.COMPLETE)
        if self._storage.size(place) is not None:
            self._storage.remove(place)
        source = self._elsewhere(digest, entry)
        if source is not None:
            return FileSurvey(name=entry.name, holding=Holding.ELSEWHERE, source=source)
        way = self._way(asked, entry) if self._decode is not None else None
        if way is None:
            return self._partial(entry.name, entry)
        decoded = self._storage.size(places.part(entry.sha256)) == entry.size
        return replace(self._partial(entry.name, way.encoding), way=way, decoded=decoded)

    def _way(self, asked: TakeSurvey, entry: FileEntry) -> Way | None:
        """Return the smallest way that this device can go, unless the file itself is smaller."""
        known = (e for e in entry.encodings if e.algorithm in asked.algorithms and e.sha256 not in asked.avoid)
        for encoding in sorted(known, key=lambda e: e.size):
            base = self._find(encoding.base) if encoding.base is not None else None
            if encoding.size < entry.size and (encoding.base is None or base is not None):
                return Way(name=entry.name, encoding=encoding, base=base)
        return None

    def _is(self, name: str, entry: FileEntry | Encoding) -> bool:
        return self._storage.size(name) == entry.size and self._sha256(name) == entry.sha256

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        for piece in self._pieces(name):
            digest.update(piece)
        return digest.hexdigest()

    def _pieces(self, name: str) -> Iterator[bytes]:
        offset = 0
        while piece := self._storage.read_at(name, offset, READ_BYTES):
            yield piece
            offset += len(piece)

    def _elsewhere(self, digest: str, entry: FileEntry) -> str | None:
        return self._find(entry.sha256, but=digest)

    def _find(self, sha256: str, *, but: str | None = None) -> str | None:
        """Return where a stored bundle holds the file with this digest; its content has been checked."""
        for other in self._storage.names(places.STORE):
            content = self._stored(other) if other != but else None
            for candidate in content.files if content else ():
                name = places.bundle_file(other, candidate.name)
                if candidate.sha256 == sha256 and self._is(name, candidate):
                    return name
        return None

    def _stored(self, digest: str) -> Manifest | None:
        raw = self.manifest(digest)
        if raw is None:
            return None
        try:
            payload = envelope.unpack(raw).payload
            return parse_manifest(payload) if manifest_digest(payload) == digest else None
        except WireError:
            return None

    def _partial(self, name: str, entry: FileEntry | Encoding) -> FileSurvey:
        index_present = self._chunks_in(places.index(entry.sha256), entry.index_size, entry.chunk_size, entry.index)
        known = index_present == frozenset(entry.index)
        index = self._storage.read(places.index(entry.sha256)) if known else None
        part = places.part(entry.sha256)
        present = self._chunks_in(part, entry.size, entry.chunk_size, split_index(index)) if index else frozenset()
        return FileSurvey(
            name=name,
            holding=Holding.PARTIAL,
            index=index,
            index_present=index_present,
            present=present,
            reserved=self._storage.size(part) == entry.size,
        )

    def _chunks_in(self, name: str, size: int, chunk_size: int, digests: tuple[str, ...]) -> frozenset[str]:
        """Return the chunks that are wholly and everywhere in place; what the file says decides, no bookkeeping."""
        if self._storage.size(name) != size:
            return frozenset()
        good: set[str] = set()
        bad: set[str] = set()
        for position, digest in enumerate(digests):
            data = self._storage.read_at(name, position * chunk_size, min(chunk_size, size - position * chunk_size))
            (good if digest_of(data) == digest else bad).add(digest)
        return frozenset(good - bad)

    # --- completing ---

    def store(self, asked: StoreBundle) -> BundleStored:
        """Decode, move every file into its place and the manifest after them; tell which files are bad."""
        digest, entries = asked.manifest, {entry.name: entry for entry in asked.content.files}
        useless = tuple(w.encoding for w in asked.ways if not self._decoded(entries[w.name], w))
        if useless:
            self._forget(useless)
            return BundleStored(digest, undecoded=tuple(encoding.sha256 for encoding in useless))
        bad = tuple(entry.name for entry in asked.content.files if not self._settle(digest, entry))
        if bad:
            self._remove_bundle(digest)
        else:
            self._storage.write(places.manifest_file(digest), asked.raw)
        self._forget(way.encoding for way in asked.ways)
        return BundleStored(digest, bad)

    def _decoded(self, entry: FileEntry, way: Way) -> bool:
        """Return whether the file that a way leads to is there, by its digest: the decoder is not trusted."""
        part, encoded = places.part(entry.sha256), places.part(way.encoding.sha256)
        if self._is(part, entry):
            return True
        if self._decode is None or not self._is(encoded, way.encoding):
            return False
        self._storage.reserve(part, entry.size)
        path, base = self._storage.path, way.base
        try:
            made = self._decode(
                way.encoding.algorithm, entry.size, path(encoded), path(base) if base is not None else None
            )
            self._fill(part, entry.size, made)
        except UndecodedError:
            return False
        return self._is(part, entry)

    def _fill(self, name: str, size: int, made: Iterator[bytes]) -> None:
        offset = 0
        for piece in made:
            if offset + len(piece) > size:
                return
            self._storage.write_at(name, offset, piece)
            offset += len(piece)

    def _forget(self, encodings: Iterable[Encoding]) -> None:
        for encoding in encodings:
            self._storage.remove(places.part(encoding.sha256))
            self._storage.remove(places.index(encoding.sha256))

    def _settle(self, digest: str, entry: FileEntry) -> bool:
        place, part = places.bundle_file(digest, entry.name), places.part(entry.sha256)
        if self._is(place, entry):
            return True
        if self._storage.size(part) is None:
            return self._settle_twin(digest, entry)
        self._storage.sync(part)
        if not self._is(part, entry):
            return False
        self._storage.move(part, place)
        self._storage.remove(places.index(entry.sha256))
        return True

    def _settle_twin(self, digest: str, entry: FileEntry) -> bool:
        """Link a file whose content is also another file's of the same bundle, which was moved before it."""
        folder = f"{places.bundle(digest)}/files"
        names = (f"{folder}/{name}" for name in self._storage.names(folder))
        twin = next((name for name in names if self._is(name, entry)), None)
        if twin is not None:
            self._storage.link(twin, places.bundle_file(digest, entry.name))
        return twin is not None

    def extract(self, content: Manifest, path: str) -> Refusal | None:
        """Copy the files of a bundle file to where downloads lie; return why not, if not."""
        try:
            wanted = {entry.name: entry for entry in content.files}
            for name, size, pieces in self._reader.files(path):
                entry = wanted.get(name)
                if entry is not None and entry.size == size:
                    self._copy(entry, pieces)
        except RefusedError as error:
            return error.refusal
        except StorageFullError:
            self.discard(content)
            return no_space(label_of(content), content.size)
        return None

    def _copy(self, entry: FileEntry, pieces: Iterator[bytes]) -> None:
        part, offset = places.part(entry.sha256), 0
        self._storage.reserve(part, entry.size)
        for piece in pieces:
            self._storage.write_at(part, offset, piece)
            offset += len(piece)

    def opened(self, path: str) -> tuple[bytes, tuple[bytes, ...]] | Refusal:
        """Return the signed manifest of a bundle file and the root documents in it, or why it is not one."""
        try:
            return self._reader.manifest(path), self._reader.roots(path)
        except RefusedError as error:
            return error.refusal

    # --- checking and cleaning up ---

    def check(self, digests: tuple[str, ...]) -> SlotsChecked:
        """Return the manifests of sound bundles, and what ails the others."""
        sound: dict[str, Manifest] = {}
        broken: dict[str, str] = {}
        for digest in digests:
            verdict = self._checked(digest)
            if isinstance(verdict, Manifest):
                sound[digest] = verdict
            else:
                broken[digest] = verdict
        return SlotsChecked(sound, broken)

    def _checked(self, digest: str) -> Manifest | str:
        content = self._stored(digest)
        if content is None:
            return "its manifest is missing or damaged"
        bad = [e.name for e in content.files if not self._is(places.bundle_file(digest, e.name), e)]
        return f"wrong or missing: {', '.join(bad)}" if bad else content

    def complete(self) -> dict[str, Manifest]:
        """Return the manifests of all bundles in the store that are whole."""
        return dict(self.check(tuple(self._storage.names(places.STORE))).sound)

    def discard(self, content: Manifest) -> None:
        """Remove what was fetched of a bundle."""
        for digest in sorted(content.downloads):
            self._storage.remove(places.part(digest))
            self._storage.remove(places.index(digest))

    def collect(self, keep_bundles: frozenset[str] | None, keep_downloads: frozenset[str] | None) -> None:
        """Remove bundles and downloads that are not among these; ``None`` keeps all of a kind."""
        for digest in self._storage.names(places.STORE) if keep_bundles is not None else ():
            if keep_bundles is not None and digest not in keep_bundles:
                self._remove_bundle(digest)
        for name in self._storage.names(places.DOWNLOADS) if keep_downloads is not None else ():
            if keep_downloads is not None and name.partition(".")[0] not in keep_downloads:
                self._storage.remove(f"{places.DOWNLOADS}/{name}")

    def _remove_bundle(self, digest: str) -> None:
        self._storage.remove(places.manifest_file(digest))
        self._storage.remove(places.bundle(digest))
