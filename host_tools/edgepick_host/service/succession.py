"""From one root document to the next on a broker: the chain of versions, and everything signed again.

Rules:
- Every version from 2 on is retained under its number, so that a device that missed some follows them all.
- The newest lies on the fleet's own topic too, and is written last: where it is, the rest is done.
- A manifest keeps its payload, and thus its digest, when it is signed again; only what a desired state, a
  rollout or a newest version needs is.
- A broker that serves a root document that ours does not descend from is never written to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepick_host.core.assignments import desired_topic
from edgepick_host.core.records import Release
from edgepick_host.core.trust import Key, sign
from edgepick_host.errors import StateError, VerificationError
from edgepick_host.ports import Broker, HostStore
from edgepick_host.service.pruner import mentioned, needed_releases
from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType, VerifySignature
from edgepick_wire.errors import WireError
from edgepick_wire.messages import TargetKind
from edgepick_wire.trust import RootDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What a broker was given after the keys changed.

    Attributes:
        version: The root document's.
        chain: Versions that lie under their numbers now.
        manifests: Manifests that were signed again.
        desired: Desired states that were signed again.
        waiting: Manifests that need a new signature, while this host has no release key that counts.
    """

    fleet: str
    version: int
    chain: tuple[int, ...]
    manifests: tuple[str, ...]
    desired: int
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """One fleet's root documents on one broker.

    Attributes:
        root: The newest root document.
        chain: Every version that is kept, signed, by its number.
        broker: Connected.
        place: The broker's ``host:port``, for messages.
        store: What was published, and what is wanted.
        release: Sign manifests; none where these keys are elsewhere.
        campaign: Sign desired state.
        check_signature: Checks a signature.
    """

    root: RootDocument
    chain: Mapping[int, bytes]
    broker: Broker
    place: str
    store: HostStore
    release: Sequence[Key]
    campaign: Sequence[Key]
    check_signature: VerifySignature

    def check(self) -> int | None:
        """Return the version that the broker serves, ours or one before it; ``None`` if it serves none.

        Raises:
            VerificationError: It serves another fleet's root document under the same name.
            StateError: It serves a newer one.
        """
        topic = topics.root(self.root.fleet)
        found = self.broker.retained([topic]).get(topic)
        if found is None:
            return None
        version, payload = _taken_apart(found)
        if version > self.root.version:
            raise StateError(
                f"broker {self.place} serves root document version {version}; this host has version "
                f"{self.root.version}",
                hint="Put the newer root document where root_document of the configuration points.",
            )
        if version in self.chain and _taken_apart(self.chain[version])[1] != payload:
            raise VerificationError(
                f"broker {self.place} serves another root document for fleet {self.root.fleet!r}",
                hint="Use the keys that this fleet was made with, or give this fleet another name.",
            )
        return version

    def publish_roots(self) -> None:
        """Have the broker retain every version, and the newest as the fleet's."""
        self._publish_chain()
        self._publish_newest()

    def renew(self) -> Renewed:
        """Return what was given to the broker so that every device follows the newest keys.

        Raises:
            UnreachableError: The broker went away; run it again.
        """
        versions = self._publish_chain()
        needed = needed_releases(self.store.releases(), mentioned(self.store))
        outdated = tuple(release for release in needed if self._is_outdated(release))
        digests = tuple(release.manifest for release in outdated)
        if self.release:
            for digest in digests:
                self._sign_manifest(digest)
        desired = self._sign_desired()
        self._publish_newest()
        return Renewed(
            fleet=self.root.fleet,
            version=self.root.version,
            chain=versions,
            manifests=digests if self.release else (),
            desired=desired,
            waiting=() if self.release else digests,
        )

    def _publish_chain(self) -> tuple[int, ...]:
        versions = tuple(version for version in sorted(self.chain) if version > 1)
        for version in versions:
            self.broker.publish(topics.root_version(self.root.fleet, version), self.chain[version], retain=True)
        return versions

    def _publish_newest(self) -> None:
        self.broker.publish(topics.root(self.root.fleet), self.chain[self.root.version], retain=True)

    def _is_outdated(self, release: Release) -> bool:
        signed = self.store.manifest(release.manifest)
        if signed is None:
            return False
        try:
            envelope.verify(envelope.unpack(signed), DocumentType.MANIFEST, self.root.release, self.check_signature)
        except WireError:
            return True
        return False

    def _sign_manifest(self, digest: str) -> None:
        payload = envelope.unpack(self.store.manifest(digest) or b"").payload
        data = envelope.pack(sign(DocumentType.MANIFEST, payload, self.release))
        self.broker.publish(topics.manifest(self.root.fleet, digest), data, retain=True)
        self.store.renew_manifest(digest, data)  # after the broker has it: interrupted, it is done again

    def _sign_desired(self) -> int:
        """Return the number of desired states, each signed again; devices' go before their profiles'."""
        documents = sorted(self.store.all_desired(), key=lambda d: d.target_kind is TargetKind.PROFILE)
        for desired in documents:
            data = envelope.pack(sign(DocumentType.DESIRED, codec.encode(desired), self.campaign))
            topic = desired_topic(self.root.fleet, desired.target_kind, desired.target)
            self.broker.publish(topic, data, retain=True)
        return len(documents)


def _taken_apart(data: bytes) -> tuple[int, bytes]:
    """Return a root document's version and payload; version 0 for anything else, which may be overwritten."""
    try:
        payload = envelope.unpack(data).payload
        return codec.decode(RootDocument, payload).version, payload
    except WireError:
        return 0, b""
