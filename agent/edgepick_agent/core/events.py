"""What can happen to an agent, and what it can do about it: the alphabet of :mod:`.step`.

An event may arrive twice, late, or about something that is over; handling it again is harmless.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_agent.core.control import ControlReply, ControlRequest
from edgepick_agent.core.runner_spec import RunnerMode, RunnerObservation, RunnerResult, RunnerSpec
from edgepick_agent.core.state import AgentState
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
    """Several chunks arrived, one after the other: digest in the topic, and content."""

    chunks: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Oversized:
    """A message larger than the protocol allows was dropped unread."""

    topic: str
    size: int


TransportEvent = Connected | Disconnected | Delivered | Oversized

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
    """A bundle file was opened for ``ask``: its signed manifest, or why not."""

    ask: int
    path: str
    raw: bytes | None
    refusal: Refusal | None = None


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
    """A look at a runner; ``result`` is what a measuring one left when it ended."""

    key: str
    pid: int
    observation: RunnerObservation
    result: RunnerResult | None = None


@dataclass(frozen=True, slots=True)
class RunnerNotStarted:
    """A runner could not be started at all."""

    key: str
    detail: str


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
    | ChunksDelivered
    | StoreEvent
    | RunnerSeen
    | RunnerNotStarted
    | RuntimesFound
    | ControlAsked
    | Started
    | Tick
)

# --- effects --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SaveReport:
    """Keep a report in the outbox, and publish it."""

    id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class DropReports:
    """Remove reports from the outbox."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResendReports:
    """Publish the reports of the outbox once more."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Persist:
    """Write the durable state; if that fails, the rest of the step does not happen."""

    state: AgentState


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to topics at one QoS."""

    topics: tuple[str, ...]
    qos: int


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Unsubscribe from topics."""

    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a retained message at QoS 1."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class PublishBirth:
    """Publish who the device is, with the space left now."""

    session: int
    runtimes: tuple[RuntimeAvailable, ...]


@dataclass(frozen=True, slots=True)
class FindRuntimes:
    """Ask the runners' interpreter what it can start."""


@dataclass(frozen=True, slots=True)
class CheckSlots:
    """Read the bundles of these manifests again and hash their files."""

    manifests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadManifest:
    """Look for a signed manifest in the store."""

    manifest: str


@dataclass(frozen=True, slots=True)
class TakeSurvey:
    """Find out what the device has of a bundle, and in which way to come by the rest."""

    manifest: str
    content: Manifest
    algorithms: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    """Digests of encoded forms that proved to be useless."""


@dataclass(frozen=True, slots=True)
class Link:
    """Give a stored file a second name in another bundle."""

    manifest: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Reserve:
    """Allocate a file that is to be fetched for ``manifest``."""

    manifest: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class WriteChunk:
    """Write a verified chunk into a reserved file."""

    manifest: str
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StoreBundle:
    """Decode what is encoded, check every file of a fetched bundle as a whole and move it into the store."""

    manifest: str
    content: Manifest
    raw: bytes
    ways: tuple[Way, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenBundle:
    """Read the signed manifest of a bundle file."""

    ask: int
    path: str


@dataclass(frozen=True, slots=True)
class ExtractBundle:
    """Copy the files of a bundle file to where downloads lie."""

    manifest: str
    content: Manifest
    path: str


@dataclass(frozen=True, slots=True)
class DiscardDownload:
    """Remove what was fetched of a bundle; done before the state is written, to make room for it."""

    content: Manifest


@dataclass(frozen=True, slots=True)
class CollectGarbage:
    """Remove stored bundles and partial downloads but these; ``None`` leaves all of their kind."""

    keep_bundles: frozenset[str] | None
    keep_downloads: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class StartRunner:
    """Start a runner."""

    key: str
    spec: RunnerSpec
    mode: RunnerMode


@dataclass(frozen=True, slots=True)
class StopRunner:
    """Stop a runner and forget it; nothing happens if there is none."""

    key: str


@dataclass(frozen=True, slots=True)
class RetireRunner:
    """Let a runner answer whoever is connected to it, and end; it is killed after ``seconds``."""

    key: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FrontRunner:
    """Make a model's stable socket name lead to a runner's socket, and have the runner take its port."""

    key: str
    name: str
    target: str


@dataclass(frozen=True, slots=True)
class CloseFront:
    """Remove a model's stable socket name, and close its port; nobody serves it."""

    model: str
    name: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a technician."""

    ask: int
    reply: ControlReply


@dataclass(frozen=True, slots=True)
class Say:
    """Write a line into the log."""

    text: str
    serious: bool = False
    about: Mapping[str, str] = field(default_factory=dict)


Effect = (
    SaveReport
    | DropReports
    | ResendReports
    | Persist
    | Subscribe
    | Unsubscribe
    | Publish
    | PublishBirth
    | FindRuntimes
    | CheckSlots
    | ReadManifest
    | TakeSurvey
    | Link
    | Reserve
    | WriteChunk
    | StoreBundle
    | OpenBundle
    | ExtractBundle
    | DiscardDownload
    | CollectGarbage
    | StartRunner
    | StopRunner
    | RetireRunner
    | FrontRunner
    | CloseFront
    | Reply
    | Say
)
