"""What can happen to an agent: half of the alphabet of :mod:`.step`; the other half is :mod:`.effects`.

An event may arrive twice, late, or about something that is over; handling it again is harmless.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepick_agent.core.control import ControlRequest
from edgepick_agent.core.fetch import Chunk
from edgepick_agent.core.runner_spec import RunnerObservation, RunnerResult, ShadowProgress
from edgepick_wire.enums import StrEnum
from edgepick_wire.manifest import Encoding, Manifest
from edgepick_wire.messages import Refusal, RuntimeAvailable

# --- what the store holds ------------------------------------------------------------------------


class Holding(StrEnum):
    """Where a file of a wanted bundle stands."""

    COMPLETE = "complete"
    """In its place, its digest right."""
    ELSEWHERE = "elsewhere"
    """In another bundle; a link is enough."""
    PARTIAL = "partial"
    """To be fetched, wholly or in part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A smaller way to come by a file: its encoded form, and where the file lies that it is a difference to."""

    name: str
    encoding: Encoding
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSurvey:
    """What the device has of one file; with a ``way``, index and chunks are those of the encoded form.

    Attributes:
        way: How to come by it, if not as it is.
        decoded: Space for the file itself is reserved, where it is to be decoded.
        source: Storage name of the same file in another bundle, if it is elsewhere.
        index: The file's whole index, once it is here.
        index_present: Chunks of the index that are here.
        present: Chunks of the file that are here.
        reserved: The partial file exists at its full size.
    """

    name: str
    holding: Holding
    source: str | None = None
    index: bytes | None = None
    index_present: frozenset[str] = frozenset()
    present: frozenset[str] = frozenset()
    reserved: bool = False
    way: Way | None = None
    decoded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the device has of a bundle, and the space that is left."""

    manifest: str
    files: tuple[FileSurvey, ...]
    free_bytes: int


# --- events: the broker ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """A session at the broker began; it knows no subscription of ours."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """There is no session; ``reason`` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message arrived."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class ChunksDelivered:
    """Chunks of the download arrived, one after the other; the good ones are written."""

    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class RangeDelivered:
    """Chunks of a range arrived; the good ones are written."""

    key: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class RangeEnded:
    """Nothing more comes of a range; ``problem`` says why, unless all of it came."""

    key: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Oversized:
    """A message larger than the protocol allows was dropped unread."""

    topic: str
    size: int


TransportEvent = Connected | Disconnected | Delivered | ChunksDelivered | Oversized

# --- events: the store ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlotsChecked:
    """The bundles of the slots were read again: the sound ones' manifests, and what ails the others."""

    sound: Mapping[str, Manifest]
    broken: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ManifestRead:
    """What the store has of a signed manifest; ``None`` if nothing."""

    manifest: str
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A :class:`Survey` is ready."""

    survey: Survey


@dataclass(frozen=True, slots=True)
class BundleStored:
    """A bundle's files were checked as a whole; with none in ``bad`` it is in the store, complete.

    With any in ``undecoded`` (digests of encoded forms) nothing was checked: those files are to be had otherwise.
    """

    manifest: str
    bad: tuple[str, ...] = ()
    undecoded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleOpened:
    """A bundle file was opened for ``ask``: its signed manifest and the root documents with it, or why not."""

    ask: int
    path: str
    raw: bytes | None
    refusal: Refusal | None = None
    roots: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleExtracted:
    """A bundle file's content lies among the downloads, or it was refused."""

    manifest: str
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """Storing a part of a bundle failed; ``full`` if for want of space."""

    manifest: str
    full: bool
    detail: str


@dataclass(frozen=True, slots=True)
class StateNotWritten:
    """The durable state could not be written; what depended on it did not happen."""

    full: bool
    detail: str


StoreEvent = (
    SlotsChecked
    | ManifestRead
    | Surveyed
    | BundleStored
    | BundleOpened
    | BundleExtracted
    | StoreFailed
    | StateNotWritten
)

# --- events: runners, people, time ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunnerSeen:
    """A look at a runner; ``result`` is what a measuring one left when it ended, ``shadow`` what a shadow has seen."""

    key: str
    pid: int
    observation: RunnerObservation
    result: RunnerResult | None = None
    shadow: ShadowProgress | None = None


@dataclass(frozen=True, slots=True)
class RunnerNotStarted:
    """A runner could not be started at all, by no fault of its variant; ``full``: for want of space."""

    key: str
    detail: str
    full: bool = False


@dataclass(frozen=True, slots=True)
class RunnerNotFronted:
    """A model's clients could not be led to a runner, whose name was not written; ``full``: for want of space."""

    key: str
    detail: str
    full: bool = False


@dataclass(frozen=True, slots=True)
class ControlAsked:
    """A technician asks; the answer goes to ``ask``."""

    ask: int
    request: ControlRequest


@dataclass(frozen=True, slots=True)
class Started:
    """The agent starts, with the reports that wait in its outbox."""

    outbox: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RuntimesFound:
    """What the runners' interpreter can start."""

    runtimes: tuple[RuntimeAvailable, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    TransportEvent
    | RangeDelivered
    | RangeEnded
    | StoreEvent
    | RunnerSeen
    | RunnerNotStarted
    | RunnerNotFronted
    | RuntimesFound
    | ControlAsked
    | Started
    | Tick
)
