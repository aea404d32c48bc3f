"""Installing over the broker: fetch, trial, activate, confirm, and every way in which it can end otherwise."""

from dataclasses import replace

import pytest

from edgepick_agent.core import places
from edgepick_wire import codec, topics
from edgepick_wire.messages import (
    Assignment,
    IncidentCode,
    Outcome,
    Phase,
    RefusalCode,
    Reported,
    RuntimeAvailable,
)
from fakes.agent_bench import SETTINGS, Bench
from fakes.host_stand_in import STRANGER, bundle
from fakes.runner_launcher import Script

ONE, TWO, THREE = bundle("1"), bundle("2"), bundle("3")


@pytest.fixture
def bench() -> Bench:
    return Bench().boot()


@pytest.fixture
def running_one(bench: Bench) -> Bench:
    bench.host.publish(ONE)
    bench.host.want(ONE, rollout="r1")
    return bench.run(15)


def test_a_wanted_variant_ends_confirmed_and_says_what_it_cost(running_one):
    """The outcome names rollout, sequence, chunks and bytes; the files in the store are the publisher's."""
    outcome = running_one.outcomes[-1]

    assert outcome.outcome is Outcome.CONFIRMED
    assert (outcome.rollout, outcome.sequence, outcome.active) == ("r1", 1, ONE.digest)
    assert outcome.chunks_fetched == len(ONE.chunks)
    assert outcome.bytes_fetched == sum(map(len, ONE.chunks.values()))
    for name, data in ONE.files.items():
        assert running_one.storage.read(places.bundle_file(ONE.digest, name)) == data


def test_the_reported_state_goes_through_the_phases(running_one):
    """The host sees fetching, trial, confirming, confirmed, in this order."""
    states = [codec.decode(Reported, payload) for payload in running_one.broker.payloads("/reported")]
    phases = [m.phase for s in states for m in s.models if m.model == "digits"]

    assert list(dict.fromkeys(phases)) == [Phase.FETCHING, Phase.TRIAL, Phase.CONFIRMING, Phase.CONFIRMED]


def test_an_upgrade_keeps_the_old_variant_serving_until_the_new_one_is_confirmed(running_one):
    """Both runners are up while the new variant proves itself; then the socket's name and only the new one remain."""
    running_one.host.publish(TWO)
    running_one.host.want(TWO, rollout="r2")
    both = []
    for _ in range(20):
        running_one.run(0.5)
        both.append(tuple(running_one.launcher.alive()))

    assert ("1", "2") in both
    assert running_one.launcher.alive() == ["2"]
    assert running_one.sockets == {"run/digits.sock": places.runner_socket(TWO.digest)}
    assert running_one.model().previous == ONE.digest


def test_a_file_that_another_bundle_has_is_not_fetched(running_one):
    """The golden archive that both variants share is linked, not downloaded again."""
    running_one.broker.delivered.clear()
    running_one.host.publish(TWO)

    running_one.host.want(TWO, rollout="r2")
    running_one.run(15)

    shared = {topics.chunk("demo", d) for d in ONE.chunks if d in TWO.chunks}
    assert shared
    assert shared.isdisjoint(running_one.broker.delivered)
    assert running_one.outcomes[-1].chunks_reused > 0


def test_going_back_to_the_previous_variant_fetches_nothing(running_one):
    """A rollout back to what is in the other slot needs no chunk."""
    running_one.host.publish(TWO)
    running_one.host.want(TWO, rollout="r2")
    running_one.run(15)

    running_one.host.want(ONE, rollout="r3")
    running_one.run(15)

    assert running_one.model().active == ONE.digest
    assert running_one.outcomes[-1].chunks_fetched == 0
    assert running_one.outcomes[-1].outcome is Outcome.CONFIRMED


def test_garbage_is_collected_only_after_a_confirmation(running_one):
    """The third variant's confirmation removes the first; both slots stay in the store."""
    for made in (TWO, THREE):
        running_one.host.publish(made)
        running_one.host.want(made, rollout=made.content.version)
        running_one.run(15)

    assert set(running_one.storage.names(places.STORE)) == {TWO.digest, THREE.digest}
    assert running_one.storage.names(places.DOWNLOADS) == []


@pytest.mark.parametrize("measure", ["fails", "cannot", "crashes", "hangs", "swells"])
def test_a_variant_that_fails_its_trial_is_reverted_and_not_tried_again(running_one, measure):
    """Wrong answers, refusing to load, crash, hang and memory: the old variant never stops, and once is enough."""
    running_one.launcher.scripts["2"] = Script(measure=measure)
    running_one.host.publish(TWO)
    running_one.host.want(TWO, rollout="r2")
    running_one.run(15)
    tries = [p for p in running_one.launcher.started if p.spec.version == "2"]
    running_one.host.want(TWO, rollout="r2")
    running_one.run(15)

    outcome = running_one.outcomes[-1]
    assert (outcome.outcome, outcome.active) == (Outcome.REVERTED, ONE.digest)
    assert outcome.refusal is not None
    assert outcome.refusal.code is RefusalCode.TRIAL_FAILED
    assert len(tries) == len([p for p in running_one.launcher.started if p.spec.version == "2"]) == 1
    assert running_one.launcher.alive() == ["1"]
    assert running_one.model().phase is Phase.REVERTED
    assert running_one.model().previous is None


