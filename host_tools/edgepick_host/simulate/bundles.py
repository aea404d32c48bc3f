"""Manifests on their way to simulated devices: fetched once per connection, verified once per process."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from edgepick_host.simulate.documents import Documents, known_of
from edgepick_host.simulate.post import Post, Seat
from edgepick_host.simulate.state import Known, Obtained
from edgepick_wire import topics
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import Manifest


@dataclass(slots=True, kw_only=True)
class Asked:
    """A topic that somebody waits for, and for the sake of which manifest."""

    manifest: str
    seats: list[Seat] = field(default_factory=list)


class Bundles:
    """Fetches manifests, and with ``first_chunk`` the first chunk of each model file, which has to be what it says."""

    def __init__(self, fleet: str, documents: Documents, *, first_chunk: bool) -> None:
        self._fleet = fleet
        self._documents = documents
        self._first_chunk = first_chunk
        self._known: dict[str, Known] = {}
        self._manifests: dict[str, Manifest] = {}
        self._asked: dict[tuple[int, str], Asked] = {}
        self._topics: set[str] = set()

    def known(self, manifest: str) -> Known | None:
        """Return a manifest that this process has already."""
        return self._known.get(manifest)

    def is_awaited(self, topic: str) -> bool:
        """Return whether a message on this topic was ever asked for here."""
        return topic in self._topics

    def awaited(self, post: Post) -> list[str]:
        """Return the topics that are still waited for on a connection."""
        return sorted(topic for (owner, topic) in self._asked if owner == id(post))

    def ask(self, post: Post, seat: Seat, manifest: str) -> None:
        """Ask for a manifest on a connection; those who ask meanwhile wait with the first."""
        self._ask(post, topics.manifest(self._fleet, manifest), manifest, [seat])

    def arrived(self, post: Post, topic: str, payload: bytes, now: float) -> Iterable[tuple[Seat, Obtained]]:
        """Return what those who waited for a topic get to know; nothing while something is still missing."""
        asked = self._asked.pop((id(post), topic), None)
        if asked is None:
            return
        post.link.unsubscribe(topic)
        if topic == topics.manifest(self._fleet, asked.manifest):
            known = self._take_manifest(post, asked, payload)
        else:
            known = self._take_chunk(asked, topic, payload)
        if known is _LATER:
            return
        for seat in asked.seats:
            yield seat, Obtained(now=now, manifest=asked.manifest, known=known)

    def _take_manifest(self, post: Post, asked: Asked, payload: bytes) -> Known | None:
        manifest = self._documents.manifest(payload, asked.manifest)
        if manifest is None:
            return None
        self._manifests[asked.manifest] = manifest
        if self._first_chunk:
            first = next(f for f in manifest.files if f.name == manifest.model_file).index[0]
            self._ask(post, topics.chunk(self._fleet, first), asked.manifest, asked.seats)
            return _LATER
        return self._keep(asked.manifest)

    def _take_chunk(self, asked: Asked, topic: str, payload: bytes) -> Known | None:
        if digest_of(payload) != topics.digest_in(topic):
            self._documents.refused += 1
            return None
        return self._keep(asked.manifest)

    def _keep(self, digest: str) -> Known:
        self._known[digest] = known_of(self._manifests[digest])
        return self._known[digest]

    def _ask(self, post: Post, topic: str, manifest: str, seats: list[Seat]) -> None:
        key = (id(post), topic)
        new = key not in self._asked
        self._asked.setdefault(key, Asked(manifest=manifest)).seats.extend(seats)
        self._topics.add(topic)
        if new:
            post.link.subscribe([topic])


_LATER = Known(variant="", size=0, chunks=0)
"""Stands for: the manifest is right, its first chunk is on its way."""
