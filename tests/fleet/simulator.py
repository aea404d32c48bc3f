"""A fleet in memory: a broker with faults, devices that follow desired state, a clock moved by hand.

The devices keep the wire contract and nothing else of the agent: they are a second, tiny
implementation of it, so the host is not tested against its own idea of a device.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from edgepick_host.core.checks import PREFIX
from edgepick_host.core.records import Release
from edgepick_host.core.release import measure_request
from edgepick_host.core.rollout import begin
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.waves import Plan
from edgepick_host.ports import SignDocument, Store
from edgepick_host.service.coordinator import LEASE_SECONDS, Coordinator
from edgepick_host.service.requests import find_rollout, save_rollout
from edgepick_profiles.schema import Budgets
from edgepick_wire import codec, topics
from edgepick_wire.envelope import DocumentType, Envelope, pack, unpack
from edgepick_wire.messages import (
    Ack,
    Assignment,
    Desired,
    MeasureRequest,
    ModelState,
    Outcome,
    Phase,
    Presence,
    Report,
    Reported,
    TargetKind,
)
from edgepick_wire.metrics import MeasurePlan
from edgepick_wire.topics import DeviceTopic
from fakes.store import MemoryStore
from fleet.synthetic import birth, fell_back, installed, measured, measurement, quads_of, refusal

FLEET = "sim"
STUCK = (Phase.FETCHING, Phase.TRIAL, Phase.CONFIRMING)


class PowerCut(BaseException):
    """The host process ends here, in the middle of whatever it does."""


@dataclass
class ManualClock:
    time: float = 1000.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time


def sign(kind: DocumentType, payload: bytes) -> Envelope:
    return Envelope(type=kind, payload=payload, signatures=())


def matches(pattern: str, topic: str) -> bool:
    want, have = pattern.split("/"), topic.split("/")
    return len(want) == len(have) and all(w in ("+", h) for w, h in zip(want, have, strict=True))


@dataclass
class Air:
    """The broker itself: retained messages, and messages on their way.

    Per topic the order holds, as MQTT promises; between topics there is none. A message that is
    not retained may be lost or doubled, as across a reconnect.
    """

    rng: random.Random
    loss: float = 0.0
    doubling: float = 0.0
    retained: dict[str, bytes] = field(default_factory=dict)
    pending: dict[str, list[bytes]] = field(default_factory=dict)
    listeners: list[tuple[tuple[str, ...], Callable[[str, bytes], None]]] = field(default_factory=list)

    def listen(self, patterns: tuple[str, ...], deliver: Callable[[str, bytes], None]) -> None:
        """Deliver these topics from now on, beginning with what is retained."""
        self.listeners = [entry for entry in self.listeners if entry[1] != deliver]
        self.listeners.append((patterns, deliver))
        for topic, payload in list(self.retained.items()):
            if any(matches(p, topic) for p in patterns):
                deliver(topic, payload)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if retain:
            self.retained[topic] = payload
        elif self.rng.random() < self.loss:
            return
        copies = 2 if self.rng.random() < self.doubling else 1
        self.pending.setdefault(topic, []).extend([payload] * copies)

    def pump(self) -> None:
        while self.pending:
            topic = self.rng.choice(sorted(self.pending))
            payload = self.pending[topic].pop(0)
            if not self.pending[topic]:
                del self.pending[topic]
            for patterns, deliver in list(self.listeners):
                if any(matches(p, topic) for p in patterns):
                    deliver(topic, payload)


@dataclass
class HostBroker:
    """The host's end: keeps the Broker port; ``before`` is called before every operation."""

    air: Air
    before: Callable[[], None] = lambda: None

    def connect(self, *, timeout_seconds: float = 10.0) -> None: ...

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self.before()
        self.air.publish(topic, payload, retain=retain)

    def publish_many(
        self, messages: Iterable[tuple[str, bytes]], *, on_done: Callable[[int], None], retain: bool = True
    ) -> None:
        for count, (topic, payload) in enumerate(messages, start=1):
            self.publish(topic, payload, retain=retain)
            on_done(count)

    def subscribe(self, topics_: Sequence[str], on_message: Callable[[str, bytes], None]) -> None:
        self.air.listen(tuple(topics_), on_message)

    def shares(self, topic: str) -> bool:
        return False

    def retained(self, topics_: Sequence[str], *, quiet_seconds: float = 0.5) -> dict[str, bytes]:
        return {t: p for t, p in self.air.retained.items() if any(matches(f, t) for f in topics_)}

    def close(self) -> None: ...