def test_another_rollout_may_try_a_failed_variant_again(running_one):
    """A verdict holds within its rollout; a new one gets a new trial."""
    running_one.launcher.scripts["2"] = Script(measure="fails")
    running_one.host.publish(TWO)
    running_one.host.want(TWO, rollout="r2")
    running_one.run(15)
    running_one.launcher.scripts["2"] = Script()

    running_one.host.want(TWO, rollout="r3")
    running_one.run(15)

    assert running_one.model().active == TWO.digest


@pytest.mark.parametrize(
    ("serve", "code"),
    [
        ("crashes", IncidentCode.RUNNER_CRASHED),
        ("hangs", IncidentCode.RUNNER_HUNG),
        ("swells", IncidentCode.RUNNER_OVER_MEMORY),
    ],
)
def test_a_variant_whose_runner_never_serves_is_reverted(running_one, serve, code):
    """After the allowed number of failed starts the installation is reverted; the old runner was never stopped."""
    first = running_one.launcher.started[-1]
    running_one.launcher.scripts["2"] = Script(serve=serve)
    running_one.host.publish(TWO)
    running_one.host.want(TWO, rollout="r2")
    running_one.run(60)

    outcome = running_one.outcomes[-1]
    assert outcome.outcome is Outcome.REVERTED
    assert outcome.refusal is not None
    assert outcome.refusal.code is RefusalCode.RUNNER_FAILED
    assert code in {i.code for i in running_one.incidents}
    assert first.running
    assert running_one.model().active == ONE.digest


def test_a_download_goes_on_where_the_connection_broke(bench):
    """Chunks that arrived before the connection broke are not asked for again."""
    large = bundle("large", model_size=60 * 512)
    bench.host.publish(large, without=5)
    bench.host.want(large, rollout="r1")
    bench.run(10)
    bench.transport.disconnect()
    bench.run(2)
    before = list(bench.broker.delivered)

    bench.host.publish(large)
    bench.transport.connect()
    bench.run(30)

    chunks = [t for t in bench.broker.delivered if "/c/" in t]
    assert len(chunks) == len(set(chunks))
    assert 40 < len(before) < len(bench.broker.delivered)
    assert bench.model().phase is Phase.CONFIRMED


def test_a_restart_in_the_middle_of_a_download_fetches_no_chunk_again(bench):
    """A killed agent finds its chunks by hashing the part, and says how many it reused."""
    large = bundle("large", model_size=60 * 512)
    bench.host.publish(large, without=5)
    bench.host.want(large, rollout="r1")
    bench.run(20)
    got = {t for t in bench.broker.delivered if "/c/" in t}
    bench.broker.clients.clear()
    bench.broker.delivered.clear()

    bench.host.publish(large)
    bench.boot().run(30)

    again = got & set(bench.broker.delivered)
    outcome = bench.outcomes[-1]
    assert len(got) > 40
    assert again == set()
    assert outcome.chunks_reused > 40
    assert outcome.chunks_fetched == len([t for t in bench.broker.delivered if "/c/" in t])


def test_a_chunk_with_a_flipped_bit_is_reported_and_fetched_again(bench):
    """A corrupt chunk is never written; once the broker has the right one, the installation goes through."""
    bench.host.publish(ONE)
    digest, data = next(iter(ONE.chunks.items()))
    bench.broker.publish(topics.chunk("demo", digest), bytes([data[0] ^ 1]) + data[1:])
    bench.host.want(ONE, rollout="r1")
    bench.run(3)
    incidents = [i.code for i in bench.incidents]

    bench.broker.publish(topics.chunk("demo", digest), data)
    bench.run(60)

    assert incidents == [IncidentCode.CHUNK_CORRUPT]
    assert bench.model().phase is Phase.CONFIRMED


def test_a_chunk_that_nobody_has_is_reported_and_taken_when_it_appears(bench):
    """A missing chunk is an incident, not the end; its later publication completes the download."""
    bench.host.publish(ONE, without=1)
    bench.host.want(ONE, rollout="r1")
    bench.run(60)
    incidents = [i.code for i in bench.incidents]

    bench.host.publish(ONE)
    bench.run(60)

    assert incidents == [IncidentCode.CHUNK_MISSING]
    assert bench.model().phase is Phase.CONFIRMED


