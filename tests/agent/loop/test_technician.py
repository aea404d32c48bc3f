"""What a technician can do on the device, with and without a network."""

import pytest

from edgepick_agent.core.control import Command
from edgepick_wire.messages import Outcome, Phase, RefusalCode
from fakes.agent_bench import Bench
from fakes.host_stand_in import STRANGER, bundle
from fakes.runner_launcher import Script

ONE, TWO, THREE = bundle("1"), bundle("2"), bundle("3")


@pytest.fixture
def bench() -> Bench:
    made = Bench().boot()
    for one in (ONE, TWO):
        made.host.publish(one)
        made.host.want(one, rollout=one.content.version)
        made.run(15)
    return made


def test_status_tells_what_runs_and_how(bench):
    """Models, runners, outbox and connection are in the answer."""
    status = bench.ask(Command.STATUS).status

    assert status is not None
    assert (status.running, status.broker, status.sequence) == (True, "connected", 2)
    assert [m.active for m in status.models] == [TWO.digest]
    assert [(r.model, r.state) for r in status.runners] == [("digits", "ready")]
    assert status.outbox == 2


def test_a_rollback_activates_and_pins_the_previous_variant(bench):
    """The previous variant serves at once; the host learns of it, and the rollout does not undo it."""
    reply = bench.ask(Command.ROLLBACK, model="digits")
    bench.run(10)
    bench.host.want(TWO, rollout="2")
    bench.run(20)

    assert reply.ok
    assert bench.launcher.alive() == ["1"]
    assert (bench.model().active, bench.model().pinned) == (ONE.digest, True)
    assert bench.model().refusal is not None
    assert bench.model().refusal.code is RefusalCode.PINNED
    assert bench.outcomes[-1].outcome is Outcome.REVERTED


def test_another_rollout_overrules_a_pin(bench):
    """A technician's choice holds until the host wants something new."""
    bench.ask(Command.ROLLBACK)
    bench.run(10)

    bench.host.want(TWO, rollout="again")
    bench.run(20)

    assert bench.model().active == TWO.digest
    assert not bench.model().pinned


def test_a_pin_survives_a_restart(bench):
    """After a power cut the technician's choice still holds against the same desired state."""
    bench.ask(Command.ROLLBACK)
    bench.run(10)
    bench.cut_power()

    bench.boot().run(20)

    assert bench.model().active == ONE.digest
    assert bench.model().pinned


def test_a_rollback_without_a_previous_variant_is_refused():
    """There must be something to go back to."""
    bench = Bench().boot()
    bench.host.publish(ONE)
    bench.host.want(ONE)
    bench.run(15)

    reply = bench.ask(Command.ROLLBACK)

    assert not reply.ok
    assert reply.refusal is not None
    assert "no previous variant" in reply.refusal.detail


def test_a_rollback_below_the_security_epoch_is_refused():
    """Not even a technician reopens a closed hole."""
    bench = Bench().boot()
    for one in (ONE, bundle("2", security_epoch=7)):
        bench.host.publish(one)
        bench.host.want(one, rollout=one.content.version)
        bench.run(15)

    reply = bench.ask(Command.ROLLBACK)

    assert reply.refusal is not None
    assert reply.refusal.code is RefusalCode.LOWER_EPOCH


def test_a_rollback_of_an_unknown_model_names_those_that_exist(bench):
    """A wrong name is answered with the right ones."""
    reply = bench.ask(Command.ROLLBACK, model="cats")

    assert not reply.ok
    assert reply.hint is not None
    assert "digits" in reply.hint


def test_a_bundle_from_a_stick_is_installed_by_the_same_rules(bench):
    """A local installation is verified, tried, confirmed and pinned, and needs no chunk from the broker."""
    bench.reader.files_at["/media/stick/three.edgepick"] = THREE
    bench.broker.delivered.clear()

    reply = bench.ask(Command.INSTALL, path="/media/stick/three.edgepick")
    bench.run(10)

    assert reply.ok
    assert (bench.model().active, bench.model().pinned) == (THREE.digest, True)
    assert bench.broker.delivered == []
    assert bench.outcomes[-1].sequence == 0


def test_a_bundle_from_a_stick_needs_no_network():
    """Without a broker the installation ends the same way; its report waits in the outbox."""
    bench = Bench().boot(online=False)
    bench.reader.files_at["/stick"] = ONE
    bench.turn()

    reply = bench.ask(Command.INSTALL, path="/stick")

    assert reply.ok
    assert bench.launcher.alive() == ["1"]
    assert len(bench.storage.names("outbox")) == 1


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (bundle("9", key=STRANGER), RefusalCode.BAD_SIGNATURE),
        (bundle("9", security_epoch=0), RefusalCode.LOWER_EPOCH),
        (bundle("9", profiles=("jetson-nano",)), RefusalCode.WRONG_PROFILE),
        (bundle("9", requires=("teleport",)), RefusalCode.UNKNOWN_REQUIREMENT),
    ],
)
def test_a_stick_is_trusted_no_more_than_the_broker(bench, made, code):
    """Every refusal that holds for the broker holds for a stick, and the active variant serves on."""
    bench.reader.files_at["/stick"] = made

    reply = bench.ask(Command.INSTALL, path="/stick")
    bench.run(10)

    assert not reply.ok
    assert reply.refusal is not None
    assert reply.refusal.code is code
    assert bench.launcher.alive() == ["2"]
    assert bench.model().phase is Phase.CONFIRMED


def test_a_stick_with_a_damaged_file_is_refused(bench):
    """A file that is not what the signed manifest says is never installed."""
    damaged = bundle("3")
    damaged.files["model.tflite"] = b"x" * len(damaged.files["model.tflite"])
    bench.reader.files_at["/stick"] = damaged

    reply = bench.ask(Command.INSTALL, path="/stick")

    assert reply.refusal is not None
    assert reply.refusal.code is RefusalCode.DIGEST_MISMATCH


def test_a_file_that_is_no_bundle_is_refused(bench):
    """Anything else than a bundle is answered with a reason."""
    reply = bench.ask(Command.INSTALL, path="/nowhere")

    assert not reply.ok
    assert reply.refusal is not None
    assert reply.refusal.code is RefusalCode.MALFORMED


def test_a_failed_trial_of_a_stick_is_told_to_the_technician(bench):
    """The technician waits for the end, and hears why it was a no."""
    bench.launcher.scripts["3"] = Script(measure="fails")
    bench.reader.files_at["/stick"] = THREE

    reply = bench.ask(Command.INSTALL, path="/stick")

    assert reply.refusal is not None
    assert reply.refusal.code is RefusalCode.TRIAL_FAILED
    assert "0 of 8 agree" in reply.refusal.detail


def test_installing_what_runs_already_is_done_at_once(bench):
    """The active variant's own bundle changes nothing."""
    bench.reader.files_at["/stick"] = TWO

    reply = bench.ask(Command.INSTALL, path="/stick")

    assert reply.ok
    assert bench.launcher.alive() == ["2"]
