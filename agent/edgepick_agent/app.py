"""The composition root: the only place, beside the instruments of a measurement, that picks adapters.

Adapters are named in literal tables as ``"module:factory"`` and imported on use, so that a device
pays only for what it has.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from edgepick_agent.core import places
from edgepick_agent.core.assignments import Configured, begun, configured, is_new_to
from edgepick_agent.core.control import CONTROL_SOCKET, AgentStatus, Command, ControlReply, ControlRequest
from edgepick_agent.core.events import Event, Started
from edgepick_agent.core.recovery import state_from_store
from edgepick_agent.core.runner_spec import RuntimesMemo
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.core.state import AgentState, decode_state, encode_state
from edgepick_agent.core.technician import ready_to_answer, status_at_rest
from edgepick_agent.core.turn import Agent, Context
from edgepick_agent.errors import ConfigError, NotAnsweringError, StorageError, StorageFullError, UnreachableError
from edgepick_agent.instruments import adapter, board, find_sensors
from edgepick_agent.loop.agent_loop import AgentLoop, Log, Parts
from edgepick_agent.loop.arrivals import Arrivals
from edgepick_agent.loop.bundles import Bundles
from edgepick_agent.loop.defects import Defects
from edgepick_agent.loop.runners import Runners
from edgepick_agent.loop.worker import Worker
from edgepick_agent.ports import Clock, RunnerLauncher, Storage, TakeChunk, Transport
from edgepick_wire import pairing, shadow, topics
from edgepick_wire.codec import decode_document, encode, encode_document
from edgepick_wire.errors import WireError
from edgepick_wire.manifest import KNOWN_REQUIREMENTS
from edgepick_wire.messages import Birth, Presence, RuntimeAvailable
from edgepick_wire.version import __version__

if TYPE_CHECKING:
    # Many records, which a running agent has no need of.
    from edgepick_agent.core.profile import Profile
    from edgepick_agent.core.profile_request import ProfileRequest

RUNTIMES_MEMO = "runtimes.json"

TOOLS = {
    "read-journal": "edgepick_agent.adapters.journal:read",
    "follow-journal": "edgepick_agent.adapters.journal:follow",
    "detect": "edgepick_agent.adapters.detect:detect",
    "notifier": "edgepick_agent.adapters.systemd:notifier",
    "watchdog-seconds": "edgepick_agent.adapters.systemd:watchdog_seconds",
    "verify": "edgepick_agent.adapters.ed25519:verify",
    "bundle-file": "edgepick_agent.adapters.bundle_file:BundleFile",
    "probe-broker": "edgepick_agent.adapters.broker_probe:probe_broker",
    "try-meter": "edgepick_agent.adapters.meter_process:try_meter",
    "inspect": "edgepick_agent.adapters.inspection:inspect",
    "service-facts": "edgepick_agent.adapters.service:service_facts",
    "carry-out": "edgepick_agent.adapters.service:carry_out",
    "become-owner": "edgepick_agent.adapters.account:become_owner",
}
"""What the technician's commands use of this machine; ``cli/site.py`` gives each its type."""


def launcher(python: str | None, work_dir: Path, clock: Clock) -> RunnerLauncher:
    """Return what starts runner processes with ``python`` (``None``: this interpreter)."""
    made: RunnerLauncher = adapter("edgepick_agent.adapters.runner_process:Launcher")(python, work_dir, clock)
    return made


def benchmark(request: "ProfileRequest", tell: Callable[[str], None] = lambda _text: None) -> "Profile":
    """Return the profile of any model file, taken in runner processes of its own; ``tell`` is told what goes on.

    Raises:
        RunError: One of its kinds; the message names the file and what was found.
        StorageError: The trace cannot be written.
    """
    measured: Profile = adapter("edgepick_agent.adapters.benchmark:benchmark")(request, tell)
    return measured


# --- the agent ------------------------------------------------------------------------------------

CAPABILITIES = KNOWN_REQUIREMENTS | {pairing.CAPABILITY, shadow.CAPABILITY}
"""What this agent knows, besides the encodings that it can decode."""

