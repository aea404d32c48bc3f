"""Clears from the broker what nothing needs any more: manifests, and chunks that only they used.

A release is needed while a desired state names it (to run, to measure or to shadow), while a rollout's record
mentions it, or while it is of the newest version of its model. Everything is decided before anything
is cleared; a chunk that a needed release shares with another stays, and so does what a publication under way needs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgepick_host.core.records import Release
from edgepick_host.errors import StateError
from edgepick_host.ports import Broker, Clock, HostStore, Store
from edgepick_host.service.claims import Clearing
from edgepick_wire import codec, envelope, topics
from edgepick_wire.manifest import Encoding, FileEntry, parse_manifest, split_index

BATCH = 256
"""Chunks that are cleared and forgotten together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was cleared (or, in a dry run, would be).

    Attributes:
        releases: Releases whose manifest was cleared; publishing them again brings them back.
        chunks: Chunks that were cleared.
        kept: Chunks that stay.
    """

    releases: tuple[Release, ...]
    chunks: int
    kept: int
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruner:
    """Clears one broker, for one fleet; ``place`` is its ``host:port``."""

    fleet: str
    broker: Broker
    place: str
    store: HostStore
    clock: Clock

    def prune(self, *, dry_run: bool = False) -> Pruned:
        """Return what was cleared, every message of it acknowledged.

        Raises:
            StateError: The broker lacks the index of a release that is needed: publish that again first.
            BusyError: Another ``prune`` of this broker is at work.
            UnreachableError: The broker went away; run it again.
        """
        clearing = Clearing(self.store, self.clock, self.place)
        if dry_run:
            return self._prune(clearing.needed(), dry_run=True, go_on=lambda: None)
        with clearing.alone() as spared:
            return self._prune(spared, dry_run=False, go_on=clearing.go_on)

    def _prune(self, spared: frozenset[str], *, dry_run: bool, go_on: Callable[[], None]) -> Pruned:
        releases = self.store.releases()
        needed = needed_releases(releases, mentioned(self.store))
        doomed = tuple(r for r in releases if r not in needed and r.manifest not in spared)
        wanted = set(spared)
        for release in needed:
            go_on()
            wanted |= self._chunks(release)
        known = self.store.known_chunks(self.place)
        if not dry_run:
            self._clear_manifests(doomed, go_on)
            self._clear_chunks(sorted(known - wanted), go_on)
        return Pruned(releases=doomed, chunks=len(known - wanted), kept=len(known & wanted), dry_run=dry_run)

    def _chunks(self, release: Release) -> set[str]:
        signed = self.store.manifest(release.manifest)
        published = parse_manifest(envelope.unpack(signed).payload).published if signed else ()
        return {digest for form in published for digest in self._chunks_of(release, form)}

    def _chunks_of(self, release: Release, entry: FileEntry | Encoding) -> Sequence[str]:
        places = [topics.chunk(self.fleet, digest) for digest in entry.index]
        found = self.broker.retained(places)
        if len(found) < len(set(places)):
            raise StateError(
                f"broker {self.place} lacks chunks of {release.model} {release.version} {release.variant}, "
                "which is still needed; nothing was cleared",
                hint="Publish that version again with --republish, then prune.",
            )
        return (*entry.index, *split_index(b"".join(found[place] for place in places)))

    def _clear_manifests(self, releases: Iterable[Release], go_on: Callable[[], None]) -> None:
        go_on()
        places = [topics.manifest(self.fleet, release.manifest) for release in releases]
        self.store.set_landmarks(self.place, instead_of=places)  # first: what is cleared is not lost
        self.broker.publish_many(((place, b"") for place in places), on_done=lambda _count: None)

    def _clear_chunks(self, digests: Sequence[str], go_on: Callable[[], None]) -> None:
        for start in range(0, len(digests), BATCH):
            go_on()
            batch = digests[start : start + BATCH]
            places = [topics.chunk(self.fleet, digest) for digest in batch]
            self.store.forget_chunks(self.place, batch)  # first: a chunk too many is sent again, never one too few
            self.store.set_landmarks(self.place, instead_of=self.store.landmarks(self.place).intersection(places))
            self.broker.publish_many(((place, b"") for place in places), on_done=lambda _count: None)


def mentioned(store: Store) -> str:
    """Return everything that names manifests, as one text to search."""
    told = [codec.encode(desired) for desired in store.all_desired()]
    return b" ".join([*told, *(document for _, document in store.rollouts())]).decode()


def needed_releases(releases: Sequence[Release], mentioned: str) -> tuple[Release, ...]:
    """Return the releases that are named in a text or are of the newest version of their model."""
    newest = {r.model: r.version for r in sorted(releases, key=lambda r: r.published_at)}
    return tuple(r for r in releases if r.manifest in mentioned or r.version == newest[r.model])
