"""Shadows on request: fetched, run beside what serves, reported once; they give way to everything else."""

import pytest

from edgepick_agent.core.control import Command
from edgepick_agent.core.runner_spec import RunnerMode
from edgepick_agent.core.shadowing import room_beside
from edgepick_wire.manifest import RunLimits
from edgepick_wire.messages import MeasureRequest, Phase, RefusalCode, ShadowedVariant
from edgepick_wire.shadow import ShadowRequest
from fakes.agent_bench import Bench
from fakes.host_stand_in import bundle
from fakes.runner_launcher import Script

ONE, TWO, THREE = bundle("1"), bundle("2"), bundle("3")
NARROW = bundle("4", limits=RunLimits(peak_rss_bytes=1000))


def request(number: int = 1, made=TWO, **rest) -> ShadowRequest:
    return ShadowRequest(id=f"s-{number}", manifest=made.digest, **rest)


def ended(bench: Bench) -> list[ShadowedVariant]:
    return [r.shadow for r in bench.reports if r.shadow is not None]


def shadows(bench: Bench) -> list[str]:
    return bench.launcher.alive(RunnerMode.SHADOW)


@pytest.fixture
def bench() -> Bench:
    made = Bench().boot()
    for each in (ONE, TWO, THREE, NARROW):
        made.host.publish(each)
    made.host.want(ONE, rollout="r1")
    return made.run(15)


@pytest.fixture
def shadowed(bench) -> Bench:
    """Provide a device on which the second variant shadows the first one."""
    bench.host.want(ONE, rollout="r1", shadow=request())
    bench.run(10)
    assert shadows(bench) == ["2"]
    return bench


def test_a_shadow_runs_beside_what_serves_and_changes_nothing(shadowed):
    """The active variant goes on; the candidate is told whose tap to listen to, and from which seed to draw."""
    spec = shadowed.launcher.started[-1].spec
    serving = next(p.spec for p in shadowed.launcher.started if p.mode is RunnerMode.SERVE)

    assert shadowed.launcher.alive() == ["1"]
    assert (shadowed.model().active, shadowed.model().phase) == (ONE.digest, Phase.CONFIRMED)
    assert spec.shadow is not None
    assert (spec.shadow.against, spec.shadow.request, spec.shadow.seed) == (ONE.digest, request(), "pi-1/s-1")
    assert spec.shadow.tap == serving.tap_path
    assert (spec.socket_path, spec.tcp_port, spec.tap_path) == (None, None, None)


def test_the_end_of_a_shadow_is_reported_once(bench):
    """Neither a repetition, nor a newer desired state, nor a restart runs the same request again."""
    bench.launcher.scripts["2"] = Script(shadow="ends")
    bench.host.want(ONE, rollout="r1", shadow=request())
    bench.run(15)
    bench.host.want(ONE, rollout="r1", shadow=request())
    bench.run(15)
    bench.cut_power()
    bench.boot().run(15)

    (found,) = ended(bench)
    assert (found.request, found.manifest, found.refusal, found.detail) == ("s-1", TWO.digest, None, "")
    assert found.summary is not None
    assert (found.summary.against, found.summary.compared) == (ONE.digest, 7)
    assert shadows(bench) == []


def test_a_report_is_sent_again_until_it_is_acknowledged(bench):
    """It waits in the outbox like any other report."""
    bench.launcher.scripts["2"] = Script(shadow="ends")
    bench.host.want(ONE, rollout="r1", shadow=request())
    bench.run(15)
    first = [p for p in bench.broker.payloads("/report") if b'"shadow":{' in p]

    bench.transport.disconnect()
    bench.run(5)
    bench.transport.connect()
    bench.run(5)
    again = [p for p in bench.broker.payloads("/report") if b'"shadow":{' in p]

    assert len(first) == 1
    assert len(again) > 1
    assert len(ended(bench)) == 1


@pytest.mark.parametrize("behaviour", ["crashes", "hangs"])
def test_a_candidate_that_fails_is_a_finding_not_an_incident(bench, behaviour):
    """It is reported with its reason and not tried again; what serves is not restarted, and no incident is raised."""
    bench.launcher.scripts["2"] = Script(shadow=behaviour)

    bench.host.want(ONE, rollout="r1", shadow=request())
    bench.run(30)

    (found,) = ended(bench)
    assert found.refusal is not None
    assert found.refusal.code is RefusalCode.RUNNER_FAILED
    assert [p.spec.version for p in bench.launcher.started] == ["1", "1", "2"]
    assert bench.launcher.alive() == ["1"]
    assert bench.incidents == []


