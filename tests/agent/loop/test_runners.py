"""Runners that die, hang and swell after they were activated, and devices that go down with them."""

import errno

import pytest

from edgepick_agent.core import places
from edgepick_agent.core.advice import advise
from edgepick_agent.core.control import Command
from edgepick_agent.errors import StorageError, StorageFullError
from edgepick_wire.messages import IncidentCode, Outcome, Phase, RefusalCode
from fakes.agent_bench import Bench, with_runner
from fakes.host_stand_in import bundle
from fakes.runner_launcher import Script

ONE, TWO = bundle("1"), bundle("2")


def running(*made, settings=None) -> Bench:
    bench = Bench(settings=settings) if settings else Bench()
    bench.boot()
    for one in made:
        bench.host.publish(one)
        bench.host.want(one, rollout=one.content.version)
        bench.run(15)
    return bench


def codes(bench: Bench) -> list[IncidentCode]:
    return [i.code for i in bench.incidents]


def test_a_killed_runner_is_reported_and_started_again_after_a_pause():
    """One crash is an incident and a restart; the variant stays active."""
    bench = running(ONE)

    bench.launcher.started[-1].killed = True
    bench.run(10)

    assert codes(bench) == [IncidentCode.RUNNER_CRASHED, IncidentCode.RUNNER_RESTARTED]
    assert bench.launcher.alive() == ["1"]
    assert bench.model().phase is Phase.CONFIRMED


@pytest.mark.parametrize("serve", ["crashes", "hangs", "swells", "blunders"])
def test_a_confirmed_variant_that_keeps_failing_falls_back_to_the_previous_one(serve):
    """After the allowed failures in a row the previous variant serves, and the host is told."""
    bench = running(ONE, TWO)
    bench.launcher.scripts["2"] = Script(serve=serve)
    bench.launcher.started[-1].killed = True

    bench.run(60)

    outcome = bench.outcomes[-1]
    assert codes(bench)[-1] is IncidentCode.FELL_BACK
    assert (outcome.outcome, outcome.manifest, outcome.active) == (Outcome.REVERTED, TWO.digest, ONE.digest)
    assert outcome.rollout == "2"
    assert outcome.refusal is not None
    assert outcome.refusal.code is RefusalCode.RUNNER_FAILED
    assert bench.launcher.alive() == ["1"]
    assert bench.sockets == {"run/digits.sock": places.runner_socket(ONE.digest)}
    assert (bench.model().phase, bench.model().active) == (Phase.REVERTED, ONE.digest)


def test_an_unconfirmed_variant_that_dies_after_it_was_activated_falls_back():
    """Failures within the confirmation time revert the installation; the old runner was still there."""
    bench = running(ONE, settings=with_runner(confirm_seconds=30.0))
    bench.run(60)
    first = bench.launcher.started[-1]
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="2")
    bench.run(5)
    active = bench.model().active
    bench.launcher.scripts["2"] = Script(serve="crashes")
    bench.launcher.started[-1].killed = True

    bench.run(60)

    assert active == TWO.digest
    assert bench.outcomes[-1].outcome is Outcome.REVERTED
    assert bench.model().active == ONE.digest
    assert first.running


def test_the_only_variant_is_restarted_for_ever():
    """Without a previous variant a confirmed one is never given up, only started ever more rarely."""
    bench = running(ONE)
    bench.launcher.scripts["1"] = Script(serve="crashes")
    bench.launcher.started[-1].killed = True
    bench.run(600, step=1.0)
    tries = len(bench.launcher.started)
    bench.launcher.scripts["1"] = Script()

    bench.run(120, step=1.0)

    assert IncidentCode.FELL_BACK not in codes(bench)
    assert 8 < tries < 40
    assert bench.launcher.alive() == ["1"]


def test_a_first_variant_that_never_serves_leaves_the_device_empty_and_says_so():
    """With nothing to go back to, the model is not active, and the outcome says reverted."""
    bench = Bench().boot()
    bench.launcher.scripts["1"] = Script(serve="crashes")
    bench.host.publish(ONE)
    bench.host.want(ONE, rollout="1")

    bench.run(60)

    assert bench.outcomes[-1].outcome is Outcome.REVERTED
    assert bench.model().active is None
    assert bench.launcher.alive() == []
    assert bench.sockets == {}


