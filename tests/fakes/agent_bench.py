"""An agent on a bench: the real core, loop and store operations between fakes, and time by hand."""

import io
import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgepick_agent import app, decode
from edgepick_agent.core import places
from edgepick_agent.core.assignments import configured
from edgepick_agent.core.control import Command, ControlReply, ControlRequest
from edgepick_agent.core.events import Event, Started
from edgepick_agent.core.settings import AgentSettings, BrokerSettings, FetchSettings, RunnerSettings
from edgepick_agent.core.turn import Agent, Context
from edgepick_agent.errors import RefusedError, StorageError
from edgepick_agent.loop.agent_loop import AgentLoop, Parts
from edgepick_agent.loop.arrivals import Arrivals
from edgepick_agent.loop.bundles import Bundles
from edgepick_agent.loop.runners import Runners
from edgepick_agent.ports import TakeChunk, UndecodedError
from edgepick_wire import codec, envelope
from edgepick_wire.messages import (
    Birth,
    Incident,
    InstallOutcome,
    MeasuredVariant,
    ModelState,
    Refusal,
    RefusalCode,
    Report,
    Reported,
    RuntimeAvailable,
)
from fakes.clock import FakeClock
from fakes.host_stand_in import HostStandIn
from fakes.runner_launcher import ScriptedLauncher
from fakes.storage import MemoryStorage
from fakes.transport import FakeBroker, FakeTransport
from wire.wire_keys import check, root, signed_root

SETTINGS = AgentSettings(
    device="pi-1",
    fleet="demo",
    profile="generic-linux",
    state_dir="/memory",
    root_document="root.signed",
    stand_in=True,
    broker=BrokerSettings(host="127.0.0.1"),
    fetch=FetchSettings(window=8, timeout_seconds=5.0, retries=3),
    runner=RunnerSettings(confirm_seconds=2.0, max_failures=3),
)

BIRTH = Birth(
    device="pi-1",
    session=0,
    profile="generic-linux",
    agent_version="0",
    machine="a fake",
    system="none",
    python="3",
    runtimes=(),
    memory_bytes=1,
    disk_free_bytes=1,
)


