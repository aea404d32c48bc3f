"""What the host's service promises about reports, desired state, and there being only one of it."""

import pytest

from edgepick_host.core.rollout_state import Stage
from edgepick_host.core.waves import Plan
from edgepick_host.errors import BusyError, UnreachableError
from edgepick_host.service.coordinator import LEASE_SECONDS, free_lease, host_presence, take_lease
from edgepick_host.service.desk import Desk
from edgepick_host.service.fleet_table import FleetTable
from edgepick_host.service.inbox import Inbox
from edgepick_host.service.report_log import ReportLog
from edgepick_host.service.requests import lease_holder
from edgepick_wire import codec, topics
from edgepick_wire.envelope import unpack
from edgepick_wire.messages import Ack, Assignment, Desired, Presence, TargetKind
from edgepick_wire.topics import DeviceTopic
from fakes.store import MemoryStore
from fleet.simulator import FLEET, HostBroker, Script, World, sign
from fleet.synthetic import birth, fell_back, manifest_of, measured, measurement, release

A = release("a")
LATER = release("a", version="2")
NEW, OLD, OTHER = (manifest_of("1", name) for name in ("new", "old", "other"))


class Outage(HostBroker):
    """A broker that stops answering while ``down``."""

    down = False

    def publish(self, topic, payload, *, retain):
        if self.down:
            raise UnreachableError("the broker is away")
        super().publish(topic, payload, retain=retain)


class Recording(HostBroker):
    """A broker that remembers what was published, in order."""

    def __init__(self, air):
        super().__init__(air)
        self.payloads: list[bytes] = []

    def publish(self, topic, payload, *, retain):
        self.payloads.append(payload)
        super().publish(topic, payload, retain=retain)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def heard(world):
    """Provide an open inbox, and the acknowledgements that devices got, with what was stored at that moment."""
    acks: list[tuple[str, tuple[str, ...], int]] = []

    def on_ack(topic: str, payload: bytes) -> None:
        acks.append((topic, codec.decode(Ack, payload).ids, len(world.store.received)))

    world.air.listen((topics.every_device(FLEET, DeviceTopic.ACK),), on_ack)
    broker = Outage(world.air)
    table, log = FleetTable(()), ReportLog(world.store)
    inbox = Inbox(
        fleet=FLEET,
        store=world.store,
        broker=broker,
        clock=world.clock,
        say=world.lines.append,
        table=table,
        log=log,
    )
    inbox.open()
    return inbox, broker, acks


def send(world: World, device: str, kind: DeviceTopic, payload: bytes) -> None:
    world.air.publish(topics.device(FLEET, device, kind), payload, retain=False)


def take_in(world: World, inbox: Inbox) -> None:
    world.air.pump()
    inbox.drain(0)
    world.air.pump()


def test_a_report_is_stored_before_it_is_acknowledged(world, heard):
    """When a device gets an acknowledgement, its report is in the store; a repeated report is acknowledged again."""
    inbox, _, acks = heard
    report = measured("d1", A, measurement())

    for _ in range(2):
        send(world, "d1", DeviceTopic.REPORT, codec.encode(report))
        take_in(world, inbox)

    assert [ids for _, ids, _ in acks] == [(report.id,), (report.id,)]
    assert [stored for _, _, stored in acks] == [1, 1]
    assert list(world.store.reports()) == [report]


def test_an_acknowledgement_that_the_broker_did_not_take_is_sent_later(world, heard):
    """While the broker is away nothing is lost: the acknowledgement goes out with the next look."""
    inbox, broker, acks = heard
    broker.down = True
    send(world, "d1", DeviceTopic.REPORT, codec.encode(measured("d1", A, measurement())))
    with pytest.raises(UnreachableError):
        take_in(world, inbox)

    broker.down = False
    take_in(world, inbox)

    assert len(acks) == 1


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (DeviceTopic.REPORT, b"{"),
        (DeviceTopic.REPORT, b"x" * 200_000),
        (DeviceTopic.REPORT, codec.encode(fell_back("somebody-else", NEW))),
        (DeviceTopic.BIRTH, codec.encode(birth("somebody-else", "pi"))),
        (DeviceTopic.PRESENCE, b'{"session":1}'),
    ],
)
def test_what_is_not_a_message_of_this_device_is_refused_and_said(world, heard, kind, payload):
    """Broken, oversized and borrowed messages store nothing, acknowledge nothing, and stop nothing."""
    inbox, _, acks = heard

    send(world, "d1", kind, payload)
    send(world, "d1", DeviceTopic.REPORT, codec.encode(measured("d1", A, measurement())))
    take_in(world, inbox)

    assert len(acks) == 1
    assert list(world.store.received) == [("d1", "a-1")]
    assert "refused a message on edgepick/1/sim/d/d1" in world.lines[0]


