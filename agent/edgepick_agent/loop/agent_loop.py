"""The thin shell around the core: takes events in, has the core decide, performs the effects.

One thread owns the agent and the runners. The broker, the technicians and the worker only put
things into the inbox. While nothing happens the thread sleeps until the next timer.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from edgepick_agent.core import effects as fx
from edgepick_agent.core import events as e
from edgepick_agent.core import places
from edgepick_agent.core.control import ControlReply, ControlRequest
from edgepick_agent.core.fetch import Chunk
from edgepick_agent.core.outbox import Resending, resend
from edgepick_agent.core.state import encode_state
from edgepick_agent.core.step import is_fetching, next_wake, range_wanted, step
from edgepick_agent.core.technician import complete
from edgepick_agent.core.turn import Agent, Context
from edgepick_agent.errors import StorageError, StorageFullError
from edgepick_agent.loop.arrivals import Arrivals
from edgepick_agent.loop.bundles import Bundles
from edgepick_agent.loop.runners import Runners
from edgepick_agent.ports import Clock, RangeSource, Storage, Transport
from edgepick_wire import codec, topics
from edgepick_wire.messages import Birth, Refusal, RuntimeAvailable
from edgepick_wire.topics import DeviceTopic

PAUSE_UNWRITTEN_SECONDS = 10.0
"""Time until an event is handled again whose consequence could not be written down."""
DEFERRED_MAX = 64
BATCH_CHUNKS = 16
"""Chunks handled in one step if so many wait; 1 MiB of the usual size."""
IDLE_SECONDS = 30.0
"""Longest sleep."""

Answer = Callable[[ControlReply], None]
Work = Callable[[], e.Event | None]


class Log(Protocol):
    """Writes one line of the log."""

    def __call__(self, text: str, *, serious: bool = ..., about: Any = ...) -> None:
        """Write it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the loop acts through.

    Attributes:
        work: Has slow work done elsewhere; its event is handed to the loop when it is ready.
        find_runtimes: Asks the runners' interpreter; slow.
        birth: Who the device is; session, runtimes and free space are filled in.
        rss_bytes: Asks for this process's memory.
        range_source: Makes what fetches by HTTPS, on first use.
    """

    storage: Storage
    transport: Transport
    arrivals: Arrivals
    clock: Clock
    bundles: Bundles
    runners: Runners
    work: Callable[[Work], None]
    find_runtimes: Callable[[], tuple[RuntimeAvailable, ...]]
    birth: Birth
    rss_bytes: Callable[[], int | None]
    log: Log
    range_source: Callable[[], RangeSource] | None = None


class AgentLoop:
    """Runs one agent."""

    def __init__(
        self, agent: Agent, context: Context, parts: Parts, inbox: "queue.SimpleQueue[e.Event | None]"
    ) -> None:
        self.agent = agent
        self._context = context
        self._parts = parts
        self._inbox = inbox
        self._asks: dict[int, Answer] = {}
        self._ask_lock = threading.Lock()
        self._ask_count = 0
        self._ahead: e.Event | None = None
        self._deferred: deque[tuple[float, e.Event]] = deque(maxlen=DEFERRED_MAX)
        self._look_at = 0.0
        self._wake_at = parts.clock.monotonic()
        self._resending = Resending()
        self._source: RangeSource | None = None
        self._range: str | None = None
        self._performers = self._table()

    # --- taking events in ---

    def ask(self, request: ControlRequest, answer: Answer) -> None:
        """Take a technician's request; any thread. ``answer`` is called once, from the loop's thread."""
        with self._ask_lock:
            self._ask_count += 1
            number = self._ask_count
            self._asks[number] = answer
        self._inbox.put(e.ControlAsked(number, request))

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop`` is set; the runners are gone when this returns."""
        try:
            while not stop.is_set():
                self.turn(self._sleep_seconds())
        finally:
            self._parts.runners.stop_all()
            self.close_source()

    def turn(self, timeout: float = 0.0) -> bool:
        """Wait for something to happen, handle everything that did, and return whether anything did."""
        event = self._next(timeout)
        busy = event is not None
        while event is not None:
            self.handle(self._gathered(event))
            event = self._next(0.0)
        return self._on_time() or busy

    def _gathered(self, event: e.Event) -> e.Event:
        """Return chunks together with those that wait right behind them; anything else as it is."""
        chunks: list[Chunk] = []
        ahead: e.Event | None = event
        while isinstance(ahead, e.ChunksDelivered) and len(chunks) < BATCH_CHUNKS:
            chunks += ahead.chunks
            ahead = self._next(0.0)
        if not chunks:
            return event
        self._ahead = ahead
        return e.ChunksDelivered(tuple(chunks))

    def _next(self, timeout: float) -> e.Event | None:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        try:
            return self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def _sleep_seconds(self) -> float:
        times = [self._wake_at, self._resending.due, *(at for at, _ in self._deferred)]
        if self._parts.runners:
            times.append(self._look_at)
        return max(0.0, min(times) - self._parts.clock.monotonic())

    def _on_time(self) -> bool:
        now = self._parts.clock.monotonic()
        due = [event for at, event in self._deferred if at <= now]
        self._deferred = deque(((at, event) for at, event in self._deferred if at > now), maxlen=DEFERRED_MAX)
        looks = self._looks(now)
        ticks = (e.Tick(),) if self._wake_at <= now else ()
        for event in (*due, *looks, *ticks):
            self.handle(event)
        self._wake_at = min(next_wake(self.agent, now) or now + IDLE_SECONDS, now + IDLE_SECONDS)
        self._resend(now)
        return bool(due or looks or ticks)

    def _looks(self, now: float) -> tuple[e.Event, ...]:
        if not self._parts.runners or now < self._look_at:
            return ()
        self._look_at = now + self._context.settings.runner.health_interval_seconds
        return tuple(self._parts.runners.look(now))

    def _resend(self, now: float) -> None:
        if not self.agent.connected:
            self._resending = Resending()  # everything is sent again at the next connection
            return
        self._resending, due = resend(self._resending, self.agent.outbox, now, self._context.jitter)
        if due:
            self._resend_reports(fx.ResendReports(self.agent.outbox))

    # --- one event ---

    def handle(self, event: e.Event) -> None:
        """Have the core decide about one event, and do what it says."""
        clock = self._parts.clock
        agent, effects = step(self.agent, event, self._context, now=clock.monotonic(), wall=clock.now())
        saved: list[str] = []
        for effect in effects:
            try:
                self._performers[type(effect)](effect)
            except StorageError as error:
                if isinstance(effect, fx.Persist):
                    self._undo(event, saved, error)
                    return
                self._failed(effect, error)
            if isinstance(effect, fx.SaveReport):
                saved.append(effect.id)
        self.agent = agent
        self._cancel_unwanted()

    def _undo(self, event: e.Event, saved: Iterable[str], error: StorageError) -> None:
        """Have the event handled again later: a step whose state was not written did not happen."""
        for name in saved:
            try:
                self._parts.storage.remove(places.report(name))
            except StorageError as left:  # noqa: PERF203 - each is tried; the host hears of one once too often
                self._parts.log(str(left), serious=True)
        self._inbox.put(e.StateNotWritten(isinstance(error, StorageFullError), f"the state cannot be written: {error}"))
        if isinstance(event, e.ControlAsked):
            self._answer(event.ask, ControlReply(ok=False, error=str(error), hint=error.hint))
        elif isinstance(event, e.StoreFailed) and is_fetching(self.agent):
            pass  # the download is put off as a whole; heard later, this would hit its next attempt
        elif not isinstance(event, e.RunnerSeen | e.Tick):
            self._deferred.append((self._parts.clock.monotonic() + PAUSE_UNWRITTEN_SECONDS, event))

    def _failed(self, effect: fx.Effect, error: StorageError) -> None:
        full = isinstance(error, StorageFullError)
        if isinstance(effect, fx.Link | fx.Reserve):
            self._inbox.put(e.StoreFailed(effect.manifest, full, str(error)))
        elif isinstance(effect, fx.FrontRunner):
            self._inbox.put(e.RunnerNotFronted(effect.key, str(error), full))
        else:
            self._parts.log(f"{type(effect).__name__}: {error}", serious=True)

    # --- the effects ---

    def _table(self) -> dict[type, Callable[[Any], None]]:
        storage, transport, bundles, runners = (
            self._parts.storage,
            self._parts.transport,
            self._parts.bundles,
            self._parts.runners,
        )
        return {
            fx.SaveReport: lambda f: storage.write(places.report(f.id), f.payload),
            fx.SendReport: lambda f: self._publish_report(f.payload),
            fx.DropReports: self._drop_reports,
            fx.ResendReports: self._resend_reports,
            fx.Persist: lambda f: storage.write(places.STATE, encode_state(f.state)),
            fx.Subscribe: lambda f: transport.subscribe((topic, f.qos) for topic in f.topics),
            fx.Unsubscribe: lambda f: transport.unsubscribe(f.topics),
            fx.Publish: lambda f: transport.publish(f.topic, f.payload, qos=1, retain=True),
            fx.PublishBirth: self._publish_birth,
            fx.FindRuntimes: lambda _: self._work(lambda: e.RuntimesFound(self._parts.find_runtimes())),
            fx.CheckSlots: lambda f: self._work(lambda: bundles.check(f.manifests)),
            fx.ReadManifest: lambda f: self._work(lambda: e.ManifestRead(f.manifest, bundles.manifest(f.manifest))),
            fx.TakeSurvey: lambda f: self._work(lambda: e.Surveyed(bundles.survey(f)), f.manifest),
            fx.Link: lambda f: storage.link(f.source, f.target),
            fx.Reserve: lambda f: storage.reserve(f.name, f.size),
            fx.ExpectChunks: lambda f: self._parts.arrivals.expect(f.manifest, f.pieces),
            fx.FetchRange: self._fetch_range,
            fx.StoreBundle: lambda f: self._work(lambda: bundles.store(f), f.manifest),
            fx.OpenBundle: lambda f: self._work(lambda: self._opened(f)),
            fx.ExtractBundle: lambda f: self._work(
                lambda: e.BundleExtracted(f.manifest, bundles.extract(f.content, f.path)), f.manifest
            ),
            fx.DiscardDownload: lambda f: bundles.discard(f.content),
            fx.CollectGarbage: lambda f: self._work(lambda: bundles.collect(f.keep_bundles, f.keep_downloads)),
            fx.StartRunner: self._start_runner,
            fx.StopRunner: lambda f: runners.stop(f.key),
            fx.RetireRunner: lambda f: runners.retire(f.key, self._parts.clock.monotonic() + f.seconds),
            fx.FrontRunner: lambda f: runners.front(f.key, f.name, f.target),
            fx.CloseFront: lambda f: runners.close_front(f.model, f.name),
            fx.Reply: lambda f: self._answer(f.ask, f.reply),
            fx.Say: lambda f: self._parts.log(f.text, serious=f.serious, about=f.about),
        }

    def _work(self, work: Work, manifest: str | None = None) -> None:
        """Have slow work done; a failure of the storage under it becomes an event."""

        def guarded() -> e.Event | None:
            try:
                return work()
            except StorageError as error:
                self._parts.log(str(error), serious=True)
                full = isinstance(error, StorageFullError)
                return e.StoreFailed(manifest, full, str(error)) if manifest else None

        self._parts.work(guarded)

    def _fetch_range(self, effect: fx.FetchRange) -> None:
        if self._source is None and self._parts.range_source is not None:
            self._source = self._parts.range_source()
        if self._source is None:
            self._inbox.put(e.RangeEnded(effect.key, "nothing here fetches by HTTPS"))
            return
        self._cancel(effect.key)
        self._source.begin(effect)

    def _cancel_unwanted(self) -> None:
        if self._range is not None:
            wanted = range_wanted(self.agent)
            if wanted != self._range:
                self._cancel(wanted)
        if not is_fetching(self.agent):
            self.close_source()

    def close_source(self) -> None:
        """Stop what comes by HTTPS, and keep no connection."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _cancel(self, instead: str | None) -> None:
        if self._range is not None and self._source is not None:
            self._source.cancel()
        self._range = instead

    def _opened(self, effect: fx.OpenBundle) -> e.Event:
        found = self._parts.bundles.opened(effect.path)
        if isinstance(found, Refusal):
            return e.BundleOpened(effect.ask, effect.path, None, found)
        return e.BundleOpened(effect.ask, effect.path, found[0], roots=found[1])

    def _start_runner(self, effect: fx.StartRunner) -> None:
        failed = self._parts.runners.start(effect.key, effect.spec, effect.mode)
        if failed is not None:
            self._inbox.put(failed)

    def _publish_report(self, payload: bytes) -> None:
        self._parts.transport.publish(self._topic(DeviceTopic.REPORT), payload, qos=1, retain=False)

    def _topic(self, kind: DeviceTopic) -> str:
        return topics.device(self._context.settings.fleet, self._context.settings.device, kind)

    def _drop_reports(self, effect: fx.DropReports) -> None:
        for name in effect.ids:
            self._parts.storage.remove(places.report(name))

    def _resend_reports(self, effect: fx.ResendReports) -> None:
        for name in effect.ids:
            payload = self._parts.storage.read(places.report(name))
            if payload is not None:
                self._publish_report(payload)

    def _publish_birth(self, effect: fx.PublishBirth) -> None:
        free = self._parts.storage.free_bytes()
        birth = replace(self._parts.birth, session=effect.session, runtimes=effect.runtimes, disk_free_bytes=free)
        self._parts.transport.publish(self._topic(DeviceTopic.BIRTH), codec.encode(birth), qos=1, retain=True)

    def _answer(self, ask: int, reply: ControlReply) -> None:
        with self._ask_lock:
            answer = self._asks.pop(ask, None)
        if answer is not None:
            free, rss = self._parts.storage.free_bytes(), self._parts.rss_bytes()
            answer(complete(reply, disk_free_bytes=free, rss_bytes=rss))
