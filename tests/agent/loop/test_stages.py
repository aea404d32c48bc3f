"""Every stage of an installation against everything that can happen in it."""

import pytest

from edgepick_agent.core.turn import Stage
from edgepick_agent.errors import StorageFullError
from edgepick_wire.messages import Outcome, Phase
from fakes.agent_bench import Bench, with_runner
from fakes.host_stand_in import bundle
from fakes.runner_launcher import Script

ONE, TWO = bundle("1"), bundle("2")
STAGES = ["manifest", "fetch", "run", "start", "confirming"]


def held_at(stage: str) -> Bench:
    """Return a device with the first variant confirmed and the second one's installation held at a stage."""
    bench = Bench(settings=with_runner(confirm_seconds=10.0)).boot()
    bench.host.publish(ONE)
    bench.host.want(ONE, rollout="1")
    bench.run(20)
    bench.launcher.scripts["2"] = {"run": Script(measure="slow"), "start": Script(serve="slow")}.get(stage, Script())
    if stage != "manifest":
        bench.host.publish(TWO, without=1 if stage == "fetch" else 0)
    bench.host.want(TWO, rollout="2")
    bench.run(4)
    job = bench.loop.agent.job
    assert (job.stage.value if job else "confirming") == stage
    return bench


def go_on(bench: Bench) -> Bench:
    """Take away what held it, and let time pass."""
    bench.launcher.scripts["2"] = Script()
    for process in bench.launcher.started:
        if process.spec.version == "2":
            process.script = bench.launcher.scripts["2"]
    bench.host.publish(TWO)
    return bench.run(200, step=1.0)


def is_confirmed(bench: Bench) -> bool:
    model = bench.model()
    return (model.active, model.phase) == (TWO.digest, Phase.CONFIRMED) and bench.launcher.alive() == ["2"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_reboot_in_any_stage_only_delays(stage):
    """After a power cut the installation goes on and is confirmed; the old variant serves meanwhile."""
    bench = held_at(stage)

    bench.cut_power()
    bench.boot().run(3)
    meanwhile = bench.launcher.alive()

    assert set(meanwhile) & {"1", "2"}
    assert is_confirmed(go_on(bench))


@pytest.mark.parametrize("stage", STAGES)
def test_a_lost_connection_in_any_stage_only_delays(stage):
    """Without a broker what needs none goes on, and the rest waits for it."""
    bench = held_at(stage)

    bench.transport.disconnect()
    bench.run(30)
    bench.transport.connect()

    assert is_confirmed(go_on(bench))


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_in_any_stage_only_delays(stage, monkeypatch):
    """While nothing can be written the old variant serves; with room again the new one is confirmed."""
    bench = held_at(stage)

    with monkeypatch.context() as patch:
        for kind in ("write", "reserve", "write_at"):
            patch.setattr(bench.storage, kind, full)
        bench.launcher.scripts["2"] = Script()
        bench.run(60)
        meanwhile = bench.launcher.alive()

    assert "1" in meanwhile
    assert is_confirmed(go_on(bench).run(1000, step=5.0))


def full(name: str, *_rest: object) -> None:
    raise StorageFullError(f"{name}: No space left on device")


@pytest.mark.parametrize("stage", ["run", "start", "confirming"])
def test_a_dead_or_hanging_runner_in_any_stage_leaves_the_old_variant(stage):
    """Whatever the new variant's runner does, the end is a revert, and the old one serves."""
    for behaviour in ("crashes", "hangs", "swells"):
        bench = held_at(stage)
        for process in bench.launcher.started:
            if process.spec.version == "2":
                process.script = Script(measure=behaviour, serve=behaviour)
        bench.launcher.scripts["2"] = Script(measure=behaviour, serve=behaviour)

        bench.run(100)

        assert bench.outcomes[-1].outcome is Outcome.REVERTED
        assert bench.launcher.alive() == ["1"]
        assert bench.model().phase is Phase.REVERTED


@pytest.mark.parametrize("stage", STAGES)
def test_wanting_the_old_variant_again_ends_any_stage(stage):
    """When the host changes its mind, nothing of the abandoned variant keeps running or downloading."""
    bench = held_at(stage)

    bench.host.want(ONE, rollout="back")
    bench.run(60)

    assert (bench.model().active, bench.model().phase) == (ONE.digest, Phase.CONFIRMED)
    assert bench.launcher.alive() == ["1"]
    assert bench.loop.agent.job is None
    assert [t for t in bench.transport.topics if "/c/" in t or "/m/" in t] == []


def test_the_stages_are_all_of_them():
    """The table covers every stage that can be held; the others pass within one turn."""
    assert {s.value for s in Stage} - set(STAGES) == {"survey", "extract", "store"}