def test_a_candidate_over_its_memory_is_ended_and_refused(bench):
    """What was not foreseen from the sizes is seen when it is loaded; the code says that memory was the reason."""
    bench.launcher.scripts["2"] = Script(shadow="swells")

    bench.host.want(ONE, rollout="r1", shadow=request())
    bench.run(15)

    (found,) = ended(bench)
    assert found.refusal is not None
    assert found.refusal.code is RefusalCode.NO_MEMORY
    assert shadows(bench) == []


def test_a_candidate_that_does_not_fit_beside_what_serves_is_not_started(bench):
    """The limit is that of the kind of device, as its manifest says; a model larger than what is left is refused."""
    bench.host.want(ONE, rollout="r1", shadow=request(made=NARROW))
    bench.run(15)

    (found,) = ended(bench)
    assert found.refusal is not None
    assert (found.refusal.code, found.summary) == (RefusalCode.NO_MEMORY, None)
    assert "are left beside what serves" in found.refusal.detail
    assert shadows(bench) == []


@pytest.mark.parametrize(("limit", "serving", "room"), [(None, 5, None), (100, 30, 70), (100, 130, 0)])
def test_both_together_stay_within_the_limit(limit, serving, room):
    """What serves and its shadow share the one limit; without one there is none."""
    assert room_beside(limit, serving) == room


def test_a_candidate_that_may_not_run_here_is_refused_with_its_reason(bench):
    """A shadow request is admitted like an installation."""
    foreign = bench.host.publish(bundle("9", profiles=("jetson-nano",)))

    bench.host.want(ONE, rollout="r1", shadow=request(made=foreign))
    bench.run(10)

    (found,) = ended(bench)
    assert found.refusal is not None
    assert found.refusal.code is RefusalCode.WRONG_PROFILE


def test_a_withdrawn_shadow_ends_without_a_report(shadowed):
    """A newer desired state without the request calls it off."""
    shadowed.host.want(ONE, rollout="r1")
    shadowed.run(5)

    assert shadows(shadowed) == []
    assert ended(shadowed) == []


def test_a_shadow_gives_way_to_an_installation_and_says_so(shadowed):
    """What was compared until then is reported; the trial runs without it, and it does not come back."""
    shadowed.host.want(THREE, rollout="r2", shadow=request())
    together = []
    for _ in range(40):
        shadowed.run(0.5)
        tried = any(p.running for p in shadowed.launcher.started if p.spec.version == "3" and p.mode == "measure")
        together.append(tried and bool(shadows(shadowed)))

    (found,) = ended(shadowed)
    assert not any(together)
    assert found.summary is not None
    assert found.detail == "the device had to try or measure a variant"
    assert shadowed.model().active == THREE.digest
    assert shadows(shadowed) == []


def test_a_shadow_gives_way_to_a_measurement(shadowed):
    """Nothing runs beside what is being measured but what serves."""
    measure = (MeasureRequest(id="m-1", manifest=THREE.digest),)

    shadowed.host.want(ONE, rollout="r1", measure=measure, shadow=request())
    shadowed.run(20)

    assert [m.request for m in shadowed.measured] == ["m-1"]
    assert [found.detail for found in ended(shadowed)] == ["the device had to try or measure a variant"]


def test_going_back_ends_the_shadow_of_what_was_left(shadowed):
    """A comparison is with one variant; when another serves, it is over."""
    shadowed.host.want(THREE, rollout="r2")
    shadowed.run(30)
    shadowed.host.want(THREE, rollout="r2", shadow=request(2))
    shadowed.run(10)
    assert shadows(shadowed) == ["2"]

    shadowed.host.want(ONE, rollout="r3", shadow=request(2))
    shadowed.run(30)

    assert [(f.request, f.summary is not None) for f in ended(shadowed)] == [("s-2", True)]


def test_a_shadow_that_took_the_device_down_three_times_is_not_begun_again(bench):
    """Each attempt is written down before it begins."""
    bench.host.want(ONE, rollout="r1", shadow=request())
    for _ in range(3):
        bench.run(10)
        assert shadows(bench) == ["2"]
        bench.cut_power()
        bench.boot()
    bench.run(15)

    (found,) = ended(bench)
    assert found.refusal is not None
    assert "cut short 3 times" in found.refusal.detail
    assert shadows(bench) == []


def test_what_shadows_is_kept_in_the_store(shadowed):
    """Sweeping removes nothing that a shadow runs from."""
    shadowed.run(60)

    assert any(TWO.digest in name for name in shadowed.storage.names("store"))


def test_the_status_shows_the_shadow(shadowed):
    """Who asks on the device sees which candidate runs, and what was compared so far."""
    status = shadowed.ask(Command.STATUS).status

    assert status is not None
    assert status.shadow is not None
    assert (status.shadow.model, status.shadow.manifest) == ("digits", TWO.digest)
    assert status.shadow.summary is not None
    assert status.shadow.summary.compared == 7
