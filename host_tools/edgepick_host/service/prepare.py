"""What a publication consists of, read from disk and checked before anything leaves the host."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgepick_host.core.chunking import ChunkedFile, describe
from edgepick_host.core.records import Release
from edgepick_host.core.release import (
    GOLDEN_FILE,
    build_manifest,
    build_release,
    content_label,
    model_file_name,
    ranked,
)
from edgepick_host.core.variants import VARIANTS_FILE, VARIANTS_SCHEMA, Variant, VariantSet
from edgepick_host.errors import InputFileError, VerificationError
from edgepick_profiles.schema import Profile
from edgepick_wire import codec, limits
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import Manifest, ModelFormat, RuntimeChoice, manifest_digest

FindProfile = Callable[[str], Profile]
"""``(name) -> profile``; raises ``ProfileError`` for a name that it does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file on disk and how it travels."""

    path: Path
    chunked: ChunkedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One file of one variant, over all its versions; ``profiles`` are the kinds of device that will fetch it."""

    model: str
    variant: str
    name: str
    profiles: tuple[str, ...] = ()


Forms = tuple[SourceFile, tuple[SourceFile, ...]]
"""A file whose entry names its encoded forms, and those forms."""

FindForms = Callable[[Slot, SourceFile], Forms]
"""``(slot, file) -> its forms``."""


def only_plain(_slot: Slot, source: SourceFile) -> Forms:
    """Return a file without encoded forms."""
    return source, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRelease:
    """One variant, ready to be signed.

    Attributes:
        manifest: What will be signed.
        payload: Its exact bytes.
        release: The record for the store.
        files: Its files, in the manifest's order.
        encoded: Their encoded forms, of which some are published instead of the file.
    """

    manifest: Manifest
    payload: bytes
    release: Release
    files: tuple[SourceFile, ...]
    encoded: tuple[SourceFile, ...] = ()

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """Everything whose chunks are published."""
        own = tuple(f for f in self.files if self.manifest.has_own_chunks(f.chunked.entry))
        return own + self.encoded

    @property
    def digest(self) -> str:
        """Digest of the manifest: the release's identity."""
        return self.release.manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which part of a directory of variants, and under which label.

    Attributes:
        fleet: The fleet to publish to.
        security_epoch: Epoch of the manifests.
        version: Label for people; ``None`` derives one from the content.
        profiles: Only for these; empty for all that the variants were made for.
        variants: Only these; empty for those on the Pareto front of one of the profiles.
        everything: Publish also what another variant beats in every respect.
        chunk_size: Bytes per chunk.
        plain: Files as they are only, without encoded forms.
        upload: Most that is uploaded of a file, in sizes of that file; ``None`` for what it was before, else 1.05.
        sources: URL templates under which devices may find the files too.
    """

    fleet: str
    security_epoch: int = 0
    version: str | None = None
    profiles: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    everything: bool = False
    chunk_size: int = limits.CHUNK_BYTES
    plain: bool = False
    upload: float | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What will be published: best first by the host's own figures.

    Attributes:
        model: Name of the model.
        version: Label.
        profiles: Kinds of device that will be told.
        releases: The variants.
        order: For each profile its manifests, best first.
    """

    model: str
    version: str
    profiles: tuple[str, ...]
    releases: tuple[PreparedRelease, ...]
    order: Mapping[str, tuple[str, ...]]


def read_variants(folder: Path) -> VariantSet:
    """Return the content of ``folder/variants.json``.

    Raises:
        InputFileError: Not there, or not what it should be; the field is named.
    """
    path = folder / VARIANTS_FILE
    hint = f"Give the directory that `edgepick compress --out` wrote; it holds {VARIANTS_FILE}."
    try:
        found = codec.decode_document(VariantSet, path.read_bytes())
    except OSError as error:
        raise InputFileError(f"{path}: {(error.strerror or 'cannot be read').lower()}", hint=hint) from error
    except WireError as error:
        raise InputFileError(f"{path}: {error}", hint=hint) from error
    if found.schema != VARIANTS_SCHEMA:
        raise InputFileError(f"{path}: schema {found.schema}, this edgepick reads {VARIANTS_SCHEMA}", hint=hint)
    return found


