"""Any field of any message may hold anything: the service goes on, and takes in what the others say."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.adapters.store_sql import SqlStore
from edgepick_wire import codec, topics
from edgepick_wire.messages import ModelState, Outcome, Phase, Presence, Refusal, RefusalCode, Reported
from edgepick_wire.pairing import PairOrder
from edgepick_wire.topics import DeviceTopic
from fleet.liars import LIAR, NEW, OLD, PLAN
from fleet.simulator import FLEET, Script, World
from fleet.synthetic import birth, fell_back, installed, measured, measurement, quads_of

STATE = ModelState(
    model="digits",
    phase=Phase.CONFIRMED,
    active=OLD.manifest,
    previous=NEW.manifest,
    refusal=Refusal(code=RefusalCode.PINNED, detail="chosen here", hint="unpin"),
)
PAIRED = measured(LIAR, NEW, measurement(5.0, energy_uj=3.0))
MESSAGES = [
    (DeviceTopic.BIRTH, birth(LIAR, "pi", labels={"site": "lab"})),
    (DeviceTopic.PRESENCE, Presence(session=1, online=True)),
    (DeviceTopic.REPORTED, Reported(device=LIAR, session=1, sequence=0, security_epoch=0, models=(STATE,))),
    (DeviceTopic.REPORT, PAIRED),
    (DeviceTopic.REPORT, installed(LIAR, NEW.manifest, Outcome.REVERTED, rollout="r-1")),
    (DeviceTopic.REPORT, fell_back(LIAR, NEW.manifest)),
]
NONSENSE = [
    *(None, True, -1, 0, 1, 2**62, -(2**62), 10**400, 0.5, 5e-324, 1e308, -1e308),
    *("", "x", "\0", "../x", "é" * 100, "a" * 8000, "digits", "f" * 64, [], [1], {}, {"a": 1}),
]


def documents() -> list[tuple[DeviceTopic, Any]]:
    """Return one good message of each kind, as JSON; the measurement with quads."""
    found = [(kind, json.loads(codec.encode(message))) for kind, message in MESSAGES]
    run = quads_of(LIAR, PairOrder(against=OLD.manifest, key="k", quads=2), 0.5)
    found[3][1]["measurement"]["measurement"]["paired"] = json.loads(codec.encode(run))
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each field; of a list, into its first entry."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


GOOD = documents()
FIELDS = [(kind, document, path) for kind, document in GOOD for path in places(document)]


def spoiled(document: Any, path: tuple[Any, ...], value: Any, number: int) -> bytes:
    """Return a message with one field spoiled; a report under a name of its own, or it would be one that is known."""
    made = copy.deepcopy(document)
    if "id" in made:
        made["id"] = f"z-{number}"  # the latest of its session: ids decide between equal clocks
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(made).encode()


@settings(max_examples=40)
@given(told=st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(NONSENSE)), min_size=1, max_size=12))
def test_nothing_that_a_device_says_stops_the_service(told):
    """Whatever one device says before and during a rollout, the others' reports are taken in and it comes to an end."""
    world = World()
    world.store = SqlStore("sqlite://")
    world.add(3, running=OLD, **{NEW.manifest: Script(p50_ms=5)})
    world.publish(OLD)
    world.publish(NEW)
    world.host_up()
    for kind, document in GOOD:
        tell(world, kind, json.dumps(document).encode())
    world.start(PLAN)

    for number, ((kind, document, path), value) in enumerate(told):
        tell(world, kind, spoiled(document, path, value, number))
        world.turn()
    end = world.run()

    assert end.settled
    assert not any(device.outbox for device in world.devices.values())
    world.store.close()


def tell(world: World, kind: DeviceTopic, payload: bytes) -> None:
    world.air.publish(topics.device(FLEET, LIAR, kind), payload, retain=kind is not DeviceTopic.REPORT)
