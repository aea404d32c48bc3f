"""Publishing: chunks, then manifests, then the root document, then what each target should do.

Rules:
- Everything is retained: the publisher may be gone when a device comes up.
- The order lets no device ever see a manifest whose chunks are not there yet.
- A broker that holds no root document of the fleet, or lacks a landmark (the manifest of what it was given, or
  the last chunk of a publication that broke off), is new or has lost a part of its memory: it is given everything,
  whatever the store remembers.
- What is under way is written down before a chunk is left out or sent, so that ``prune`` spares it.
- A broker that holds another fleet's root document is never written to.
- Where the broker's root document is older, everything that is still wanted is signed again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgepick_host.core.release import AUTO, NONE, Wish, assign, assignment_of
from edgepick_host.errors import InputFileError, StateError
from edgepick_host.ports import Broker, Clock, HostStore, SignDocument
from edgepick_host.service.claims import publishing
from edgepick_host.service.ledger import Ledger, OnTransfer
from edgepick_host.service.prepare import Prepared, PreparedRelease, read_chunks
from edgepick_host.service.succession import Succession
from edgepick_host.service.targets import Target, Targets, ToldTarget, told
from edgepick_wire import envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.messages import TargetKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """What the targets are told.

    Attributes:
        activate: "auto" (the best where nothing runs yet), "none", or the name of a variant.
        measure: Ask for measurements of every variant.
        devices: Tell these devices instead of whole profiles.
        max_bytes: Most bytes over the network that it may take on a device; ``None`` for no limit.
    """

    activate: str = AUTO
    measure: bool = True
    devices: tuple[str, ...] = ()
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVariant:
    """One variant as published.

    Attributes:
        size_bytes: All files of its bundle.
        chunks_new: Different chunks that this broker was given now.
        chunks_known: Different chunks that it had already.
    """

    variant: str
    profiles: tuple[str, ...]
    manifest: str
    size_bytes: int
    chunks_new: int
    chunks_known: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What was published (or, in a dry run, would be; sequences are 0 then)."""

    fleet: str
    model: str
    version: str
    variants: tuple[PublishedVariant, ...]
    targets: tuple[ToldTarget, ...]
    bytes_sent: int
    dry_run: bool = False