def test_a_newer_desired_state_supersedes_a_stuck_one(bench):
    """A download that cannot finish is dropped at once when something else is wanted."""
    bench.host.publish(ONE, without=3)
    bench.host.want(ONE, rollout="r1")
    bench.run(10)

    bench.host.publish(TWO)
    bench.host.want(TWO, rollout="r2")
    bench.run(15)

    assert bench.model().active == TWO.digest
    assert bench.transport.topics.isdisjoint(topics.chunk("demo", d) for d in ONE.chunks)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": STRANGER}, RefusalCode.BAD_SIGNATURE),
        ({"security_epoch": 0}, RefusalCode.LOWER_EPOCH),
        ({"profiles": ("jetson-nano",)}, RefusalCode.WRONG_PROFILE),
        ({"requires": ("teleport",)}, RefusalCode.UNKNOWN_REQUIREMENT),
        ({"fleet": "other"}, RefusalCode.WRONG_FLEET),
    ],
)
def test_a_bundle_that_may_not_run_here_is_refused_and_nothing_is_disturbed(running_one, changes, code):
    """Each refusal has its code, fetches no chunk, leaves the active variant alone, and is reported once."""
    made = running_one.host.publish(bundle("2", **changes))
    running_one.broker.delivered.clear()

    running_one.host.want(made, rollout="r2")
    running_one.run(15)
    running_one.host.want(made, rollout="r2")
    running_one.run(15)

    outcomes = [o for o in running_one.outcomes if o.manifest == made.digest]
    assert [(o.outcome, o.refusal.code if o.refusal else None) for o in outcomes] == [(Outcome.REFUSED, code)]
    assert running_one.model().refusal == outcomes[0].refusal
    assert running_one.model().phase is Phase.REFUSED
    assert [t for t in running_one.broker.delivered if "/c/" in t] == []
    assert running_one.launcher.alive() == ["1"]


def test_a_device_without_the_runtime_refuses_and_comes_round_when_it_is_installed(bench):
    """No runtime is a refusal; after a restart with the runtime the same desired state is carried out."""
    bench.cut_power()
    bench.runtimes = (RuntimeAvailable(name="tflm", version="1"),)
    bench.boot()
    bench.host.publish(ONE)
    bench.host.want(ONE, rollout="r1")
    bench.run(5)
    refusal = bench.outcomes[-1].refusal
    bench.cut_power()
    bench.runtimes = (RuntimeAvailable(name="litert", version="2"),)

    bench.boot().run(15)

    assert refusal is not None
    assert refusal.code is RefusalCode.NO_RUNTIME
    assert bench.model().phase is Phase.CONFIRMED


def test_a_manifest_of_another_model_is_refused(bench):
    """A variant of one model cannot be installed as another."""
    made = bench.host.publish(bundle("1", model="faces"))
    bench.broker.publish(bench.host.topic(), bench.host.desired(Assignment(model="digits", active=made.digest)))

    bench.run(10)

    assert bench.outcomes[-1].refusal is not None
    assert bench.outcomes[-1].refusal.code is RefusalCode.MALFORMED


def test_a_file_whose_chunks_are_right_but_whose_whole_is_not_is_refused(bench):
    """A manifest whose file digest does not fit its own chunks is refused as a digest mismatch."""
    files = tuple(replace(f, sha256="0" * 64) if f.name == "model.tflite" else f for f in ONE.content.files)
    made = bench.host.publish(bundle("1", files=files))

    bench.host.want(made, rollout="r1")
    bench.run(10)

    assert bench.outcomes[-1].refusal is not None
    assert bench.outcomes[-1].refusal.code is RefusalCode.DIGEST_MISMATCH
    assert bench.storage.names(places.DOWNLOADS) == []
    assert bench.storage.names(places.STORE) == []


def test_several_models_are_installed_one_after_the_other(bench):
    """A desired state with two models ends with both confirmed and both served."""
    faces = bench.host.publish(bundle("7", model="faces"))
    bench.host.publish(ONE)
    wanted = [Assignment(model=b.content.model, active=b.digest) for b in (ONE, faces)]
    bench.broker.publish(bench.host.topic(), bench.host.desired(*wanted))

    bench.run(30)

    assert {m.model: m.phase for m in bench.reported.models} == {"digits": Phase.CONFIRMED, "faces": Phase.CONFIRMED}
    assert sorted(bench.launcher.alive()) == ["1", "7"]
    assert set(bench.sockets) == {"run/digits.sock", "run/faces.sock"}


def test_a_stuck_download_makes_way_for_another_model(bench):
    """A model whose chunks are nowhere does not keep the next one waiting for long."""
    faces = bench.host.publish(bundle("7", model="faces"))
    bench.host.publish(ONE, without=2)
    wanted = [Assignment(model=b.content.model, active=b.digest) for b in (ONE, faces)]
    bench.broker.publish(bench.host.topic(), bench.host.desired(*wanted))

    bench.run(150)
    bench.host.publish(ONE)
    bench.run(150)

    assert {m.model: m.phase for m in bench.reported.models} == {"digits": Phase.CONFIRMED, "faces": Phase.CONFIRMED}


def test_a_device_that_comes_up_after_the_publisher_left_still_gets_the_model(bench):
    """Everything is retained: a device that connects later needs nobody but the broker."""
    bench.transport.disconnect()
    bench.cut_power()
    bench.host.publish(ONE)
    bench.host.want(ONE, rollout="r1")

    bench.boot().run(15)

    assert bench.model().phase is Phase.CONFIRMED


def test_the_settings_of_the_bench_are_a_device_of_the_fleet():
    """The bench's device and the host's stand-in speak of the same device."""
    assert (SETTINGS.device, SETTINGS.fleet) == (Bench().host.device, Bench().host.fleet)
