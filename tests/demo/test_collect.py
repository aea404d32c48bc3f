"""What the report shows is what the host knows, and nothing is made up where nothing is known."""

from dataclasses import replace

import pytest

from edgepick_host.core.decision import CandidateResult as Judged
from edgepick_host.core.decision import Decision, DecisionRecord, ExclusionCode, Judgement
from edgepick_host.core.gates import Policy
from edgepick_host.core.records import Device, Release
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.strata import Stratum
from edgepick_host.core.variants import Rejection, RejectionCode, VariantSet
from edgepick_host.core.waves import Lane, Member, MemberStatus, Plan
from edgepick_host.demo import collect
from edgepick_host.demo.collect import Evidence
from edgepick_host.demo.result import Standing
from edgepick_profiles.load import load_profile
from edgepick_wire.messages import (
    Birth,
    InstallOutcome,
    MeasuredVariant,
    ModelState,
    Outcome,
    Phase,
    Report,
    Reported,
    ReportKind,
)
from edgepick_wire.metrics import EnergySummary, LatencySummary, Measurement, MeasurePlan
from fakes.runner_launcher import measurement

PI4 = "raspberry-pi-4"
FAST, SLOW, BAD = "a" * 64, "b" * 64, "c" * 64
ROLLOUT = "r-1"


def measured(p50: int | None, *, rss: int = 1000) -> Measurement:
    made = measurement(MeasurePlan())
    latency = LatencySummary(runs=60, mean_ns=1, stdev_ns=1, min_ns=1, max_ns=1, p50_ns=p50, p95_ns=p50)
    return replace(made, latency=latency, memory=replace(made.memory, peak_rss_bytes=rss))


def result(manifest: str, found: Measurement) -> MeasuredVariant:
    return MeasuredVariant(request="q", model="digits", manifest=manifest, measurement=found)


def release(manifest: str, name: str, *, size: int, drop: float) -> Release:
    return Release(
        model="digits",
        version="1",
        variant=name,
        manifest=manifest,
        profiles=(PI4,),
        size_bytes=size,
        security_epoch=0,
        accuracy=0.99 - drop,
        accuracy_drop=drop,
        rank=0,
        published_at=0.0,
    )


def decision(**changes) -> Decision:
    values = {
        "model": "digits",
        "stratum": Stratum(profile=PI4, devices=("one", "two")),
        "verdict": Judgement.PROMOTE,
        "winner": FAST,
        "winner_label": "1 fast",
        "reasons": ("It is fast.",),
        "incumbent": None,
        "incumbent_label": None,
        "candidates": (
            Judged(manifest=FAST, label="1 fast"),
            Judged(manifest=SLOW, label="1 slow", excluded=ExclusionCode.RANKED_LOWER, reason="slower"),
            Judged(manifest=BAD, label="1 bad", excluded=ExclusionCode.GATE, reason="too inaccurate"),
        ),
        "effects": (),
        "objective": "minimise latency",
        "policy": Policy(),
        "inputs": "0" * 64,
        "code_version": "0",
    }
    return Decision(**{**values, **changes})


@pytest.fixture
def evidence() -> Evidence:
    releases = (
        release(FAST, "fast", size=50, drop=0.0),
        release(SLOW, "slow", size=60, drop=0.0),
        release(BAD, "bad", size=10, drop=0.2),
    )
    rejections = (
        Rejection(recipe="float16", profile=PI4, code=RejectionCode.RULES, reason="not accepted"),
        Rejection(recipe="float16", profile="mcu-cortex-m4", code=RejectionCode.RULES, reason="integers only"),
    )
    return Evidence(
        variants=VariantSet(
            model="digits",
            source_sha256="0" * 64,
            golden="golden.npz",
            float_accuracy=0.99,
            max_accuracy_drop=0.01,
            profiles=(PI4,),
            variants=(),
            rejections=rejections,
        ),
        releases={r.manifest: r for r in releases},
        results={
            ("one", FAST): result(FAST, measured(100, rss=1000)),
            ("two", FAST): result(FAST, measured(300, rss=5000)),
            ("one", SLOW): result(SLOW, measured(400)),
        },
        decisions={PI4: decision()},
    )


def test_each_candidate_has_its_standing_and_its_reason(evidence: Evidence) -> None:
    """The winner is chosen, what lost is eligible, what broke a limit is excluded."""
    found = collect.profile_result(load_profile(PI4), evidence)

    assert [(c.label, c.standing, c.reason) for c in found.candidates] == [
        ("fast", Standing.CHOSEN, ""),
        ("slow", Standing.ELIGIBLE, "slower"),
        ("bad", Standing.EXCLUDED, "too inaccurate"),
    ]
    assert found.chosen == "fast"
    assert found.reasons == ("It is fast.",)


def test_figures_are_the_middle_of_the_devices_and_memory_the_worst(evidence: Evidence) -> None:
    """Latency is the median over devices, memory the largest, and unmeasured stays unknown."""
    fast, slow, bad = collect.profile_result(load_profile(PI4), evidence).candidates

    assert (fast.p50_ns, fast.peak_rss_bytes, fast.devices) == (200, 5000, 2)
    assert (slow.p50_ns, slow.devices) == (400, 1)
    assert (bad.p50_ns, bad.peak_rss_bytes, bad.devices) == (None, None, 0)