@dataclass
class Script:
    """How a device behaves with one variant.

    "good", "wrong" (golden), "crash" (after confirming), "silent" (gone), or stuck while online: "ignores" it,
    "fetching", "trial", "confirming".
    """

    behaviour: str = "good"
    p50_ms: float = 10.0
    installed_ms: float | None = None
    """How fast it is where it has been installed, if not as fast as before."""


@dataclass
class SimDevice:
    name: str
    profile: str
    air: Air
    scripts: dict[str, Script]
    running: str | None = None
    online: bool = True
    session: int = 0
    own: Desired | None = None
    common: Desired | None = None
    state: ModelState = field(default_factory=lambda: ModelState(model="digits", phase=Phase.EMPTY))
    outbox: dict[str, Report] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    gave_up: set[tuple[str, str | None]] = field(default_factory=set)
    started: list[str] = field(default_factory=list)
    crash_in: int | None = None
    counter: int = 0
    pairs: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    model: str = "digits"
    twin: "SimDevice | None" = None
    """The same device's other model; the two take turns and report together."""

    def __post_init__(self) -> None:
        self.state = replace(self.state, model=self.model)

    def boot(self) -> None:
        self.session += 1
        self.online = True
        if self.running and self.state.phase is Phase.EMPTY:
            self.state = ModelState(model=self.model, phase=Phase.CONFIRMED, active=self.running)
        patterns = (
            topics.device(FLEET, self.name, DeviceTopic.DESIRED),
            topics.profile_desired(FLEET, self.profile),
            topics.device(FLEET, self.name, DeviceTopic.ACK),
            topics.host(FLEET),
        )
        born = birth(self.name, self.profile, session=self.session, pairs=self.pairs, labels=self.labels)
        self._send(DeviceTopic.BIRTH, born)
        self._send(DeviceTopic.PRESENCE, Presence(session=self.session, online=True))
        self._report_state()
        self.air.listen(patterns, self._hear)

    def vanish(self) -> None:
        """Lose the network; the broker sends the last will."""
        if self.online:
            self.online = False
            self._send(DeviceTopic.PRESENCE, Presence(session=self.session, online=False))

    def act(self) -> None:
        """Do one small piece of work."""
        if not self.online:
            return
        for report in self.outbox.values():
            self._publish_report(report)
        assignment = self._assignment()
        if assignment is None:
            return
        self._install(assignment)
        self._measure(assignment)
        if self.crash_in is not None:
            self._count_down()

    def _assignment(self) -> Assignment | None:
        found = [d for d in (self.own, self.common) if d]
        document = max(found, key=lambda d: d.sequence, default=None)
        return next((m for m in document.models if m.model == self.model), None) if document else None

    def _measure(self, assignment: Assignment) -> None:
        order = next((o for o in assignment.measure if o.id not in self.done), None)
        if order is None:
            return
        self.done.add(order.id)
        script = self.scripts.get(order.manifest, Script())
        if script.behaviour == "refuses":
            result = refusal()
        else:
            late = script.installed_ms if order.id.startswith(PREFIX) else None
            ms = script.p50_ms if late is None else late
            result = measurement(ms, p95_ms=1.2 * ms, golden=script.behaviour != "wrong")
        release = Release(
            model=self.model, version="", variant=order.manifest[:8], manifest=order.manifest, profiles=(),
            size_bytes=1, security_epoch=0, accuracy=None, accuracy_drop=None, rank=0, published_at=0.0,
        )  # fmt: skip
        report = measured(self.name, release, result, number=self._next(), session=self.session)
        report = replace(report, measurement=replace(report.measurement, request=order.id))
        if order.pair is not None:
            report = self._beside(report, order, script)
        self._file(report)

    def _beside(self, report: Report, order: MeasureRequest, script: Script) -> Report:
        """Return the report with quads, if the device knows how and runs what it is to compare with."""
        answer = replace(report.measurement, request=order.id)
        if self.pairs and answer.measurement and order.pair.against == self.state.active:
            ratio = script.p50_ms / self.scripts.get(self.state.active, Script()).p50_ms
            run = quads_of(self.name, order.pair, ratio)
            answer = replace(answer, measurement=replace(answer.measurement, paired=run))
        return replace(report, measurement=answer)

    def _install(self, assignment: Assignment) -> None:
        wanted, rollout = assignment.active, assignment.rollout
        if wanted is None or (wanted, rollout) in self.gave_up:
            return
        if wanted == self.state.active:
            if (self.state.wanted, self.state.rollout, self.state.phase) != (wanted, rollout, Phase.CONFIRMED):
                self._become(phase=Phase.CONFIRMED, wanted=wanted, rollout=rollout)
            return
        behaviour = self.scripts.get(wanted, Script()).behaviour
        self.started.append(wanted)
        if behaviour == "silent":
            self.online = False  # and no last will: the broker has not noticed yet
        elif behaviour == "wrong":
            self._give_up(wanted, rollout)
        elif behaviour in STUCK:
            self.gave_up.add((wanted, rollout))
            self._become(phase=Phase(behaviour), wanted=wanted, rollout=rollout)
        elif behaviour == "ignores":
            self.gave_up.add((wanted, rollout))
        else:
            self._activate(wanted, rollout)
            self.crash_in = 3 if behaviour == "crash" else None

    def _give_up(self, wanted: str, rollout: str | None) -> None:
        self.gave_up.add((wanted, rollout))
        self._become(phase=Phase.REVERTED, wanted=wanted, rollout=rollout, refusal=refusal())
        self._file(installed(self.name, wanted, Outcome.REVERTED, rollout=rollout, number=self._next()))

    def _activate(self, wanted: str, rollout: str | None) -> None:
        previous, self.running = self.state.active, wanted
        self._become(phase=Phase.CONFIRMED, active=wanted, previous=previous, wanted=wanted, rollout=rollout)
        self._file(installed(self.name, wanted, Outcome.CONFIRMED, rollout=rollout, number=self._next()))

    def _count_down(self) -> None:
        self.crash_in = (self.crash_in or 0) - 1
        if self.crash_in > 0:
            return
        self.crash_in = None
        bad, rollout = self.state.active, self.state.rollout
        self.gave_up.add((bad or "", rollout))
        self.running = self.state.previous
        self._become(phase=Phase.REVERTED, active=self.state.previous, previous=bad, wanted=bad, rollout=rollout)
        self._file(fell_back(self.name, bad or "", number=self._next()))

    def _become(self, **changes: object) -> None:
        values = {"active": self.state.active, "previous": self.state.previous, **changes}
        self.state = ModelState(model=self.model, **values)  # type: ignore[arg-type]
        self._report_state()

    def _report_state(self) -> None:
        sequence = max((d.sequence for d in (self.own, self.common) if d), default=0)
        states = (self.state, *((self.twin.state,) if self.twin else ()))
        models = tuple(state for state in states if state.phase is not Phase.EMPTY)
        reported = Reported(device=self.name, session=self.session, sequence=sequence, security_epoch=0, models=models)
        self._send(DeviceTopic.REPORTED, reported)

    def _file(self, report: Report) -> None:
        parts = {"install": report.install, "incident": report.incident}
        report = replace(report, **{k: part and replace(part, model=self.model) for k, part in parts.items()})
        self.outbox[report.id] = report
        self._publish_report(report)

    def _publish_report(self, report: Report) -> None:
        topic = topics.device(FLEET, self.name, DeviceTopic.REPORT)
        self.air.publish(topic, codec.encode(report), retain=False)

    def _send(self, kind: DeviceTopic, message: object) -> None:
        self.air.publish(topics.device(FLEET, self.name, kind), codec.encode(message), retain=True)

    def _hear(self, topic: str, payload: bytes) -> None:
        if not self.online:
            return
        if topic.endswith("/ack"):
            for name in codec.decode(Ack, payload).ids:
                self.outbox.pop(name, None)
        elif topic.endswith("/desired"):
            self._follow(codec.decode(Desired, unpack(payload).payload))

    def _follow(self, desired: Desired) -> None:
        if desired.target_kind is TargetKind.DEVICE and desired.sequence > (self.own.sequence if self.own else 0):
            self.own = desired
        if desired.target_kind is TargetKind.PROFILE and desired.sequence > (
            self.common.sequence if self.common else 0
        ):
            self.common = desired

    def _next(self) -> int:
        self.counter += 1
        return self.counter


