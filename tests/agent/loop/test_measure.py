"""Measuring on request: once, without touching what is active, whatever the variant does."""

import pytest

from edgepick_wire.messages import IncidentCode, MeasureRequest, Phase, RefusalCode
from edgepick_wire.metrics import MeasurePlan
from edgepick_wire.pairing import PairOrder
from fakes.agent_bench import Bench
from fakes.host_stand_in import bundle
from fakes.runner_launcher import Script

ONE, TWO = bundle("1"), bundle("2")


def request(number: int = 1, made=TWO, **rest) -> MeasureRequest:
    return MeasureRequest(id=f"m-{number}", manifest=made.digest, **rest)


@pytest.fixture
def bench() -> Bench:
    made = Bench().boot()
    made.host.publish(ONE)
    made.host.publish(TWO)
    made.host.want(ONE, rollout="r1")
    return made.run(15)


def test_a_requested_measurement_is_reported_and_nothing_else_changes(bench):
    """The report carries the request's id and plan; the active variant never stops."""
    serving = bench.launcher.started[-1]
    plan = MeasurePlan(min_runs=7)

    bench.host.want(ONE, rollout="r1", measure=(request(plan=plan),))
    bench.run(15)

    (measured,) = bench.measured
    assert (measured.request, measured.manifest) == ("m-1", TWO.digest)
    assert measured.measurement is not None
    assert measured.measurement.plan == plan
    assert serving.running
    assert (bench.model().active, bench.model().phase) == (ONE.digest, Phase.CONFIRMED)
    assert bench.launcher.alive() == ["1"]


def test_a_request_is_carried_out_once(bench):
    """Neither a repetition, nor a newer desired state, nor a restart measures the same request again."""
    bench.host.want(ONE, rollout="r1", measure=(request(),))
    bench.run(15)
    bench.host.want(ONE, rollout="r1", measure=(request(),))
    bench.run(15)
    bench.cut_power()
    bench.boot().run(15)

    assert len(bench.measured) == 1


def test_several_requests_are_carried_out_one_at_a_time(bench):
    """Two measurements never run side by side."""
    bench.host.want(ONE, rollout="r1", measure=tuple(request(n) for n in range(4)))
    together = []
    for _ in range(60):
        bench.run(0.5)
        together.append(sum(p.running for p in bench.launcher.started if p.mode == "measure"))

    assert [m.request for m in bench.measured] == ["m-0", "m-1", "m-2", "m-3"]
    assert max(together) <= 1


@pytest.mark.parametrize("measure", ["cannot", "crashes", "hangs", "swells"])
def test_a_variant_that_cannot_be_measured_gives_a_reason_instead(bench, measure):
    """Missing data is said, never left out: the report carries a refusal, and an incident tells what happened."""
    bench.launcher.scripts["2"] = Script(measure=measure)

    bench.host.want(ONE, rollout="r1", measure=(request(),))
    bench.run(15)

    (measured,) = bench.measured
    assert measured.measurement is None
    assert measured.refusal is not None
    assert measured.refusal.code is RefusalCode.RUNNER_FAILED
    assert IncidentCode.MEASUREMENT_FAILED in {i.code for i in bench.incidents}
    assert bench.launcher.alive() == ["1"]


def test_a_variant_with_wrong_answers_is_measured_all_the_same(bench):
    """A measurement tells that the golden inputs failed; what that means is for the host to say."""
    bench.launcher.scripts["2"] = Script(measure="fails")

    bench.host.want(ONE, rollout="r1", measure=(request(),))
    bench.run(15)

    (measured,) = bench.measured
    assert measured.measurement is not None
    assert measured.measurement.golden is not None
    assert not measured.measurement.golden.passed


def test_a_variant_that_may_not_run_here_is_refused_with_its_reason(bench):
    """A measure request is admitted like an installation."""
    foreign = bench.host.publish(bundle("9", profiles=("jetson-nano",)))

    bench.host.want(ONE, rollout="r1", measure=(request(made=foreign),))
    bench.run(10)

    assert bench.measured[0].refusal is not None
    assert bench.measured[0].refusal.code is RefusalCode.WRONG_PROFILE


def test_a_measured_variant_is_installed_without_fetching_it_again(bench):
    """What was fetched for a measurement is there when the rollout comes."""
    bench.host.want(ONE, rollout="r1", measure=(request(),))
    bench.run(15)
    bench.broker.delivered.clear()

    bench.host.want(TWO, rollout="r2")
    bench.run(15)

    assert bench.model().active == TWO.digest
    assert [t for t in bench.broker.delivered if "/c/" in t] == []


def test_an_installation_goes_before_measurements(bench):
    """What runs is put right first; only then is there time to measure, and never while a variant is unconfirmed."""
    bench.host.want(TWO, rollout="r2", measure=(request(made=ONE),))
    order = []
    for _ in range(60):
        bench.run(0.5)
        order.append((bench.model().phase, len(bench.measured)))

    first = next(phase for phase, count in order if count)
    assert first is Phase.CONFIRMED
    assert all(phase is Phase.CONFIRMED for phase, count in order if count)


def test_a_withdrawn_request_is_not_carried_out(bench):
    """A newer desired state without the request ends its work."""
    bench.launcher.scripts["2"] = Script(measure="slow")
    bench.host.want(ONE, rollout="r1", measure=(request(),))
    bench.run(5)

    bench.host.want(ONE, rollout="r1")
    bench.run(5)

    assert bench.measured == []
    assert [p for p in bench.launcher.started if p.mode == "measure" and p.running] == []


def test_a_pair_is_measured_beside_what_runs(bench):
    """An order with a pair gives the runner the installed variant's file too, and the device's name for the coin."""
    pair = PairOrder(against=ONE.digest, key="r1")

    bench.host.want(ONE, rollout="r1", measure=(request(pair=pair),))
    bench.run(15)

    beside = next(p.spec.beside for p in bench.launcher.started if p.spec.beside)
    assert ONE.digest in beside.model_path
    assert (beside.device, beside.pair) == (bench.settings.device, pair)
    assert len(bench.measured) == 1


@pytest.mark.parametrize(("against", "found"), [("b" * 64, None), (TWO.digest, TWO.digest)])
def test_a_pair_needs_what_it_compares_with(bench, against, found):
    """Against a variant that is not installed, the candidate is measured alone; against itself it is an A/A run."""
    bench.host.want(ONE, rollout="r1", measure=(request(pair=PairOrder(against=against, key="r1")),))
    bench.run(15)

    besides = [p.spec.beside for p in bench.launcher.started if p.spec.beside]
    assert [found in b.model_path for b in besides] == ([True] if found else [])
    assert len(bench.measured) == 1
