"""The newest desired state holds at once, in whatever phase the device is, and nothing is asked for in a hurry."""

import pytest

from edgepick_agent.core.effects import Subscribe
from edgepick_wire.messages import Outcome, Phase
from fakes.agent_bench import Bench, with_runner
from fakes.host_stand_in import bundle
from fakes.runner_launcher import Script

ONE, TWO, THREE = bundle("1"), bundle("2"), bundle("3")
PHASES = ["manifest", "index", "fetch", "run", "start"]
INDEX = {digest for entry in TWO.content.files for digest in entry.index}
MINUTE_SECONDS = 60


def held_at(phase: str) -> Bench:
    """Return a device that runs the first variant, with the second one's installation held in a phase."""
    bench = Bench(settings=with_runner(confirm_seconds=30.0)).boot()
    bench.host.publish(ONE)
    bench.host.want(ONE)
    bench.run(40)
    bench.launcher.scripts["2"] = {"run": Script(measure="slow"), "start": Script(serve="slow")}.get(phase, Script())
    if phase != "manifest":
        missing = INDEX if phase == "index" else set(list(TWO.chunks)[:1]) if phase == "fetch" else set()
        publish(bench, missing)
    bench.host.want(TWO)
    bench.run(4)
    job = bench.loop.agent.job
    assert (job.stage.value if job else "confirming") == {"index": "fetch"}.get(phase, phase)
    return bench


def publish(bench: Bench, missing: set[str]) -> None:
    """Publish the second variant but some of its chunks."""
    bench.host.publish(TWO, without=len(TWO.chunks))
    for digest, data in TWO.chunks.items():
        if digest not in missing:
            bench.broker.publish(f"edgepick/1/demo/c/{digest}", data)


@pytest.mark.parametrize("phase", PHASES)
def test_a_newer_desired_state_supersedes_at_once_in_every_phase(phase):
    """Without any time passing the old job has no subscription and no trial left; then only the newest is installed."""
    bench = held_at(phase)
    bench.host.publish(THREE)

    bench.host.want(THREE)
    bench.turn()
    job = bench.loop.agent.job
    topics = bench.transport.topics
    bench.run(200, step=1.0)

    assert job is None or job.manifest == THREE.digest
    assert not [t for t in topics if t[-64:] in {TWO.digest, *TWO.chunks} - set(THREE.chunks)]
    assert (bench.model().active, bench.model().phase) == (THREE.digest, Phase.CONFIRMED)
    assert bench.launcher.alive() == ["3"]
    assert TWO.digest not in [o.manifest for o in bench.outcomes]


def test_a_variant_that_serves_already_is_judged_before_the_newest_replaces_it():
    """The other slot holds what it would fall back to: it is not overwritten before there is another good one."""
    bench = held_at("confirming")
    bench.host.publish(THREE)

    bench.host.want(THREE)
    bench.run(5)
    meanwhile = bench.model().previous
    bench.run(200, step=1.0)

    assert meanwhile == ONE.digest
    assert [o.manifest for o in bench.outcomes] == [ONE.digest, TWO.digest, THREE.digest]
    assert (bench.model().active, bench.model().phase) == (THREE.digest, Phase.CONFIRMED)


@pytest.mark.parametrize("phase", ["index", "fetch"])
def test_what_was_fetched_of_a_superseded_variant_is_removed(phase):
    """Once the newest variant is confirmed, not a byte of the abandoned download is on disk."""
    bench = held_at(phase)
    before = parts(bench)
    bench.host.publish(THREE)

    bench.host.want(THREE)
    bench.run(200, step=1.0)

    assert before != []
    assert parts(bench) == []


def parts(bench: Bench) -> list[str]:
    return [name for name in bench.storage.files if TWO.content.files[0].sha256 in name]


def test_wanting_what_runs_is_done_at_once_and_costs_nothing():
    """A new desired state that changes nothing is success: confirmed under its sequence, nothing asked for."""
    bench = held_at("manifest")
    bench.host.want(ONE)
    bench.run(5)
    reports, asked = len(bench.reports), len(bench.transport.topics)

    bench.host.want(ONE)
    bench.run(60)

    assert (bench.model().phase, bench.reported.sequence) == (Phase.CONFIRMED, bench.host.sequence)
    assert (len(bench.reports), len(bench.transport.topics)) == (reports, asked)


def test_a_variant_that_fails_is_reverted_reported_and_not_tried_again():
    """The host is told once, the device says so for as long as it is wanted, and the old variant serves."""
    bench = held_at("start")
    bench.launcher.scripts["2"] = Script(measure="fails", serve="crashes")
    for process in bench.launcher.started:
        if process.spec.version == "2":
            process.script = bench.launcher.scripts["2"]

    bench.run(3600, step=5.0)

    assert [o.outcome for o in bench.outcomes if o.manifest == TWO.digest] == [Outcome.REVERTED]
    assert (bench.model().phase, bench.model().active) == (Phase.REVERTED, ONE.digest)
    assert bench.launcher.alive() == ["1"]


@pytest.mark.parametrize("phase", ["manifest", "index", "fetch"])
def test_what_is_nowhere_is_asked_for_ever_more_rarely(phase, monkeypatch):
    """However long the host stays away, no minute sees more than a few subscriptions, and later ones hardly any."""
    bench = held_at(phase)
    asked: list[float] = []
    perform = bench.loop._performers[Subscribe]

    def noted(effect: Subscribe) -> None:
        asked.append(bench.clock.monotonic())
        perform(effect)

    monkeypatch.setitem(bench.loop._performers, Subscribe, noted)

    began = bench.clock.monotonic()
    bench.run(7200, step=1.0)

    minutes = [
        sum(began + m * MINUTE_SECONDS <= at < began + (m + 1) * MINUTE_SECONDS for at in asked) for m in range(120)
    ]
    assert max(minutes) <= 6
    assert sum(minutes[60:]) <= 8