def test_falling_back_never_goes_below_the_security_epoch():
    """A confirmed epoch is not left again: the failing new variant is kept rather than the old hole reopened."""
    safe = bundle("2", security_epoch=5)
    bench = running(ONE, safe)
    bench.launcher.scripts["2"] = Script(serve="crashes")
    bench.launcher.started[-1].killed = True

    bench.run(60)

    assert bench.reported.security_epoch == 5
    assert bench.model().active == safe.digest
    assert IncidentCode.FELL_BACK not in codes(bench)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, IncidentCode.STORAGE_FULL),
        (errno.EROFS, IncidentCode.RUNNER_NOT_STARTED),
        (errno.EMFILE, IncidentCode.RUNNER_NOT_STARTED),
        (errno.ENOENT, IncidentCode.RUNNER_NOT_STARTED),
    ],
    ids=["full disk", "read-only disk", "too many files", "no interpreter"],
)
def test_what_the_device_lacks_to_start_a_runner_is_not_the_variants_fault(number, code):
    """It is started again, ever more rarely, until it can be; nothing falls back, and the host hears the truth."""
    bench = running(ONE, TWO)
    bench.launcher.lacks = number
    bench.launcher.started[-1].killed = True
    bench.run(1000)
    during = bench.incidents
    bench.launcher.lacks = None

    bench.run(90)

    starts = sum(incident.count for incident in during if incident.code is code)
    assert [incident.code for incident in during] == [IncidentCode.RUNNER_CRASHED, *[code] * (len(during) - 1)]
    assert 10 <= starts <= 30
    assert codes(bench)[len(during) :] == [IncidentCode.RUNNER_RESTARTED]
    assert bench.launcher.alive() == ["2"]
    assert (bench.model().phase, bench.model().active) == (Phase.CONFIRMED, TWO.digest)


def test_an_agent_that_can_start_nothing_when_it_starts_drops_no_variant():
    """A confirmed variant that cannot be started when the agent is stays active, and a person is told what to do."""
    bench = running(ONE, TWO)
    bench.cut_power()
    bench.launcher.lacks = errno.EADDRINUSE
    bench.boot().run(300)
    status = bench.ask(Command.STATUS).status
    bench.launcher.lacks = None

    bench.run(90)

    assert status is not None
    assert "runner cannot be started" in (status.last_error or "")
    assert any("runner cannot be started" in line for line in advise(status))
    assert bench.launcher.alive() == ["2"]
    assert (bench.model().phase, bench.model().active) == (Phase.CONFIRMED, TWO.digest)
    assert codes(bench) == [IncidentCode.RUNNER_NOT_STARTED] * len(codes(bench))


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, RefusalCode.NO_SPACE), (errno.ENOENT, RefusalCode.NOT_STARTED)],
    ids=["full disk", "no interpreter"],
)
def test_a_trial_that_the_device_cannot_begin_waits_until_it_can(number, code):
    """The update is refused with what the device lacks, and installed by itself once it is there."""
    bench = running(ONE)
    bench.launcher.lacks = number
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="2")
    bench.run(20)
    outcome = bench.outcomes[-1]
    bench.launcher.lacks = None

    bench.run(3600, step=5.0)

    assert outcome.outcome is Outcome.REFUSED
    assert outcome.refusal is not None
    assert outcome.refusal.code is code
    assert bench.model().active == TWO.digest


def test_a_trial_that_takes_the_device_down_is_not_begun_for_ever():
    """After three power cuts during the same trial the variant is reverted without another try."""
    bench = running(ONE)
    bench.launcher.scripts["2"] = Script(measure="slow")
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="2")
    for _ in range(3):
        bench.run(10)
        bench.cut_power()
        bench.boot()

    bench.run(10)

    tries = [p for p in bench.launcher.started if p.spec.version == "2"]
    assert len(tries) == 3
    assert bench.outcomes[-1].outcome is Outcome.REVERTED
    assert bench.model().active == ONE.digest


def test_what_was_overtaken_is_not_blamed():
    """A trial and a confirmation that newer wishes cut short leave nothing that is counted against them."""
    bench = running(ONE, settings=with_runner(confirm_seconds=30.0))
    bench.launcher.scripts["2"] = Script(measure="slow")
    for wanted in (TWO, bundle("3"), bundle("4")):
        bench.host.publish(wanted)
        bench.host.want(wanted, rollout=wanted.content.version)
        bench.run(10)
    unconfirmed = bench.loop.agent.durable.attempts

    bench.run(60)

    assert len(unconfirmed) == 1
    assert bench.loop.agent.durable.attempts == {}


def test_a_variant_that_takes_the_device_down_before_it_is_confirmed_is_left():
    """After three power cuts while it was active and unconfirmed, the device starts with the previous variant."""
    bench = running(ONE, settings=with_runner(confirm_seconds=30.0))
    bench.run(60)
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="2")
    for _ in range(4):
        bench.run(8)
        bench.cut_power()
        bench.boot()

    bench.run(10)

    assert bench.model().active == ONE.digest
    assert codes(bench)[-1] is IncidentCode.FELL_BACK
    assert bench.outcomes[-1].manifest == TWO.digest