def plan_publication(
    prepared: Prepared, activation: Activation, store: HostStore, *, fleet: str, place: str
) -> Publication:
    """Return what publishing would do, as far as the store knows: no broker is asked, nothing is changed.

    Raises:
        InputFileError: ``activation`` names a variant that is not published.
    """
    check_activation(prepared, activation)
    known = store.known_chunks(place)
    foreseen = []
    for target in () if activation.devices else profile_targets(prepared):
        before = assignment_of(store.desired(target.kind, target.name), prepared.model)
        after = assign(before, wish_for(prepared, activation, target))
        foreseen.append(told(target, after, sequence=0, changed=after != before))
    variants = _counted(prepared.releases, known)
    return _publication(prepared, fleet, variants, tuple(foreseen), _new_bytes(prepared.releases, known), dry_run=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Publishes to one broker, for one fleet.

    Attributes:
        fleet: The fleet.
        broker: Connected.
        place: The broker's ``host:port``, under which the store remembers its chunks.
        store: The host's memory.
        sign: Signs manifests and desired state.
        succession: Hands the broker over to the fleet's newest root document.
        targets: Whom to tell.
        clock: Time.
        on_progress: Told after every acknowledged chunk.
    """

    fleet: str
    broker: Broker
    place: str
    store: HostStore
    sign: SignDocument
    succession: Succession
    targets: Targets
    clock: Clock
    on_progress: OnTransfer

    def publish(self, prepared: Prepared, activation: Activation, *, republish: bool = False) -> Publication:
        """Return what was published, every message of it acknowledged by the broker.

        Raises:
            UnreachableError: The broker went away; run it again.
            VerificationError: Another fleet of this name publishes to this broker.
            StateError: A device was never heard of, or the broker's root document is newer.
            BusyError: ``prune`` is clearing this broker.
            InputFileError: ``activation`` names a variant that is not published.
        """
        wishes = self._wishes(prepared, activation)
        signed = [(r, envelope.pack(self.sign(DocumentType.MANIFEST, r.payload))) for r in prepared.releases]
        needed = {digest for r in prepared.releases for digest in (r.digest, *_chunk_sizes(r))}
        with publishing(self.store, self.clock, self.place, needed) as go_on:
            outdated = self._check_memory(forget=republish)
            known = self.store.known_chunks(self.place)
            variants, size = _counted(prepared.releases, known), _new_bytes(prepared.releases, known)
            self._send_chunks(prepared.releases, known, size)
            go_on()
            self._send_manifests(signed)
            self.succession.renew() if outdated else self.succession.publish_roots()
            told_targets = self.targets.tell(wishes)
        return _publication(prepared, self.fleet, variants, told_targets, size)

    def _wishes(self, prepared: Prepared, activation: Activation) -> Mapping[Target, Wish]:
        check_activation(prepared, activation)
        devices = activation.devices
        chosen = self.targets.of_devices(devices) if devices else profile_targets(prepared)
        return {target: wish_for(prepared, activation, target) for target in chosen}

    def _check_memory(self, *, forget: bool) -> bool:
        """Return whether the broker serves an older root document, whose keys may have signed what is wanted."""
        found = self.succession.check()
        if found is None or forget or not self._has_landmarks():
            self.store.forget_chunks(self.place)
        return found is not None and found < self.succession.root.version

    def _has_landmarks(self) -> bool:
        landmarks = self.store.landmarks(self.place)
        return bool(landmarks) and landmarks <= self.broker.retained(sorted(landmarks)).keys()

    def _send_chunks(self, releases: Sequence[PreparedRelease], known: frozenset[str], size: int) -> None:
        ledger = Ledger(self.store, self.place, self.fleet, self.on_progress, size)
        try:
            self.broker.publish_many(self._new_chunks(releases, known, ledger), on_done=ledger.acknowledged)
        finally:
            ledger.write_down()

    def _new_chunks(
        self, releases: Sequence[PreparedRelease], known: frozenset[str], ledger: Ledger
    ) -> Iterator[tuple[str, bytes]]:
        sent = set(known)
        for release in releases:
            for digest, chunk in _all_chunks(release):
                if digest not in sent:
                    sent.add(digest)
                    ledger.sent(release.manifest.variant, digest, len(chunk))
                    yield topics.chunk(self.fleet, digest), chunk

    def _send_manifests(self, signed: Sequence[tuple[PreparedRelease, bytes]]) -> None:
        for release, data in signed:
            self.broker.publish(topics.manifest(self.fleet, release.digest), data, retain=True)
            self.store.save_release(release.release, data)
            self.store.renew_manifest(release.digest, data)
            self._set_landmark(release)

    def _set_landmark(self, release: PreparedRelease) -> None:
        """Have the manifest vouch for its chunks from now on, instead of the last of them."""
        chunks = {topics.chunk(self.fleet, digest) for digest in _chunk_sizes(release)}
        landmark = topics.manifest(self.fleet, release.digest)
        self.store.set_landmarks(self.place, [landmark], instead_of=self.store.landmarks(self.place) & chunks)


def profile_targets(prepared: Prepared) -> tuple[Target, ...]:
    """Return every profile that something is published for."""
    return tuple(Target(kind=TargetKind.PROFILE, name=p, profile=p) for p in prepared.profiles)


def check_activation(prepared: Prepared, activation: Activation) -> None:
    """Refuse to activate a variant that is not published.

    Raises:
        InputFileError: There is none of that name.
    """
    names = [r.manifest.variant for r in prepared.releases]
    if activation.activate not in (AUTO, NONE, *names):
        raise InputFileError(
            f"--activate {activation.activate!r}: no such variant is published; there are {', '.join(names)}",
            hint="Name one of these, or auto or none.",
        )


def wish_for(prepared: Prepared, activation: Activation, target: Target) -> Wish:
    """Return what a target is to be told.

    Raises:
        StateError: Nothing is published for its kind of device.
    """
    order = prepared.order.get(target.profile, ())
    if not order:
        raise StateError(
            f"{target.kind} {target.name!r} is of profile {target.profile}; nothing is published for it",
            hint=f"Published are variants for {', '.join(prepared.profiles)}.",
        )
    forced = [r.digest for r in prepared.releases if r.manifest.variant == activation.activate and r.digest in order]
    return Wish(
        model=prepared.model,
        best=None if activation.activate == NONE else order[0],
        forced=forced[0] if forced else None,
        measure=order if activation.measure else (),
        siblings=frozenset(r.digest for r in prepared.releases),
        max_bytes=activation.max_bytes,
    )


def _publication(
    prepared: Prepared,
    fleet: str,
    variants: tuple[PublishedVariant, ...],
    targets: tuple[ToldTarget, ...],
    size: int,
    *,
    dry_run: bool = False,
) -> Publication:
    return Publication(
        fleet=fleet,
        model=prepared.model,
        version=prepared.version,
        variants=variants,
        targets=targets,
        bytes_sent=size,
        dry_run=dry_run,
    )


def _all_chunks(release: PreparedRelease) -> Iterator[tuple[str, bytes]]:
    for source in release.sources:
        yield from read_chunks(source)
        yield from zip(source.chunked.entry.index, source.chunked.index, strict=True)


def _chunk_sizes(release: PreparedRelease) -> dict[str, int]:
    """Return the different chunks of a release with their sizes, its index included."""
    sizes: dict[str, int] = {}
    for source in release.sources:
        entry = source.chunked.entry
        last = entry.size - (entry.chunks - 1) * entry.chunk_size
        sizes |= dict.fromkeys(source.chunked.chunks[:-1], entry.chunk_size) | {source.chunked.chunks[-1]: last}
        sizes |= {digest: len(part) for digest, part in zip(entry.index, source.chunked.index, strict=True)}
    return sizes


def _counted(releases: Sequence[PreparedRelease], known: frozenset[str]) -> tuple[PublishedVariant, ...]:
    seen = set(known)
    counted = []
    for release in releases:
        chunks = set(_chunk_sizes(release))
        counted.append(_counted_release(release, new=len(chunks - seen), known=len(chunks & seen)))
        seen |= chunks
    return tuple(counted)


def _counted_release(release: PreparedRelease, *, new: int, known: int) -> PublishedVariant:
    return PublishedVariant(
        variant=release.manifest.variant,
        profiles=release.manifest.profiles,
        manifest=release.digest,
        size_bytes=release.manifest.size,
        chunks_new=new,
        chunks_known=known,
    )


def _new_bytes(releases: Sequence[PreparedRelease], known: frozenset[str]) -> int:
    sizes: dict[str, int] = {}
    for release in releases:
        sizes |= _chunk_sizes(release)
    return sum(size for digest, size in sizes.items() if digest not in known)
