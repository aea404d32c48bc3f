"""What targets are told, with a broker and a store in memory."""

from dataclasses import dataclass, field

import pytest

from edgepick_host.core.keypair import KeySigner
from edgepick_host.core.release import Wish
from edgepick_host.core.trust import document_signer
from edgepick_host.errors import StateError, UnreachableError
from edgepick_host.service.targets import Target, Targets
from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import Birth, Desired, TargetKind
from edgepick_wire.topics import DeviceTopic
from fakes.host_broker import MemoryBroker
from fakes.store import MemoryStore

FLEET = "main"
PI = Target(kind=TargetKind.PROFILE, name="raspberry-pi-4", profile="raspberry-pi-4")
DEVICE = Target(kind=TargetKind.DEVICE, name="pi-1", profile="raspberry-pi-4")
BEST, NEXT = digest_of(b"best"), digest_of(b"next")


class Stopped:
    def monotonic(self) -> float:
        return 0.0

    def now(self) -> float:
        return 100.0


@dataclass
class Office:
    """A host with its memory, on a broker that outlives it."""

    broker: MemoryBroker = field(default_factory=MemoryBroker)
    store: MemoryStore = field(default_factory=MemoryStore)
    key: KeySigner = field(default_factory=lambda: KeySigner(bytes(32)))

    @property
    def targets(self) -> Targets:
        sign = document_signer({DocumentType.DESIRED: lambda: [self.key]})
        return Targets(fleet=FLEET, broker=self.broker, store=self.store, sign=sign, clock=Stopped())

    def tell(self, target: Target, wish: Wish):
        (told,) = self.targets.tell({target: wish})
        return told

    def retained(self, target: Target) -> Desired:
        data = self.broker.retains[topic_of(target)]
        return codec.decode(Desired, envelope.unpack(data).payload)


def topic_of(target: Target) -> str:
    if target.kind is TargetKind.PROFILE:
        return topics.profile_desired(FLEET, target.name)
    return topics.device(FLEET, target.name, DeviceTopic.DESIRED)


def wish(best: str = BEST, **more) -> Wish:
    return Wish(model="digits", best=best, **more)


def test_told_once_is_told():
    """A target's desired state is signed, retained and remembered."""
    office = Office()

    told = office.tell(PI, wish())

    assert (told.sequence, told.active, told.changed) == (1, BEST, True)
    assert office.retained(PI) == office.store.desired(TargetKind.PROFILE, PI.name)


def test_told_again_is_the_same_bytes():
    """Telling the same takes no sequence, and publishes the same bytes again."""
    office = Office()
    office.tell(PI, wish())

    told = office.tell(PI, wish())

    first, second = (data for topic, data in office.broker.published if topic == topic_of(PI))
    assert (told.sequence, told.changed) == (1, False)
    assert first == second


def test_broker_died_between_store_and_publication():
    """Desired state that was kept but never published is published by the next attempt, unchanged."""
    office = Office()
    office.broker.lives_for = 0
    with pytest.raises(UnreachableError):
        office.tell(PI, wish())
    office.broker.lives_for = None

    told = office.tell(PI, wish())

    assert (told.sequence, told.changed) == (1, False)
    assert office.retained(PI).models[0].active == BEST


def test_lost_store_counts_on():
    """With an empty store, the sequence goes on above everything the broker retains of ours, devices included."""
    office = Office()
    for number in range(3):
        office.tell(DEVICE, wish(forced=digest_of(bytes([number]))))

    office.store = MemoryStore()
    told = office.tell(PI, wish())

    assert told.sequence == 4


def test_lost_store_keeps_what_runs():
    """With an empty store, what the broker retains of ours is what the target runs."""
    office = Office()
    office.tell(PI, wish())

    office.store = MemoryStore()
    told = office.tell(PI, wish(best=NEXT))

    assert (told.active, told.changed) == (BEST, False)


def test_foreign_desired_state_is_not_believed():
    """Desired state that our key did not sign counts for nothing."""
    office = Office()
    stranger = Office(broker=office.broker, key=KeySigner(bytes([1] * 32)))
    for number in range(3):
        stranger.tell(PI, wish(forced=digest_of(bytes([number]))))

    told = office.tell(PI, wish())

    assert (told.sequence, told.active) == (1, BEST)


def test_garbage_is_not_believed():
    """A retained message that is no signed document counts for nothing."""
    office = Office()
    office.broker.retains[topic_of(PI)] = b"\xff garbage"

    assert office.tell(PI, wish()).sequence == 1


def test_device_starts_from_its_profile():
    """A device's first own document keeps what its profile runs, and outranks it."""
    office = Office()
    office.tell(PI, wish())
    office.tell(PI, Wish(model="voices", best=NEXT))

    told = office.tell(DEVICE, wish(best=NEXT, measure=(NEXT,)))

    assert (told.active, told.sequence) == (BEST, 3)
    assert {m.model: m.active for m in office.retained(DEVICE).models} == {"digits": BEST, "voices": NEXT}


def test_device_follows_the_newer_of_two():
    """After its profile was told something newer, a device starts from that."""
    office = Office()
    office.tell(DEVICE, wish())
    office.tell(PI, wish(forced=NEXT))

    told = office.tell(DEVICE, wish(measure=(NEXT,)))

    assert (told.active, told.sequence) == (NEXT, 3)


def born(device: str) -> Birth:
    return Birth(
        device=device,
        session=1,
        profile="raspberry-pi-4",
        agent_version="0.1.0",
        machine="aarch64",
        system="Linux",
        python="3.11",
        runtimes=(),
        memory_bytes=1,
        disk_free_bytes=1,
    )


def sign_on(office: Office, device: str) -> None:
    office.broker.publish(topics.device(FLEET, device, DeviceTopic.BIRTH), codec.encode(born(device)), retain=True)


@pytest.mark.parametrize("remembered", [True, False])
def test_canary_is_left_alone(remembered):
    """A device that runs something else than its profile goes on so, and measures, when its profile is told news."""
    office = Office()
    if remembered:
        office.store.heard_birth(born("pi-1"), 1.0)
    else:
        sign_on(office, "pi-1")
    office.tell(PI, wish())
    office.tell(DEVICE, wish(forced=NEXT))

    told = office.targets.tell({PI: wish(measure=(NEXT,))})

    assert [(t.target, t.active, t.measure) for t in told] == [("raspberry-pi-4", BEST, 1), ("pi-1", NEXT, 1)]
    assert office.retained(DEVICE).sequence > office.retained(PI).sequence
    sent = [topic for topic, _ in office.broker.published if topic.endswith("desired")]
    assert sent[-2:] == [topic_of(DEVICE), topic_of(PI)]


def test_forced_activation_takes_canaries_along():
    """What is activated for a whole profile holds for its canaries too."""
    office = Office()
    office.store.heard_birth(born("pi-1"), 1.0)
    office.tell(DEVICE, wish(forced=NEXT))

    office.tell(PI, wish(forced=BEST))

    assert office.retained(PI).sequence > office.retained(DEVICE).sequence


def test_profile_of_a_device_comes_from_its_birth():
    """A device's kind is what its birth says; without a birth it is refused by name."""
    office = Office()
    sign_on(office, "pi-1")

    assert office.targets.of_devices(["pi-1"]) == (DEVICE,)
    with pytest.raises(StateError, match="pi-2"):
        office.targets.of_devices(["pi-1", "pi-2"])