def test_a_variant_whose_files_rot_is_left_at_the_next_start():
    """A model file that changed on disk is never run again: the previous one is, and the wanted one is fetched anew."""
    bench = running(ONE, TWO)
    name = places.bundle_file(TWO.digest, "model.tflite")
    bench.cut_power()
    bench.storage.files[name] = b"rot" + bench.storage.files[name][3:]

    bench.boot().turn()
    first = bench.loop.agent.durable.models["digits"].current
    bench.run(20)

    assert first is not None
    assert first.manifest == ONE.digest
    assert bench.model().active == TWO.digest
    assert bench.storage.read(name) == TWO.files["model.tflite"]


def test_a_damaged_state_file_is_put_aside_and_the_store_decides():
    """A state that cannot be read is kept for a person; the model runs on, and the agent says so loudly."""
    bench = running(ONE, TWO)
    bench.cut_power()
    bench.storage.files["state.json"] = b"{ not a state"

    bench.boot().run(20)

    assert bench.storage.read("state.json.damaged") == b"{ not a state"
    assert any("state was damaged" in line for line in bench.log)
    assert bench.model().active == TWO.digest
    assert bench.model().phase is Phase.CONFIRMED


def test_the_loopback_port_goes_from_runner_to_runner_without_a_restart():
    """The new variant's runner takes the port when it becomes the active one, and the old one retires."""
    bench = running(ONE, TWO, settings=with_runner(tcp_port=8080))
    bench.run(10)

    serving = [(p.spec.version, p.spec.tcp_port, p.fronted) for p in bench.launcher.started if p.mode == "serve"]
    assert serving == [("1", 8080, False), ("2", 8080, True)]
    assert bench.launcher.alive() == ["2"]
    assert bench.model().phase is Phase.CONFIRMED


def test_the_loopback_port_is_the_active_variants_alone():
    """An unconfirmed variant has the port and the one that stays has not; after a fall-back it has it again."""
    bench = running(ONE, settings=with_runner(tcp_port=8080, confirm_seconds=30.0))
    bench.run(30)
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="2")
    bench.run(10)
    old, new = (p for p in bench.launcher.started if p.mode == "serve")
    unconfirmed = (old.fronted, new.fronted)

    bench.launcher.scripts["2"] = Script(serve="crashes")
    new.killed = True
    bench.run(60)

    assert unconfirmed == (False, True)
    assert bench.launcher.alive() == ["1"]
    assert old.fronted


@pytest.mark.parametrize("error", [StorageError, StorageFullError])
def test_clients_that_cannot_be_led_to_a_new_variant_stay_with_the_old_one(error):
    """While the socket's name cannot be written the old runner serves on and nothing is confirmed; then the new one."""
    bench = running(ONE)
    bench.names_fail = error
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="2")
    bench.run(60)
    during = (dict(bench.sockets), bench.launcher.alive(), bench.model().phase)
    said = [line for line in bench.log if "cannot be led" in line]
    bench.names_fail = None

    bench.run(10)

    assert during == ({"run/digits.sock": places.runner_socket(ONE.digest)}, ["1", "2"], Phase.CONFIRMING)
    assert 1 <= len(said) <= 3
    assert bench.sockets == {"run/digits.sock": places.runner_socket(TWO.digest)}
    assert (bench.model().phase, bench.launcher.alive()) == (Phase.CONFIRMED, ["2"])


def test_a_runner_on_trial_does_not_get_the_port():
    """A runner that is not yet ready takes no request of a client's."""
    bench = running(ONE, settings=with_runner(tcp_port=8080))
    bench.launcher.scripts["2"] = Script(serve="slow")
    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="2")

    bench.run(10)

    fronted = [(p.spec.version, p.fronted) for p in bench.launcher.started if p.mode == "serve"]
    assert fronted == [("1", True), ("2", False)]


def test_an_agent_remembers_no_more_variants_than_it_has():
    """After many updates it holds the manifests of the slots, and not of everything that ever ran."""
    bench = running(ONE, TWO, *(bundle(str(number)) for number in range(3, 9)))

    held = set(bench.loop.agent.manifests)

    assert bench.model().active in held
    assert len(held) <= 3


def test_an_active_variant_is_served_without_a_broker():
    """A device that boots without a network runs its model at once."""
    bench = running(ONE)
    bench.cut_power()

    bench.boot(online=False).run(5)

    assert bench.launcher.alive() == ["1"]
