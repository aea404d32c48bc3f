"""A pin on the device: it stays whatever the host wants, through restarts, and the host hears of it."""

import json

import pytest

from edgepick_agent.core import places
from edgepick_agent.core.control import Command
from edgepick_agent.core.state import decode_state
from edgepick_host.core.decision import Judgement
from edgepick_host.core.member_status import seen
from edgepick_host.core.rollout_state import DeviceView, RolloutState, Stage
from edgepick_host.core.waves import Lane, Member, MemberStatus, Plan
from edgepick_wire.messages import MeasureRequest, Phase, RefusalCode
from fakes.agent_bench import Bench, with_runner
from fakes.host_stand_in import bundle
from fakes.runner_launcher import Script

ONE, TWO, THREE = bundle("1"), bundle("2"), bundle("3")


@pytest.fixture
def bench() -> Bench:
    made = Bench().boot()
    for one in (ONE, TWO):
        want(made, one)
    return made


def want(bench: Bench, made, **rest) -> None:
    bench.host.publish(made)
    bench.host.want(made, rollout=f"r{made.content.version}", **rest)
    bench.run(15)


def rollout(name: str) -> RolloutState:
    return RolloutState(
        id=name, model="digits", plan=Plan(version="3"), stage=Stage.WAVE, waves=1, started_at=0.0, deadline=None
    )


def lane(winner: str) -> Lane:
    return Lane(
        profile="generic-linux", label="generic-linux", stand_in=None, verdict=Judgement.PROMOTE, winner=winner,
        winner_label="3", reason="",
    )  # fmt: skip


def test_a_pinned_variant_stays_whatever_the_host_wants(bench):
    """Another rollout is refused with the code that the host counts as declined, and nothing is fetched."""
    reply = bench.ask(Command.PIN)
    bench.broker.delivered.clear()

    want(bench, THREE)

    assert reply.ok
    assert reply.status.held == ("digits",)
    assert bench.launcher.alive() == ["2"]
    said = bench.model()
    assert (said.active, said.wanted, said.pinned, said.phase) == (TWO.digest, THREE.digest, True, Phase.REFUSED)
    assert said.refusal.code is RefusalCode.PINNED
    assert "edgepick-agent unpin digits" in said.refusal.hint
    assert not any("/c/" in topic for topic in bench.broker.delivered)


def test_a_rollout_counts_a_pinned_device_as_declined(bench):
    """What the device says is, to the host's rollout, a device that declined: it counts neither way."""
    bench.ask(Command.PIN)
    want(bench, THREE)
    member = Member(device="pi-1", wave=0, previous=TWO.digest, status=MemberStatus.OFFERED)
    view = DeviceView(device="pi-1", online=True, state=bench.model())

    after = seen(rollout("r3"), lane(THREE.digest), member, view, now=0.0)

    assert after.status is MemberStatus.DECLINED
    assert "until it is unpinned" in after.reason


def test_a_pin_holds_through_power_cuts_and_restarts(bench):
    """After the power was cut, twice, the host's other wish still changes nothing."""
    bench.ask(Command.PIN)
    for _ in range(2):
        bench.cut_power()
        bench.boot().run(10)

    want(bench, THREE)

    assert bench.launcher.alive() == ["2"]
    assert bench.ask(Command.STATUS).status.held == ("digits",)


def test_unpinned_it_follows_the_host_at_once(bench):
    """What the host has wanted in the meantime is installed as soon as the pin is off."""
    bench.ask(Command.PIN)
    want(bench, THREE)

    reply = bench.ask(Command.UNPIN)
    bench.run(15)

    assert reply.ok
    assert bench.model().active == THREE.digest
    assert not bench.model().pinned


def test_measuring_goes_on_while_pinned(bench):
    """A request to measure another variant is carried out, and what serves stays."""
    bench.ask(Command.PIN)
    bench.host.publish(THREE)

    want(bench, TWO, measure=(MeasureRequest(id="m1", manifest=THREE.digest),))

    assert [m.request for m in bench.measured] == ["m1"]
    assert bench.launcher.alive() == ["2"]