def test_only_one_coordinator_works_at_a_time():
    """A second one is refused until the first gives up its lease or is silent for the length of it."""
    store = MemoryStore()
    take_lease(store, "one", now=0.0)

    with pytest.raises(BusyError, match="one"):
        take_lease(store, "two", now=LEASE_SECONDS - 1)
    assert lease_holder(store, now=1.0) == "one"
    assert free_lease(store, "one", now=2.0)
    take_lease(store, "two", now=2.0)
    with pytest.raises(BusyError):
        take_lease(store, "one", now=3.0)
    take_lease(store, "three", now=2.0 + LEASE_SECONDS + 1)


def test_a_coordinator_that_lost_its_lease_stops(world):
    """A coordinator that was asleep longer than its lease does nothing more once another has it."""
    first = world.host_up()
    sequence = world.store.sequence
    world.host_up()

    with pytest.raises(BusyError):
        first.step(0)

    assert world.store.sequence == sequence


def desk_of(world: World, broker: HostBroker | None = None) -> Desk:
    desk = Desk(fleet=FLEET, store=world.store, broker=broker or HostBroker(world.air), sign=sign, clock=world.clock)
    desk.read()
    return desk


def sent(world: World, run) -> list[Desired]:
    """Return the desired states that ``run`` sends, in order."""
    broker = Recording(world.air)
    run(desk_of(world, broker))
    return [codec.decode(Desired, unpack(payload).payload) for payload in broker.payloads]


def test_a_device_keeps_its_other_models_and_its_profiles_orders(world):
    """Changing one model on one device carries over everything else that the device should do."""
    world.publish(A)
    desk = desk_of(world)
    desk.want_profile("pi", Assignment(model="other", active=OTHER), devices=("d1",), exceptions={})

    desk.want_devices([("d1", "pi", Assignment(model="digits", active=NEW, rollout="r-1"))])

    models = {m.model: m for m in world.store.desired(TargetKind.DEVICE, "d1").models}
    assert models["other"].active == OTHER
    assert models["digits"].active == NEW
    assert [o.manifest for o in models["digits"].measure] == [A.manifest]


def test_wanting_what_is_wanted_already_writes_nothing(world):
    """The level is compared before anything is written, so looking again costs no sequence."""
    desk = desk_of(world)
    change = Assignment(model="digits", active=NEW, rollout="r-1")
    desk.want_devices([("d1", "pi", change)])
    sequence = world.store.sequence

    desk.want_devices([("d1", "pi", change)])

    assert world.store.sequence == sequence


def test_exceptions_of_a_profile_are_sent_before_it_and_outrank_it(world):
    """A device that keeps another variant than its profile has its document first, with the higher sequence."""
    change = Assignment(model="digits", active=NEW, rollout="r-1")

    documents = sent(world, lambda desk: desk.want_profile("pi", change, devices=("d1", "d2"), exceptions={"d2": OLD}))

    assert [(d.target_kind, d.target) for d in documents] == [(TargetKind.DEVICE, "d2"), (TargetKind.PROFILE, "pi")]
    assert documents[0].sequence > documents[1].sequence
    assert documents[0].models[0].active == OLD


def test_everything_is_sent_again_at_start(world):
    """What was stored but perhaps never sent reaches the broker when the next coordinator starts, bit for bit."""
    desk_of(world).want_devices([("d1", "pi", Assignment(model="digits", active=NEW))])
    before = dict(world.air.retained)
    world.air.retained.clear()

    world.host_up()

    topic = topics.device(FLEET, "d1", DeviceTopic.DESIRED)
    assert world.air.retained[topic] == before[topic]


def test_a_broker_that_was_away_gets_everything_afterwards(world):
    """Desired state that was stored while the broker did not answer is sent once it does."""
    old, new = release("old", version="1"), release("new", version="2")
    world.add(3, running=old, **{new.manifest: Script(p50_ms=5)})
    world.publish(old)
    world.publish(new)
    broker = Outage(world.air)
    host = world.host_up()
    host._broker = host._desk._broker = host._inbox._broker = broker
    world.start(Plan(version="2", wave_seconds=200, soak_seconds=0))
    while world.rollout().stage is not Stage.CANARY:
        world.turn()

    broker.down = True
    for _ in range(10):
        world.turn()
    broker.down = False
    end = world.run()

    assert "the broker is away; going on when it answers" in world.lines
    assert end.stage is Stage.DONE
    assert set(world.running().values()) == {new.manifest}


