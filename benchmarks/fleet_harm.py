"""A bad variant over many seeds: how much of the fleet has been told to run it when the host has stopped it.

Everything is in this process: the real coordinator, the real core of simulated devices, a store and a broker in
memory, and a clock that is moved. Nothing is signed, and devices run the old variant from the beginning.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from verdicts import Figure

from edgepick_host.core.gates import Policy
from edgepick_host.core.records import Release
from edgepick_host.core.rollout import begin
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.waves import Plan
from edgepick_host.service.coordinator import Coordinator
from edgepick_host.service.requests import find_rollout, save_rollout
from edgepick_host.simulate import sayings
from edgepick_host.simulate.device import step
from edgepick_host.simulate.scenario import Behaviour, Identity, Kind, Pace, Scenario, identities
from edgepick_host.simulate.state import (
    Acknowledged,
    DeviceState,
    Due,
    Event,
    HostSeen,
    Known,
    Obtain,
    Obtained,
    Send,
    Told,
    Vanish,
    Wake,
)
from edgepick_profiles.schema import Budgets
from edgepick_wire import codec, topics
from edgepick_wire.envelope import unpack
from edgepick_wire.messages import Ack, Desired, ModelState, Phase, Presence
from edgepick_wire.topics import DeviceTopic
from fakes.store import MemoryStore
from fleet.simulator import FLEET, HostBroker, ManualClock, matches, sign
from fleet.synthetic import release

PROFILE = "generic-linux"
MODEL = "digits"
MOST_SEEN = 2.0
STEP_SECONDS = 1.0
LIMIT_SECONDS = 3600.0
OLD = release("float32", version="1", profiles=(PROFILE,))


class PlainStore(MemoryStore):
    """A store whose transactions always succeed, so that none has to remember how it was before."""

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make one transaction."""
        yield


@dataclass(slots=True)
class Place:
    """A device in this process."""

    identity: Identity
    state: DeviceState
    told: bool = False


@dataclass
class Air:
    """A broker that passes everything on at once, in order; what the fleets of tests use of theirs."""

    retained: dict[str, bytes] = field(default_factory=dict)
    listeners: list[tuple[tuple[str, ...], Callable[[str, bytes], None]]] = field(default_factory=list)
    to_devices: deque[tuple[str, bytes]] = field(default_factory=deque)

    def listen(self, patterns: tuple[str, ...], deliver: Callable[[str, bytes], None]) -> None:
        """Deliver these topics from now on, beginning with what is retained."""
        self.listeners.append((patterns, deliver))
        for topic, payload in list(self.retained.items()):
            if any(matches(pattern, topic) for pattern in patterns):
                deliver(topic, payload)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Hand a message on."""
        if retain:
            self.retained[topic] = payload
        self.to_devices.append((topic, payload))
        for patterns, deliver in self.listeners:
            if any(matches(pattern, topic) for pattern in patterns):
                deliver(topic, payload)


class World:
    """A coordinator and a fleet that runs the old variant."""

    def __init__(self, scenario: Scenario, devices: int, releases: Iterable[Release], bad: str) -> None:
        self.clock = ManualClock()
        self.air = Air()
        self.store = PlainStore()
        self.bad = bad
        self.known = {r.manifest: Known(variant=r.variant, size=r.size_bytes, chunks=2) for r in releases}
        self.calls: list[tuple[float, int, Place]] = []
        self.order = 0
        self.places = [Place(identity, _settled(identity, self.known)) for identity in identities(scenario, devices)]
        self.by_name = {place.identity.name: place for place in self.places}
        for made in releases:
            self.store.save_release(made, b"signed")
        for place in self.places:
            self._introduce(place)

    def _introduce(self, place: Place) -> None:
        now = self.clock.now()
        self.store.heard_birth(sayings.birth(place.identity, 1), now)
        self.store.heard_presence(place.identity.name, Presence(session=1, online=True), now)
        self.store.heard_reported(sayings.reported(place.identity, place.state), now)

    def run(self, plan: Plan, rollout: str) -> RolloutState:
        """Return the rollout when it has ended."""
        save_rollout(self.store, begin(rollout, MODEL, plan, now=self.clock.now()))
        host = Coordinator(
            fleet=FLEET,
            store=self.store,
            broker=HostBroker(self.air),  # type: ignore[arg-type]
            sign=sign,
            clock=self.clock,
            budgets_of=lambda _profile: Budgets(latency_p95_ms=1000.0),
            holder="host",
            session=1,
            say=lambda _text: None,
        )
        host.start()
        end = self.clock.now() + LIMIT_SECONDS
        while self.clock.now() < end and not find_rollout(self.store, rollout).settled:
            host.step(0)
            self._live()
            self.clock.time += STEP_SECONDS
        return find_rollout(self.store, rollout)

    @property
    def seen_percent(self) -> float:
        """Share of the fleet that was ever told to run the bad variant."""
        return 100 * sum(place.told for place in self.places) / len(self.places)

    def _live(self) -> None:
        """Let every device hear what was sent, and do what is due."""
        now = self.clock.now()
        while self.air.to_devices:
            self._hear(*self.air.to_devices.popleft())
        while self.calls and self.calls[0][0] <= now:
            _, _, place = heapq.heappop(self.calls)
            self._give(place, Due(now=now))

    def _hear(self, topic: str, payload: bytes) -> None:
        now = self.clock.now()
        if topic == topics.host(FLEET):
            for place in self.places:
                self._give(place, HostSeen(now=now, presence=codec.decode(Presence, payload)))
        elif topic == topics.profile_desired(FLEET, PROFILE):
            desired = codec.decode(Desired, unpack(payload).payload)
            for place in self.places:
                self._tell(place, desired)
        elif topic.endswith("/desired"):
            desired = codec.decode(Desired, unpack(payload).payload)
            self._tell(self.by_name[desired.target], desired)
        elif topic.endswith("/ack"):
            address = topics.parse_device(FLEET, topic)
            self._give(self.by_name[address.device], Acknowledged(now=now, ids=codec.decode(Ack, payload).ids))

    def _tell(self, place: Place, desired: Desired) -> None:
        self._give(place, Told(now=self.clock.now(), desired=desired))
        holding = place.state.holding
        place.told |= any(m.active == self.bad for m in (holding.models if holding else ()))

    def _give(self, place: Place, event: Event) -> None:
        place.state, actions = step(place.identity, place.state, event)
        for action in actions:
            match action:
                case Send():
                    topic = topics.device(FLEET, place.identity.name, action.kind)
                    self.air.publish(topic, action.payload, retain=action.retain)
                case Wake():
                    self.order += 1
                    heapq.heappush(self.calls, (action.at, self.order, place))
                case Obtain():
                    known = self.known.get(action.manifest)
                    self._give(place, Obtained(now=self.clock.now(), manifest=action.manifest, known=known))
                case Vanish():
                    topic = topics.device(FLEET, place.identity.name, DeviceTopic.PRESENCE)
                    self.air.publish(topic, codec.encode(Presence(session=1, online=False)), retain=True)


def _settled(identity: Identity, known: dict[str, Known]) -> DeviceState:
    """Return a device that runs the old variant."""
    del identity
    state = ModelState(model=MODEL, phase=Phase.CONFIRMED, active=OLD.manifest, active_label=OLD.variant)
    return DeviceState(online=True, models={MODEL: state}, known={OLD.manifest: known[OLD.manifest]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A bad variant and the rollout that is to stop it.

    Attributes:
        name: For people.
        devices: Size of the fleet.
        version: Of the bad variant; that of the old one is 1.
        behaviour: What is bad about it.
        plan: Of the rollout.
        pace: How long things take; a crash comes within the soak.
    """

    name: str
    devices: int
    version: str
    behaviour: Behaviour
    plan: Plan
    pace: Pace = field(default_factory=Pace)

    def one(self, seed: int) -> tuple[float, RolloutState]:
        """Return the share of the fleet that has seen the bad variant, in percent, and how it ended."""
        bad = release("int8", version=self.version, profiles=(PROFILE,), size=50_000)
        kind = Kind(profile=PROFILE, variants={"int8": self.behaviour})
        scenario = Scenario(seed=seed, strata=(kind,), pace=self.pace)
        world = World(scenario, self.devices, (OLD, bad), bad.manifest)
        end = world.run(self.plan, f"r-{seed}")
        return world.seen_percent, end