PARTS = {
    "storage": "edgepick_agent.adapters.storage:FileStorage",
    "clock": "edgepick_agent.adapters.clock:SystemClock",
    "time-of-day": "edgepick_agent.adapters.clock:time_of_day",
    "transport": "edgepick_agent.adapters.mqtt:MqttTransport",
    "no-transport": "edgepick_agent.adapters.offline:NoTransport",
    "https-source": "edgepick_agent.adapters.https_source:HttpsSource",
    "lock": "edgepick_agent.adapters.lock:held",
    "log-files": "edgepick_agent.adapters.log_files:LogFiles",
    "lock-holder": "edgepick_agent.adapters.lock:holder",
    "socket-names": "edgepick_agent.adapters.socket_name:SocketNames",
    "control-server": "edgepick_agent.adapters.control_socket:ControlServer",
    "ask-agent": "edgepick_agent.adapters.control_socket:ask_agent",
    "decode": "edgepick_agent.adapters.decoder:decode",
    "algorithms": "edgepick_agent.adapters.decoder:algorithms",
    "probe-runtimes": "edgepick_agent.adapters.runner_process:probe_runtimes",
}
"""What an agent consists of."""


def run_agent(
    settings: AgentSettings,
    *,
    stop: threading.Event,
    on_ready: Callable[[], None] | None = None,
    log: Log,
) -> None:
    """Run the agent until ``stop`` is set; its runners are gone and it is known to be offline when this returns.

    What a defect in one of its threads raises is raised here, after the same end.

    Raises:
        AlreadyRunningError: Another agent holds the state directory.
        ConfigError: The root document, a password or a certificate cannot be used, or the path is too long.
        StorageError: The state directory cannot be used.
    """
    folder = _state_dir(settings)
    with adapter(PARTS["lock"])(folder / places.LOCK), Defects(stop):
        inbox: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        composed = _compose(settings, folder, inbox, log, online=True)
        server = adapter(PARTS["control-server"])(folder / CONTROL_SOCKET, composed.loop.ask, composed.lend)
        server.start()
        threading.Thread(target=_wake_at, args=(stop, inbox), daemon=True).start()
        composed.transport.start()
        inbox.put(composed.started)
        if on_ready is not None:
            on_ready()
        try:
            composed.loop.run(stop)
        finally:
            server.stop()
            composed.worker.stop()
            composed.transport.stop(_presence(settings, composed.loop.agent.durable.session, online=False))


def _wake_at(stop: threading.Event, inbox: "queue.SimpleQueue[Event | None]") -> None:
    stop.wait()
    inbox.put(None)


def read_status(settings: AgentSettings) -> AgentStatus:
    """Return what the running agent says about itself, or what the state directory says without one.

    Raises:
        NotAnsweringError: It runs, but hangs.
        StorageError: The state directory cannot be read.
    """
    folder = _state_dir(settings)
    try:
        reply: ControlReply = adapter(PARTS["ask-agent"])(
            folder / CONTROL_SOCKET, ControlRequest(command=Command.STATUS)
        )
    except NotAnsweringError:
        raise
    except UnreachableError:
        return _status_from_disk(settings, folder)
    if reply.status is None:
        raise UnreachableError(reply.error or "the agent gave no status", hint=reply.hint or "")
    return reply.status


def _status_from_disk(settings: AgentSettings, folder: Path) -> AgentStatus:
    storage: Storage = adapter(PARTS["storage"])(folder)
    raw = storage.read(places.STATE)
    try:
        state = decode_state(raw) if raw is not None else AgentState()
    except WireError as error:
        hint = "Start the agent: it puts the file aside and goes on with what the store proves."
        raise StorageError(f"{folder / places.STATE}: {error}", hint=hint) from error
    reports = len(storage.names(places.OUTBOX))
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    free: int = adapter(PARTS["storage"])(there).free_bytes()
    return status_at_rest(settings, state, outbox=reports, disk_free_bytes=free)


def lock_holder(settings: AgentSettings) -> int | None:
    """Return the process that holds the state directory, if one does; it is not disturbed."""
    found: int | None = adapter(PARTS["lock-holder"])(_state_dir(settings) / places.LOCK)
    return found


def request(settings: AgentSettings, asked: ControlRequest, file: BinaryIO | None = None) -> ControlReply:
    """Return the answer of the running agent; without one, do the same here, without a broker.

    Root does it as the account that the state directory belongs to, and stays that account in this process.
    ``file`` is what ``asked`` names by its path, opened by who may read it.

    Raises:
        AlreadyRunningError: An agent holds the state directory but does not listen.
        NotAnsweringError: It listens, but hangs.
        ConfigError: The root document cannot be used.
        StorageError: The state directory cannot be used.
    """
    folder = _state_dir(settings)
    try:
        reply: ControlReply = adapter(PARTS["ask-agent"])(folder / CONTROL_SOCKET, asked, file)
    except NotAnsweringError:
        raise
    except UnreachableError:
        return _request_offline(settings, folder, asked, file)
    return reply