def prepare(
    folder: Path,
    selection: Selection,
    find_profile: FindProfile,
    *,
    now: float,
    find_forms: FindForms = only_plain,
) -> Prepared:
    """Return what publishing ``folder`` would publish; every file has been read and checked.

    Raises:
        InputFileError: A file, variant or profile is missing or malformed.
        VerificationError: A model file is not the one that ``variants.json`` names.
        ProfileError: A profile is unknown or wrong.
    """
    variants = read_variants(folder)
    profiles = _chosen("profile", selection.profiles, variants.profiles, folder)
    chosen = _chosen_variants(selection, variants, profiles, folder)
    best_first = [v for v in ranked(variants) if v.name in chosen and set(v.profiles) & set(profiles)]
    if not best_first:
        raise InputFileError(
            f"{folder}: no variant is left to publish", hint="`edgepick compress` says why each candidate was rejected."
        )
    golden = _source(folder, variants.golden, GOLDEN_FILE, selection.chunk_size)
    version = selection.version or content_label(variants)
    make = _Maker(
        folder=folder,
        variants=variants,
        version=version,
        selection=selection,
        golden=golden,
        find_forms=only_plain if selection.plain else find_forms,
        now=now,
    )
    releases = tuple(make.release(v, [find_profile(p) for p in v.profiles], rank) for rank, v in enumerate(best_first))
    return Prepared(
        model=variants.model,
        version=version,
        profiles=tuple(p for p in profiles if any(p in r.manifest.profiles for r in releases)),
        releases=releases,
        order={p: _order(variants, p, releases) for p in profiles},
    )


def prepare_file(
    path: Path,
    *,
    fleet: str,
    model: str,
    version: str,
    profiles: Sequence[str],
    runtimes: Sequence[RuntimeChoice],
    kind: ModelFormat = ModelFormat.TFLITE,
    security_epoch: int = 0,
    chunk_size: int = limits.CHUNK_BYTES,
    now: float = 0.0,
) -> Prepared:
    """Return one file as a release of its own, without a self-test: a model from elsewhere, or a transfer test.

    Raises:
        InputFileError: The file cannot be read, is empty or too large.
    """
    source = _source(path.parent, path.name, model_file_name(kind), chunk_size)
    manifest = Manifest(
        fleet=fleet,
        model=model,
        version=version,
        variant="file",
        security_epoch=security_epoch,
        profiles=tuple(profiles),
        format=kind,
        runtimes=tuple(runtimes),
        model_file=source.chunked.entry.name,
        files=(source.chunked.entry,),
    )
    payload = codec.encode(manifest)
    release = Release(
        model=model,
        version=version,
        variant=manifest.variant,
        manifest=manifest_digest(payload),
        profiles=manifest.profiles,
        size_bytes=source.chunked.entry.size,
        security_epoch=security_epoch,
        accuracy=None,
        accuracy_drop=None,
        rank=0,
        published_at=now,
    )
    prepared = PreparedRelease(manifest=manifest, payload=payload, release=release, files=(source,))
    order = dict.fromkeys(profiles, (release.manifest,))
    return Prepared(model=model, version=version, profiles=tuple(profiles), releases=(prepared,), order=order)