CAREFUL = Plan(version="2", variant="int8", canary=150, waves=(0.02, 0.1, 0.5, 1.0), max_failures=0.02, soak_seconds=20)
"""150 of 10,000 first: 5 % crash leaves all of them well with probability 0.0005."""
CASES = (
    Case(
        name="crashes on 5 % of devices",
        devices=10_000,
        version="2",
        behaviour=Behaviour(crash=0.05),
        plan=CAREFUL,
        pace=Pace(crash=10.0),
    ),
    Case(
        name="10 % slower, same version",
        devices=300,
        version="1",
        behaviour=Behaviour(latency=1.1),
        plan=Plan(version="1", canary=3, waves=(0.02, 0.1, 0.5, 1.0)),
    ),
    Case(
        name="10 % slower, next version, at most 5 % slower allowed",
        devices=300,
        version="2",
        behaviour=Behaviour(latency=1.1),
        plan=Plan(
            version="2",
            canary=3,
            waves=(0.02, 0.1, 0.5, 1.0),
            policy=Policy(max_regression=0.05),
        ),
    ),
)


def figures(seeds: int, say: Callable[[str], None]) -> list[Figure]:
    """Return, for each bad variant, the most of the fleet that has seen it, over all seeds."""
    found = []
    for case in CASES:
        runs = []
        for seed in range(seeds):
            runs.append(case.one(seed))
            if (seed + 1) % 10 == 0:
                say(f"{case.name}: {seed + 1} of {seeds} seeds, at most {max(share for share, _ in runs):.2f} % so far")
        through = sum(end.stage is Stage.DONE and share > 0 for share, end in runs)
        name = f"{case.name}, {case.devices:,} devices, {seeds} seeds"
        found += [
            Figure(name=f"{name}: most that has seen it", found=max(s for s, _ in runs), unit="%", at_most=MOST_SEEN),
            Figure(name=f"{name}: rollouts that went through", found=through, at_most=0),
        ]
    return found
