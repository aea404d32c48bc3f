"""What the technician's commands ask of this machine, by the names in ``app.TOOLS``; typed here."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from edgepick_agent import app
from edgepick_agent.app import PARTS, TOOLS
from edgepick_agent.core import places
from edgepick_agent.core.admission import Trust, verified_manifest
from edgepick_agent.core.assignments import Configured, begun, configured, verified_root
from edgepick_agent.core.boards import Board
from edgepick_agent.core.control import AgentStatus, ControlReply, ControlRequest
from edgepick_agent.core.findings import Finding
from edgepick_agent.core.service import ServiceFacts, Step
from edgepick_agent.core.settings import AgentSettings, BrokerSettings
from edgepick_agent.core.state import AgentState, ModelRecord, decode_state
from edgepick_agent.errors import RefusedError, StorageError
from edgepick_agent.instruments import adapter
from edgepick_agent.ports import LogFiles
from edgepick_wire import envelope
from edgepick_wire.errors import SignatureError, WireError
from edgepick_wire.manifest import Manifest, manifest_digest
from edgepick_wire.messages import Refusal, RuntimeAvailable
from edgepick_wire.trust import RootDocument

if TYPE_CHECKING:
    from edgepick_agent.core.profile import Profile
    from edgepick_agent.core.profile_request import ProfileRequest


def detect(sysfs_root: Path) -> Board:
    """Return what the machine turned out to be."""
    return cast("Board", adapter(TOOLS["detect"])(sysfs_root))


def probe_broker(settings: BrokerSettings, client_id: str) -> Sequence[Finding]:
    """Return how far a connection to the broker gets: name, TCP, TLS, MQTT."""
    return cast("Sequence[Finding]", adapter(TOOLS["probe-broker"])(settings, client_id))


def inspect_machine(settings: AgentSettings) -> Sequence[Finding]:
    """Return what there is to say about disk, clock, accelerators and permissions."""
    return cast("Sequence[Finding]", adapter(TOOLS["inspect"])(settings))


def try_meter(settings: AgentSettings) -> str | None:
    """Return why the configured external meter tells nothing; ``None`` if it does."""
    return cast("str | None", adapter(TOOLS["try-meter"])(settings.power, settings.broker))


def read_root(path: Path) -> Configured:
    """Return the root document in a file, which signs itself.

    Raises:
        StorageError: The file cannot be read, or is no root document.
        SignatureError: It is not signed by its own root role.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "Copy the fleet's root document from the host; `edgepick keys show` names it."
        raise StorageError(f"{path}: {(error.strerror or 'cannot be read').lower()}", hint=hint) from error
    try:
        return configured(data, adapter(TOOLS["verify"]))
    except SignatureError as error:
        raise SignatureError(f"{path}: {error}") from error
    except WireError as error:
        hint = "Copy the fleet's root document from the host again; `edgepick keys show` names it."
        raise StorageError(f"{path}: not a root document: {error}", hint=hint) from error


def service_facts(
    *, user: str, config: str, state_dir: str, board: str, secrets: Sequence[str], readable: Sequence[str]
) -> ServiceFacts:
    """Return what a plan for the service depends on."""
    facts = adapter(TOOLS["service-facts"])(
        user=user, config=config, state_dir=state_dir, board=board, secrets=secrets, readable=readable
    )
    return cast("ServiceFacts", facts)


def carry_out(steps: Iterable[Step]) -> None:
    """Do the steps of a plan, in order."""
    adapter(TOOLS["carry-out"])(steps)


def read_bundle(path: Path, settings: AgentSettings) -> tuple[Manifest, str]:
    """Return the verified manifest of a bundle file, and its digest; the files in it are not yet checked.

    It is judged by the newest root document that this device knows, and those that come with the bundle.

    Raises:
        RefusedError: Not a bundle, or not signed by a release key of the root document.
        StorageError: The state directory cannot be read.
    """
    reader = adapter(TOOLS["bundle-file"])()
    raw: bytes = reader.manifest(str(path))
    given = read_root(Path(settings.root_document))
    newest = begun(kept(settings), given).root or given.root
    trust = Trust(root=newest, check=adapter(TOOLS["verify"]))
    for document in reader.roots(str(path)):
        following = verified_root(document, trust)
        trust = replace(trust, root=following) if isinstance(following, RootDocument) else trust
    digest = manifest_digest(envelope.unpack(raw).payload)
    manifest = verified_manifest(raw, digest, trust)
    if isinstance(manifest, Refusal):
        raise RefusedError(manifest)
    return manifest, digest


def installed(settings: AgentSettings) -> Mapping[str, ModelRecord]:
    """Return what is installed, by model, as the state directory has it; asks no agent, so it never waits.

    Raises:
        StorageError: The state directory cannot be read.
    """
    return kept(settings).models


def kept(settings: AgentSettings) -> AgentState:
    """Return what the agent keeps, as the state directory has it; nothing while that is damaged.

    Raises:
        StorageError: The state directory cannot be read.
    """
    raw: bytes | None = adapter(PARTS["storage"])(Path(settings.state_dir)).read(places.STATE)
    with contextlib.suppress(WireError):  # a damaged state is the agent's to mend
        return decode_state(raw) if raw is not None else AgentState()
    return AgentState()


def status(settings: AgentSettings) -> AgentStatus:
    """Return what the agent says about itself, or what the state directory says without one."""
    return app.read_status(settings)


def request(settings: AgentSettings, asked: ControlRequest, file: BinaryIO | None = None) -> ControlReply:
    """Return the answer of the agent, who reads ``file`` for the path; without a running one, do it here and now."""
    return app.request(settings, asked, file)


def runtimes(settings: AgentSettings) -> Sequence[RuntimeAvailable]:
    """Return the runtimes that the configured interpreter can start."""
    return app.available_runtimes(settings)


def log_files(settings: AgentSettings) -> LogFiles:
    """Return the files in which an agent without a journal keeps what it said."""
    return cast("LogFiles", adapter(PARTS["log-files"])(Path(settings.state_dir) / places.LOG))


def journal(*, lines: int | None, since: float | None, serious: bool) -> Sequence[str]:
    """Return the latest entries of the service in systemd's journal, as JSON; none where there is no journal."""
    return cast("Sequence[str]", adapter(TOOLS["read-journal"])(lines=lines, since=since, serious=serious))


def follow_journal(*, serious: bool) -> Iterator[str]:
    """Yield the entries of the service as they are written, for ever."""
    return cast("Iterator[str]", adapter(TOOLS["follow-journal"])(serious=serious))


def benchmark(request: "ProfileRequest", tell: Callable[[str], None]) -> "Profile":
    """Return the profile of a model file, taken in runner processes of its own."""
    return app.benchmark(request, tell)