class BundlesInMemory:
    """Keeps ``edgepick_agent.ports.BundleReader`` for bundles put into :attr:`files`."""

    def __init__(self) -> None:
        self.files_at: dict[str, Any] = {}
        self.roots_at: dict[str, tuple[bytes, ...]] = {}

    def manifest(self, path: str) -> bytes:
        if path not in self.files_at:
            raise RefusedError(Refusal(code=RefusalCode.MALFORMED, detail=f"{path}: no such file", hint=""))
        return bytes(self.files_at[path].raw)

    def roots(self, path: str) -> tuple[bytes, ...]:
        return self.roots_at.get(path, ())

    def files(self, path: str) -> Any:
        for name, data in self.files_at[path].files.items():
            yield name, len(data), iter([data[: len(data) // 2], data[len(data) // 2 :]])


class Bench:
    """One device, its broker and its host. ``boot`` may be called again after :meth:`cut_power`."""

    def __init__(self, storage: Any = None, settings: AgentSettings = SETTINGS) -> None:
        self.settings = settings
        self.storage = storage if storage is not None else MemoryStorage()
        self.broker = FakeBroker()
        self.host = HostStandIn(self.broker)
        self.clock = FakeClock()
        self.launcher = ScriptedLauncher()
        self.reader = BundlesInMemory()
        self.root = configured(envelope.pack(signed_root(root(), 0)), check)
        self.runtimes = (RuntimeAvailable(name="litert", version="2.1"),)
        self.algorithms: frozenset[str] = frozenset()
        self.sockets: dict[str, str] = {}
        self.names_fail: type[StorageError] | None = None
        self.range_source: Callable[[FetchSettings, Callable[[Event], None], TakeChunk], Any] | None = None
        self.log: list[str] = []
        self.replies: list[ControlReply] = []
        self.loop: AgentLoop
        self.transport: FakeTransport

    def boot(self, *, online: bool = True) -> "Bench":
        """Start an agent on what the storage holds."""
        inbox: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        bundles = Bundles(self.storage, self.reader, self._decode)
        durable, note = app._begin_session(self.storage, bundles, self.root, self._log)
        arrivals = Arrivals(self.storage, inbox.put)
        presence = app._presence(self.settings, durable.session, online=False)
        self.transport = FakeTransport(self.broker, presence, inbox.put, arrivals.take)
        context = Context(
            settings=self.settings,
            first_root=self.root.root,
            check=check,
            state_dir="/memory",
            algorithms=self.algorithms,
        )
        parts = Parts(
            storage=self.storage,
            transport=self.transport,
            arrivals=arrivals,
            clock=self.clock,
            bundles=bundles,
            runners=Runners(self.launcher, self._point),
            work=lambda work: self._work(work, inbox),
            find_runtimes=lambda: self.runtimes,
            birth=BIRTH,
            rss_bytes=lambda: 1,
            log=self._log,
            range_source=partial(made, self.settings.fetch, inbox.put, arrivals.take)
            if (made := self.range_source)
            else None,
        )
        self.loop = AgentLoop(Agent(durable=durable), context, parts, inbox)
        outbox = tuple(name.removesuffix(".json") for name in self.storage.names(places.OUTBOX))
        if online:
            self.transport.start()
        self.loop.handle(Started(outbox, note))
        return self

    def _decode(self, algorithm: str, size: int, encoded: Path, base: Path | None) -> Iterator[bytes]:
        """Keep ``edgepick_agent.ports.Decode`` without a process."""
        read = [io.BytesIO(self._content(path) or b"") for path in (encoded, base) if path is not None]
        try:
            yield from decode.pieces(algorithm, size, read[0], read[1] if base is not None else None)
        except decode.DecodeError as error:
            raise UndecodedError(str(error)) from error

    def _content(self, path: Path) -> bytes | None:
        found: bytes | None = self.storage.read(str(path.relative_to(self.storage.path(""))))
        return found

    def _log(self, text: str, *, serious: bool = False, about: Any = None) -> None:
        self.log.append(text)

    def _point(self, name: str, target: str | None) -> None:
        if self.names_fail is not None and self.sockets.get(name) != target:
            raise self.names_fail(f"{name}: cannot be written", hint="It is a test.")
        if target is None:
            self.sockets.pop(name, None)
        else:
            self.sockets[name] = target

    @staticmethod
    def _work(work: Callable[[], Event | None], inbox: "queue.SimpleQueue[Event | None]") -> None:
        event = work()
        if event is not None:
            inbox.put(event)

    def run(self, seconds: float = 30.0, step: float = 0.5) -> "Bench":
        """Let time pass in steps, handling everything that happens."""
        for _ in range(round(seconds / step)):
            while self.loop.turn():
                pass
            self.clock.advance(step)
        return self

    def turn(self) -> "Bench":
        """Handle what there is, without time passing."""
        while self.loop.turn():
            pass
        return self

    def cut_power(self) -> None:
        """Lose the process, its runners, and what was not durable."""
        for process in self.launcher.started:
            process.running = False
        self.broker.clients.clear()
        inner = getattr(self.storage, "inner", self.storage)
        self.storage = inner.cut() if isinstance(inner, MemoryStorage) else inner

    # --- looking at it ---

    @property
    def reported(self) -> Reported:
        return codec.decode(Reported, self.broker.payloads("/reported")[-1])

    def model(self, name: str = "digits") -> ModelState:
        return next(m for m in self.reported.models if m.model == name)

    @property
    def reports(self) -> list[Report]:
        """Every report once, in the order of their first arrival."""
        found = {r.id: r for r in (codec.decode(Report, p) for p in self.broker.payloads("/report"))}
        return list(found.values())

    @property
    def outcomes(self) -> list[InstallOutcome]:
        return [r.install for r in self.reports if r.install is not None]

    @property
    def incidents(self) -> list[Incident]:
        return [r.incident for r in self.reports if r.incident is not None]

    @property
    def measured(self) -> list[MeasuredVariant]:
        return [r.measurement for r in self.reports if r.measurement is not None]

    def ask_and_forget(self, command: Command, **rest: Any) -> None:
        """Ask as a technician who does not wait."""
        self.loop.ask(ControlRequest(command=command, **rest), self.replies.append)
        self.turn()

    def ask(self, command: Command, **rest: Any) -> ControlReply:
        """Ask as a technician, and let time pass until the answer."""
        replies: list[ControlReply] = []
        self.loop.ask(ControlRequest(command=command, **rest), replies.append)
        for _ in range(200):
            self.turn()
            if replies:
                return replies[0]
            self.clock.advance(0.5)
        raise AssertionError("no answer")


def with_runner(**changes: Any) -> AgentSettings:
    """Return the settings with some of the runner's changed."""
    return replace(SETTINGS, runner=replace(SETTINGS.runner, **changes))
