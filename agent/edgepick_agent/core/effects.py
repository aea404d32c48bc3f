"""What an agent can do about what has happened: the effects that :mod:`.step` asks the shell for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_agent.core.control import ControlReply
from edgepick_agent.core.events import Way
from edgepick_agent.core.fetch import Piece
from edgepick_agent.core.runner_spec import RunnerMode, RunnerSpec
from edgepick_agent.core.state import AgentState
from edgepick_wire.manifest import Manifest
from edgepick_wire.messages import RuntimeAvailable


@dataclass(frozen=True, slots=True)
class SaveReport:
    """Keep a report in the outbox; done before the state is written, so that none is lost."""

    id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class SendReport:
    """Publish a report; done after the state is written, so that none tells of a step that was undone."""

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
class ExpectChunks:
    """Write what comes under these digests to these places of reserved files, and nothing else, from now on."""

    manifest: str
    pieces: Mapping[str, tuple[Piece, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRange:
    """Fetch bytes from ``offset`` on by HTTPS: chunks by digest and size that lie one after the other."""

    key: str
    url: str
    offset: int
    file_size: int
    chunks: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Bytes of the range."""
        return sum(size for _, size in self.chunks)


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
    | SendReport
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
    | ExpectChunks
    | FetchRange
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