def _request_offline(
    settings: AgentSettings, folder: Path, asked: ControlRequest, file: BinaryIO | None
) -> ControlReply:
    replies: list[ControlReply] = []
    stop = threading.Event()

    def keep(reply: ControlReply) -> None:
        replies.append(reply)
        stop.set()

    adapter(TOOLS["become-owner"])(folder, settings.profile)
    with adapter(PARTS["lock"])(folder / places.LOCK):
        inbox: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        composed = _compose(settings, folder, inbox, _no_log, online=False)
        inbox.put(composed.started)
        while not ready_to_answer(composed.loop.agent):
            composed.loop.turn(0.05)
        try:
            with composed.lend(asked.path, file):
                composed.loop.ask(asked, keep)
                composed.loop.run(stop)
        finally:
            composed.worker.stop()
    return replies[0]


def _no_log(text: str, *, serious: bool = False, about: object = None) -> None:
    """Say nothing: the command itself tells the person how it went."""


def available_runtimes(settings: AgentSettings) -> tuple[RuntimeAvailable, ...]:
    """Return what the runners' interpreter can start; asked once per interpreter, then remembered if that is possible.

    Nothing heavy is imported here: a short-lived process of that interpreter looks. Root leaves nothing in a folder of
    somebody else's, who could not read or replace it.
    """
    folder = _state_dir(settings)
    python = settings.runner.python or sys.executable
    key = _fingerprint(python)
    remembered = _remembered_runtimes(folder, key)
    if remembered:
        return remembered
    ours = folder.is_dir() and folder.stat().st_uid == os.geteuid()
    with nullcontext(folder / places.RUN) if ours else _elsewhere() as work_dir:
        found: tuple[RuntimeAvailable, ...] = adapter(PARTS["probe-runtimes"])(python, Path(work_dir))
    if found and ours:
        data = encode_document(RuntimesMemo(interpreter=key, runtimes=found), indent=1)
        with suppress(StorageError):
            adapter(PARTS["storage"])(folder).write(RUNTIMES_MEMO, data)
    return found


def _elsewhere() -> AbstractContextManager[str]:
    import tempfile  # which an agent in its own folder has no need of

    return tempfile.TemporaryDirectory(prefix="edgepick-")


def _fingerprint(python: str) -> str:
    """Return what changes when the interpreter or what is installed beside it changes."""
    path = Path(python)
    packages = sorted(path.parent.parent.glob("lib/python3*/site-packages")) if path.exists() else []
    stamps = [str(int(p.stat().st_mtime)) for p in (path, *packages) if p.exists()]
    return " ".join([python, __version__, *stamps])


def _remembered_runtimes(folder: Path, key: str) -> tuple[RuntimeAvailable, ...]:
    try:
        raw = adapter(PARTS["storage"])(folder).read(RUNTIMES_MEMO)
        memo = decode_document(RuntimesMemo, raw) if raw else None
    except (StorageError, WireError):
        return ()
    return memo.runtimes if memo and memo.interpreter == key else ()


# --- putting an agent together --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Composed:
    loop: AgentLoop
    transport: Transport
    worker: Worker
    started: Started
    lend: Callable[[str | None, BinaryIO | None], AbstractContextManager[None]]


def _compose(
    settings: AgentSettings, folder: Path, inbox: "queue.SimpleQueue[Event | None]", log: Log, *, online: bool
) -> _Composed:
    storage: Storage = adapter(PARTS["storage"])(folder)
    reader = adapter(TOOLS["bundle-file"])()
    bundles = Bundles(storage, reader, adapter(PARTS["decode"]))
    root = _configured_root(settings)
    durable, note = _begin_session(storage, bundles, root, log)
    clock: Clock = adapter(PARTS["clock"])()
    arrivals = Arrivals(storage, inbox.put)
    transport = _transport(settings, durable.session, inbox.put, arrivals.take, online=online)
    worker = Worker(inbox.put)
    worker.start()
    context = Context(
        settings=settings,
        first_root=root.root,
        check=adapter(TOOLS["verify"]),
        state_dir=str(folder),
        algorithms=adapter(PARTS["algorithms"])(),
        time_of_day=adapter(PARTS["time-of-day"]),
    )
    parts = Parts(
        storage=storage,
        transport=transport,
        arrivals=arrivals,
        clock=clock,
        bundles=bundles,
        runners=Runners(launcher(settings.runner.python, folder / places.RUN, clock), _socket_names(folder)),
        work=worker,
        find_runtimes=lambda: available_runtimes(settings),
        birth=_birth(settings),
        rss_bytes=_rss_bytes,
        log=log,
        range_source=lambda: adapter(PARTS["https-source"])(settings.fetch, inbox.put, arrivals.take),
    )
    outbox = tuple(name.removesuffix(".json") for name in storage.names(places.OUTBOX))
    loop = AgentLoop(Agent(durable=durable), context, parts, inbox)
    return _Composed(loop=loop, transport=transport, worker=worker, started=Started(outbox, note), lend=reader.lent)