def read_chunks(source: SourceFile) -> Iterator[tuple[str, bytes]]:
    """Yield ``(digest, chunk)`` in file order, one chunk in memory at a time.

    Raises:
        VerificationError: The file is no longer what it was when it was prepared.
    """
    with source.path.open("rb") as file:
        for digest in source.chunked.chunks:
            chunk = file.read(source.chunked.entry.chunk_size)
            if digest_of(chunk) != digest:
                raise VerificationError(
                    f"{source.path}: changed while it was being published", hint="Run the command again."
                )
            yield digest, chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    folder: Path
    variants: VariantSet
    version: str
    selection: Selection
    golden: SourceFile
    find_forms: FindForms
    now: float

    def release(self, variant: Variant, profiles: Sequence[Profile], rank: int) -> PreparedRelease:
        place = f"{variant.folder}/{variant.file}"
        model = _source(self.folder, place, model_file_name(variant.recipe.format), self.selection.chunk_size)
        _check_digest(model, variant)
        forms = [self._forms(variant, source) for source in (model, self.golden)]
        files = tuple(source for source, _ in forms)
        manifest = self._manifest(variant, profiles, files)
        payload = codec.encode(manifest)
        digest = manifest_digest(payload)
        record = build_release(manifest, digest, variant, rank=rank, published_at=self.now)
        encoded = tuple(form for _, encoded in forms for form in encoded)
        return PreparedRelease(manifest=manifest, payload=payload, release=record, files=files, encoded=encoded)

    def _forms(self, variant: Variant, source: SourceFile) -> Forms:
        name = source.chunked.entry.name
        slot = Slot(model=self.variants.model, variant=variant.name, name=name, profiles=variant.profiles)
        return self.find_forms(slot, source)

    def _manifest(self, variant: Variant, profiles: Sequence[Profile], files: Sequence[SourceFile]) -> Manifest:
        try:
            return build_manifest(
                variant,
                fleet=self.selection.fleet,
                variants=self.variants,
                version=self.version,
                security_epoch=self.selection.security_epoch,
                files=[f.chunked.entry for f in files],
                profiles=profiles,
                sources=self.selection.sources,
            )
        except WireError as error:
            raise InputFileError(f"{self.folder / VARIANTS_FILE}: variant {variant.name!r}: {error}") from error


def _check_digest(model: SourceFile, variant: Variant) -> None:
    if model.chunked.entry.sha256 != variant.sha256:
        raise VerificationError(
            f"{model.path}: SHA-256 is {model.chunked.entry.sha256[:16]}…, {VARIANTS_FILE} says {variant.sha256[:16]}…",
            hint="The file was changed after `edgepick compress` wrote it; compress again.",
        )


def _chosen_variants(
    selection: Selection, variants: VariantSet, profiles: Sequence[str], folder: Path
) -> tuple[str, ...]:
    """Return the names to publish: devices measure each of them, so what cannot win stays at home."""
    every = [v.name for v in variants.variants]
    front = tuple(v.name for v in variants.variants if set(v.pareto) & set(profiles))
    asked = _chosen("variant", selection.variants, every, folder)
    return front if front and not selection.variants and not selection.everything else asked


def _chosen(what: str, asked: Sequence[str], available: Sequence[str], folder: Path) -> tuple[str, ...]:
    unknown = [name for name in asked if name not in available]
    if unknown:
        raise InputFileError(
            f"{folder / VARIANTS_FILE}: no {what} {', '.join(map(repr, unknown))}; there are {', '.join(available)}",
            hint=f"Name one of these with --{what}, or compress again.",
        )
    return tuple(asked) or tuple(available)


def _order(variants: VariantSet, profile: str, releases: Sequence[PreparedRelease]) -> tuple[str, ...]:
    digests = {r.manifest.variant: r.digest for r in releases}
    return tuple(digests[v.name] for v in ranked(variants, profile=profile) if v.name in digests)


def _source(folder: Path, place: str, name: str, chunk_size: int) -> SourceFile:
    inside = PurePosixPath(place)
    if inside.is_absolute() or ".." in inside.parts:
        raise InputFileError(f"{folder / VARIANTS_FILE}: {place!r} leads out of the directory")
    path = folder / inside
    try:
        with path.open("rb") as file:
            chunked = describe(name, iter(lambda: file.read(chunk_size), b""), chunk_size=chunk_size)
    except OSError as error:
        raise InputFileError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except WireError as error:
        raise InputFileError(f"{path}: {error}") from error
    return SourceFile(path=path, chunked=chunked)