def test_the_previous_variant_can_be_pinned(bench):
    """Pinning what served before activates it first; unpinned, the host's wish counts again."""
    reply = bench.ask(Command.PIN, manifest=ONE.digest)
    bench.run(10)
    pinned = bench.model()
    bench.ask(Command.UNPIN)
    bench.run(15)

    assert reply.ok
    assert (pinned.active, pinned.pinned) == (ONE.digest, True)
    assert (bench.model().active, bench.model().pinned) == (TWO.digest, False)


def test_a_variant_that_is_not_installed_cannot_be_pinned(bench):
    """The answer names those that are installed, and nothing is pinned."""
    reply = bench.ask(Command.PIN, manifest=THREE.digest)

    assert not reply.ok
    assert "is not installed" in reply.error
    assert ONE.digest[:12] in reply.hint
    assert TWO.digest[:12] in reply.hint
    assert bench.ask(Command.STATUS).status.held == ()


@pytest.mark.parametrize(("command", "path"), [(Command.ROLLBACK, None), (Command.INSTALL, "/stick")])
def test_other_orders_of_a_technician_wait_for_the_unpinning(bench, command, path):
    """Going back and installing from a file are refused with the way to take the pin off."""
    bench.reader.files_at["/stick"] = THREE
    bench.ask(Command.PIN)

    reply = bench.ask(command, path=path)

    assert reply.refusal.code is RefusalCode.PINNED
    assert "unpin" in reply.refusal.hint
    assert bench.launcher.alive() == ["2"]


def test_a_pin_ends_an_installation_under_way(bench):
    """Whoever waits for a bundle from a stick hears that its place was pinned."""
    bench.launcher.scripts["3"] = Script(measure="slow")
    bench.reader.files_at["/stick"] = THREE
    bench.ask_and_forget(Command.INSTALL, path="/stick")
    bench.run(2)

    bench.ask(Command.PIN)
    bench.run(10)

    assert [reply.refusal.code for reply in bench.replies] == [RefusalCode.PINNED]
    assert bench.launcher.alive() == ["2"]


def test_a_pinned_variant_that_fails_for_good_gives_way_and_the_pin_stays(bench):
    """A pin keeps the host's wishes off, not failures: the previous serves, and still nothing else is installed."""
    bench.settings = with_runner(max_failures=2)
    bench.cut_power()
    bench.boot().run(5)
    bench.ask(Command.PIN)
    bench.launcher.scripts["2"] = Script(serve="crashes")
    for process in bench.launcher.started:
        process.running = False
    bench.run(60)

    want(bench, THREE)

    assert bench.model().active == ONE.digest
    assert bench.model().pinned
    assert bench.model().refusal.code is RefusalCode.PINNED


def test_a_state_from_before_there_were_pins_is_read_and_can_be_pinned(bench):
    """A state without the field means not pinned; pinned and started again, it is."""
    document = json.loads(bench.storage.read(places.STATE))
    for record in document["models"].values():
        del record["held"]
    bench.cut_power()
    bench.storage.write(places.STATE, json.dumps(document).encode())

    before = decode_state(bench.storage.read(places.STATE)).model("digits")
    bench.boot().run(5)
    bench.ask(Command.PIN)
    bench.cut_power()

    assert not before.held
    assert before.current.manifest == TWO.digest
    assert decode_state(bench.storage.read(places.STATE)).model("digits").held


def test_without_an_agent_a_pin_is_kept_too(bench):
    """Set by a command on the state alone, without a broker, it holds when the agent is there again."""
    bench.cut_power()
    bench.boot(online=False)
    bench.ask(Command.PIN)
    bench.cut_power()
    bench.boot().run(5)

    want(bench, THREE)

    assert bench.launcher.alive() == ["2"]