def _state_dir(settings: AgentSettings) -> Path:
    folder = Path(settings.state_dir).absolute()
    longest = len(f"{folder}/{places.runner_socket('0' * 64)}".encode())
    if longest > places.SOCKET_PATH_BYTES:
        raise ConfigError(
            f"state_dir {folder}: sockets in it would have paths of {longest} bytes; "
            f"at most {places.SOCKET_PATH_BYTES} are possible",
            hint="Choose a shorter path; a symbolic link to the directory will do.",
        )
    return folder


def _configured_root(settings: AgentSettings) -> Configured:
    try:
        given = configured(Path(settings.root_document).read_bytes(), adapter(TOOLS["verify"]))
    except OSError as error:
        hint = "Copy the fleet's root document from the host (`edgepick keys show` names it)."
        raise ConfigError(f"root_document {settings.root_document}: {error.strerror}", hint=hint) from error
    except WireError as error:
        raise ConfigError(f"root_document {settings.root_document}: {error}", hint=error.hint) from error
    fleet = given.root.fleet
    if fleet != settings.fleet:
        raise ConfigError(
            f"root_document {settings.root_document}: it is of fleet {fleet!r}, the device of {settings.fleet!r}",
            hint="Give the root document of this device's fleet, or mend `fleet`.",
        )
    return given


def _begin_session(storage: Storage, bundles: Bundles, given: Configured, log: Log) -> tuple[AgentState, str | None]:
    """Return the durable state with a new session, already written, and what there is to say about it."""
    before, note = _load_state(storage, bundles)
    state = replace(begun(before, given), session=before.session + 1)
    if is_new_to(before, given):
        text = f"the root document is another one: trust begins anew with its version {given.root.version}"
        log(f"{text}, of fleet {given.root.fleet!r}", serious=True)
    try:
        storage.write(places.STATE, encode_state(state))
    except StorageFullError as error:
        log(f"the new session cannot be written: {error}", serious=True)
    return state, note


def _load_state(storage: Storage, bundles: Bundles) -> tuple[AgentState, str | None]:
    raw = storage.read(places.STATE)
    try:
        state = decode_state(raw) if raw is not None else None
    except WireError as error:
        aside = f"{places.STATE}.damaged"
        storage.move(places.STATE, aside)
        note = f"the state was damaged ({error}); it was put aside as {aside}, and the store decides what runs"
        return state_from_store(bundles.complete()), note
    if state is None and storage.names(places.STORE):
        return state_from_store(bundles.complete()), "the state was missing; the store decides what runs"
    return state or AgentState(), None


def _transport(
    settings: AgentSettings, session: int, sink: Callable[[Event], None], take: TakeChunk, *, online: bool
) -> Transport:
    if not online:
        return cast("Transport", adapter(PARTS["no-transport"])())
    made: Transport = adapter(PARTS["transport"])(
        settings.broker,
        f"edgepick-{settings.fleet}-{settings.device}",
        _presence(settings, session, online=False),
        sink,
        take,
    )
    return made


def _presence(settings: AgentSettings, session: int, *, online: bool) -> tuple[str, bytes]:
    topic = topics.device(settings.fleet, settings.device, topics.DeviceTopic.PRESENCE)
    return topic, encode(Presence(session=session, online=online))


def _socket_names(folder: Path) -> Callable[[str, str | None], None]:
    return cast("Callable[[str, str | None], None]", adapter(PARTS["socket-names"])(folder))


def _birth(settings: AgentSettings) -> Birth:
    machine = board(Path("/"))
    return Birth(
        device=settings.device,
        session=0,
        profile=settings.profile,
        agent_version=__version__,
        machine=machine.machine()[:200],
        system=_system(),
        python=sys.version.split()[0],
        runtimes=(),
        sensors=tuple(sensor.source for sensor in find_sensors(settings.sensors, Path(settings.sysfs_root))[0]),
        memory_bytes=machine.memory_bytes() or 0,
        disk_free_bytes=0,
        stand_in=settings.stand_in,
        capabilities=tuple(sorted(CAPABILITIES | adapter(PARTS["algorithms"])())),
        labels=settings.labels,
    )


def _system() -> str:
    found = os.uname()
    return f"{found.sysname} {found.release} {found.machine}"


def _rss_bytes() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
