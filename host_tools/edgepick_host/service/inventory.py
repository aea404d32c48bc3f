"""What a broker keeps of the releases, and who needs each of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from edgepick_host.core.records import Release
from edgepick_host.ports import Broker, HostStore
from edgepick_host.service.pruner import needed_releases
from edgepick_wire import envelope, topics
from edgepick_wire.errors import WireError
from edgepick_wire.manifest import Manifest, parse_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A release that the broker keeps.

    Attributes:
        size_bytes: All its files together, as devices have them.
        chunks: Chunks of every form of them that is published, without those of their indexes; one that it shares
            with another release counts for both.
        needed_by: Who needs it, in words; empty if it may be pruned.
    """

    model: str
    version: str
    variant: str
    manifest: str
    size_bytes: int
    chunks: int
    needed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything that one broker keeps; ``chunks`` are all that were given to it and not cleared."""

    blobs: tuple[Blob, ...]
    chunks: int


def inventory(*, fleet: str, broker: Broker, place: str, store: HostStore) -> Inventory:
    """Return the releases whose manifest the broker ``place`` (``host:port``) still keeps, oldest first.

    Raises:
        UnreachableError: No broker.
    """
    releases = store.releases()
    kept = broker.retained([topics.manifest(fleet, release.manifest) for release in releases])
    newest = {release.manifest for release in needed_releases(releases, "")}
    blobs = [
        _blob(
            release, content, (*_needed_by(store, release), *(["newest version"] if release.manifest in newest else []))
        )
        for release in releases
        if (content := _content(kept.get(topics.manifest(fleet, release.manifest)))) is not None
    ]
    return Inventory(blobs=tuple(blobs), chunks=len(store.known_chunks(place)))


def _content(signed: bytes | None) -> Manifest | None:
    try:
        return parse_manifest(envelope.unpack(signed).payload) if signed else None
    except WireError:
        return None  # Foreign bytes on a manifest's topic are no release of ours.


def _blob(release: Release, content: Manifest, needed_by: tuple[str, ...]) -> Blob:
    return Blob(
        model=release.model,
        version=release.version,
        variant=release.variant,
        manifest=release.manifest,
        size_bytes=content.size,
        chunks=sum(form.chunks for form in content.published),
        needed_by=needed_by,
    )


def _needed_by(store: HostStore, release: Release) -> Iterator[str]:
    for desired in store.all_desired():
        for assignment in desired.models:
            if assignment.active == release.manifest:
                yield f"{desired.target_kind} {desired.target} runs it"
            if any(request.manifest == release.manifest for request in assignment.measure):
                yield f"{desired.target_kind} {desired.target} measures it"
            if assignment.shadow is not None and assignment.shadow.manifest == release.manifest:
                yield f"{desired.target_kind} {desired.target} shadows with it"
    for name, document in store.rollouts():
        if release.manifest in document.decode():
            yield f"rollout {name}"