def publish(
    store: Store, releases: Iterable[Release], *, sign: SignDocument, send: Callable[[str, bytes], None]
) -> None:
    """Do what `edgepick publish` does to the store and the profiles."""
    releases = tuple(releases)
    for release in releases:
        store.save_release(release, b"signed")
    for profile in sorted({p for r in releases for p in r.profiles}):
        before = store.desired(TargetKind.PROFILE, profile)
        model = releases[0].model
        said = {m.model: m for m in before.models} if before else {}
        old = said.get(model, Assignment(model=model))
        mine = [measure_request(r.manifest, MeasurePlan()) for r in releases if profile in r.profiles]
        orders = tuple({o.id: o for o in (*old.measure, *mine)}.values())
        desired = Desired(
            fleet=FLEET,
            target_kind=TargetKind.PROFILE,
            target=profile,
            sequence=store.next_sequence(),
            issued_at=0.0,
            models=tuple((said | {model: replace(old, measure=orders)}).values()),
        )
        store.save_desired(desired)
        send(topics.profile_desired(FLEET, profile), pack(sign(DocumentType.DESIRED, codec.encode(desired))))


class World:
    """A store, a broker, devices and a clock; coordinators come and go."""

    def __init__(self, *, seed: int = 0, loss: float = 0.0, doubling: float = 0.0, budgets: Budgets | None = None):
        self.air = Air(rng=random.Random(seed), loss=loss, doubling=doubling)
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.devices: dict[str, SimDevice] = {}
        self.budgets = budgets or Budgets(latency_p95_ms=100.0)
        self.lines: list[str] = []
        self.host: Coordinator | None = None
        self.hosts = 0

    def add(
        self,
        count: int,
        profile: str = "pi",
        *,
        running: Release | None = None,
        pairs: bool = False,
        labels: dict[str, str] | None = None,
        **scripts: Script,
    ) -> None:
        for number in range(count):
            name = f"{profile}-{len(self.devices)}-{number}"
            device = SimDevice(
                name=name,
                profile=profile,
                air=self.air,
                scripts=dict(scripts),
                running=running.manifest if running else None,
                pairs=pairs,
                labels=labels or {},
            )
            device.boot()
            self.devices[name] = device

    def publish(self, *releases: Release) -> None:
        """Do what `edgepick publish` does to the store, the profiles and what the broker keeps."""
        kept = [topics.root(FLEET), *(topics.manifest(FLEET, release.manifest) for release in releases)]
        self.air.retained |= dict.fromkeys(kept, b"signed")
        publish(self.store, releases, sign=sign, send=lambda t, p: self.air.publish(t, p, retain=True))

    def start(self, plan: Plan, rollout: str = "r-1", model: str = "digits") -> None:
        seen = self.store.report_count(model=model)
        save_rollout(self.store, begin(rollout, model, plan, now=self.clock.now(), reports_seen=seen))

    def host_up(self, store: MemoryStore | None = None, before: Callable[[], None] = lambda: None) -> Coordinator:
        self.hosts += 1
        self.air.listeners = [entry for entry in self.air.listeners if "+" not in "".join(entry[0])]
        self.clock.time += LEASE_SECONDS + 1
        self.host = Coordinator(
            fleet=FLEET,
            store=store or self.store,
            broker=HostBroker(self.air, before),
            sign=sign,
            clock=self.clock,
            budgets_of=lambda _profile: self.budgets,
            holder=f"host-{self.hosts}",
            session=self.hosts,
            say=self.lines.append,
        )
        self.host.start()
        return self.host

    def turn(self) -> None:
        for device in self.devices.values():
            device.act()
            if device.twin is not None:
                device.twin.act()
        self.air.pump()
        if self.host is not None:
            self.host.step(0)
        self.air.pump()
        self.clock.time += 1

    def run(self, *, turns: int = 400, rollout: str = "r-1") -> RolloutState:
        """Let time pass until the rollout has ended, and a little longer."""
        for _ in range(turns):
            self.turn()
            if self.rollout(rollout).settled:
                break
        for _ in range(5):
            self.turn()
        return self.rollout(rollout)

    def rollout(self, rollout: str = "r-1") -> RolloutState:
        return find_rollout(self.store, rollout)

    def running(self) -> dict[str, str | None]:
        return {name: device.state.active for name, device in self.devices.items()}