def test_the_front_leaves_out_what_is_beaten_or_excluded(evidence: Evidence) -> None:
    """A variant that is slower, larger and no more accurate is not on it; nor is one beyond a limit."""
    found = collect.profile_result(load_profile(PI4), evidence)

    assert [c.label for c in found.candidates if c.on_front] == ["fast"]


def test_rejections_are_those_of_the_profile(evidence: Evidence) -> None:
    """What another profile's rules forbid is not told here."""
    found = collect.profile_result(load_profile(PI4), evidence)

    assert [(r.recipe, r.gate, r.reason) for r in found.rejected] == [("float16", "rules", "not accepted")]


def test_energy_without_a_sensor_keeps_the_devices_reason(evidence: Evidence) -> None:
    """The reason is the runner's own, not ours."""
    found = collect.profile_result(load_profile(PI4), evidence)

    assert found.candidates[0].energy_uj is None
    assert found.candidates[0].energy_reason == "no sensor"


@pytest.mark.parametrize(("net", "kind", "shown"), [(5.0, "net", [7.0, 5.0]), (None, "gross", [20.0, 30.0])])
def test_the_energies_of_a_profile_are_of_one_kind(evidence: Evidence, net, kind, shown) -> None:
    """Net of idle power where every measurement tells it, otherwise gross for all, and the row says which."""
    energies = {FAST: EnergySummary(gross_uj=20.0, net_uj=7.0), SLOW: EnergySummary(gross_uj=30.0, net_uj=net)}
    results = {
        (device, manifest): result(manifest, replace(measured(100), energy=energies[manifest]))
        for device, manifest in evidence.results
    }

    fast, slow, bad = collect.profile_result(load_profile(PI4), replace(evidence, results=results)).candidates

    assert [fast.energy_uj, slow.energy_uj] == shown
    assert [fast.energy_kind, slow.energy_kind, bad.energy_kind] == [kind, kind, None]


def test_a_profile_without_a_decision_says_so(evidence: Evidence) -> None:
    """Nothing decided is a result too."""
    found = collect.profile_result(load_profile(PI4), replace(evidence, decisions={}))

    assert (found.chosen, found.candidates) == (None, ())
    assert found.reasons == ("Nothing was decided.",)


def test_only_the_decisions_of_the_rollout_count() -> None:
    """Of two strata the first leads; decisions of other rollouts are left out."""

    def entry(rollout: str, made: Decision) -> DecisionRecord:
        return DecisionRecord(id="x", rollout=rollout, decided_at=0.0, previous="0" * 64, decision=made)

    lead, second, foreign = decision(), decision(winner=SLOW), decision(winner=BAD)

    found = collect.decisions_of([entry("r-0", foreign), entry(ROLLOUT, lead), entry(ROLLOUT, second)], ROLLOUT)

    assert found == {PI4: lead}


def device(*models: ModelState) -> Device:
    birth = Birth(
        device="one",
        session=1,
        profile=PI4,
        agent_version="0",
        machine="m",
        system="s",
        python="3",
        runtimes=(),
        memory_bytes=1,
        disk_free_bytes=1,
        stand_in=True,
    )
    reported = Reported(device="one", session=1, sequence=1, security_epoch=0, models=models)
    return Device(device="one", birth=birth, reported=reported, online=True)


def test_a_device_shows_what_really_ran_its_model(evidence: Evidence) -> None:
    """Runtime and accelerator come from the device's measurement of what it runs."""
    running = ModelState(model="digits", phase=Phase.CONFIRMED, active=FAST, active_label="digits 1 fast")

    found = collect.fleet_device(device(running), "digits", evidence.results, rss_bytes=1)

    assert (found.running, found.phase, found.runtime) == ("digits 1 fast", "confirmed", "litert 2.1, cpu")
    assert found.stand_in


def test_a_device_that_runs_nothing_shows_nothing(evidence: Evidence) -> None:
    """An empty cell, not an invented one."""
    found = collect.fleet_device(device(), "digits", evidence.results, rss_bytes=None)

    assert (found.running, found.phase, found.runtime) == ("", "", "")


def test_waves_list_the_devices_that_were_reached() -> None:
    """Each with its outcome and the device's own time; a wave that never began is left out."""
    members = (
        Member(device="one", wave=0, previous=None, status=MemberStatus.CONFIRMED),
        Member(device="two", wave=1, previous=None),
    )
    lane = Lane(
        profile=PI4,
        label=PI4,
        stand_in=True,
        verdict=Judgement.PROMOTE,
        winner=FAST,
        winner_label="1 fast",
        reason="",
        members=members,
    )
    state = RolloutState(
        id=ROLLOUT,
        model="digits",
        plan=Plan(version="1"),
        stage=Stage.DONE,
        waves=1,
        started_at=0.0,
        deadline=None,
        lanes=(lane,),
    )
    install = InstallOutcome(
        model="digits", manifest=FAST, outcome=Outcome.CONFIRMED, sequence=1, rollout=ROLLOUT, seconds=4.5
    )
    report = Report(id="i", device="one", session=1, recorded_at=0.0, kind=ReportKind.INSTALL, install=install)

    found = collect.waves(state, [report], {0: 48.0})

    assert [(w.name, w.at_seconds) for w in found] == [("Canary", 48.0)]
    assert [(d.device, d.variant, d.outcome, d.seconds) for d in found[0].devices] == [
        ("one", "1 fast", "confirmed", 4.5)
    ]