def test_a_profile_that_the_host_does_not_know_is_not_decided(world):
    """Without a profile's budgets nothing is promoted to its devices, and the reason says so."""
    old, new = release("old", version="1"), release("new", version="2")
    world.add(2, running=old)
    world.publish(old, new)
    host = world.host_up()
    host._steering._budgets_of = lambda _profile: None
    world.start(Plan(version="2", wave_seconds=30))

    end = world.run()

    assert end.stage is Stage.INCONCLUSIVE
    assert "does not know profile 'pi'" in end.lanes[0].reason


def test_what_runs_already_and_is_best_ends_the_rollout_as_done(world):
    """When every stratum runs its best variant already, the rollout is done without touching a device."""
    best, other = release("a", version="1"), release("b", version="1")
    world.add(3, running=best, **{best.manifest: Script(p50_ms=5), other.manifest: Script(p50_ms=10)})
    world.publish(best, other)
    world.host_up()
    world.start(Plan(version="1", wave_seconds=30))

    end = world.run()

    assert end.stage is Stage.DONE
    assert end.reason == "every stratum runs its best variant already"
    assert all(device.started == [] for device in world.devices.values())


def test_the_incumbent_is_measured_too(world):
    """What runs there is measured on request even if it was never ordered, so the gain is on the same devices."""
    old, new = release("old", version="1"), release("new", version="2")
    world.add(2, running=old, **{new.manifest: Script(p50_ms=5)})
    world.store.save_release(old, b"signed")
    world.publish(new)
    world.host_up()
    world.start(Plan(version="2", wave_seconds=30))

    end = world.run()

    assert end.stage is Stage.DONE
    assert "50.0 % less latency than 1 old" in end.lanes[0].reason


def test_the_host_listens_before_it_says_anything(world):
    """Devices resend their reports on hearing the host, so its subscription stands before its first message."""
    listening = []

    def note() -> None:
        filters = [pattern for patterns, _ in world.air.listeners for pattern in patterns]
        listening.append(topics.every_device(FLEET, DeviceTopic.REPORT) in filters)

    world.host_up(before=note)

    assert listening[0] is True


def turns(world: World, count: int) -> None:
    for _ in range(count):
        world.turn()


def lost_memory(world: World) -> None:
    """Have the broker come back empty, and the host's connection with it, as its adapter announces it."""
    world.air.retained.clear()
    topic, payload = host_presence(FLEET, world.hosts, online=True)
    world.air.publish(topic, payload, retain=True)


def test_a_broker_that_lost_its_memory_is_told_again_what_is_wanted(world):
    """Every desired state is there again, byte for byte, and the service says what brings the models back."""
    world.publish(A)
    world.host_up()
    turns(world, 2)
    before = {t: p for t, p in world.air.retained.items() if t.endswith("/desired")}

    lost_memory(world)
    turns(world, 2)

    after = {t: p for t, p in world.air.retained.items() if t.endswith("/desired")}
    assert after == before != {}
    assert len([line for line in world.lines if "edgepick publish" in line]) == 1


def test_a_reconnection_to_a_broker_that_remembers_asks_nobody_for_anything(world):
    """What is wanted is sent again, which is harmless, and no person is bothered."""
    world.publish(A)
    world.host_up()
    turns(world, 2)

    topic, payload = host_presence(FLEET, world.hosts, online=True)
    world.air.publish(topic, payload, retain=True)
    turns(world, 2)

    assert not [line for line in world.lines if "memory" in line]


def test_a_broker_that_lost_what_it_was_given_last_is_told_of_once(world):
    """A service names the versions whose manifests are gone, at its start or after a reconnection, each once."""
    world.publish(A, LATER)
    del world.air.retained[topics.manifest(FLEET, LATER.manifest)]
    world.host_up()
    turns(world, 2)

    topic, payload = host_presence(FLEET, world.hosts, online=True)
    world.air.publish(topic, payload, retain=True)
    turns(world, 2)

    (line,) = [line for line in world.lines if "memory" in line]
    assert f"lacks {LATER.model} {LATER.version}, " in line
    assert "edgepick publish" in line


def test_a_late_last_will_of_its_own_is_contradicted(world):
    """A service that the broker takes for dead says that it is there; one of an older session is let alone."""
    world.host_up()
    turns(world, 1)
    for session in (world.hosts, world.hosts - 1):
        topic, payload = host_presence(FLEET, session, online=False)
        world.air.publish(topic, payload, retain=True)
        turns(world, 2)
        said = codec.decode(Presence, world.air.retained[topics.host(FLEET)])

        assert (said.session, said.online) == (session, session == world.hosts)
