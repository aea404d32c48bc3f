"""A store with a small fleet, a rollout under way, and a decision, for the API and the page."""

from dataclasses import replace

from edgepick_host.core import decision as decisions
from edgepick_host.core import rollout as core
from edgepick_host.core.access import token_digest
from edgepick_host.core.decision import CandidateResult, Effect, Figure, Judgement
from edgepick_host.core.experiment.trial import Verdict
from edgepick_host.core.gates import Policy
from edgepick_host.core.objective import Metric
from edgepick_host.core.proof import Proof, Scope
from edgepick_host.core.records import Release, Role, Token
from edgepick_host.core.rollout_state import HistoryLine, Stage
from edgepick_host.core.strata import Stratum
from edgepick_host.core.waves import Lane, Member, MemberStatus, Plan
from edgepick_host.ports import Store
from edgepick_host.service.requests import save_rollout
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import (
    Birth,
    Incident,
    IncidentCode,
    ModelState,
    Phase,
    Presence,
    Refusal,
    RefusalCode,
    Report,
    Reported,
    ReportKind,
)

FLOAT, INT8 = digest_of(b"float"), digest_of(b"int8")
VIEWER, OPERATOR = "ep_viewer", "ep_operator"
ROLLOUT = "r-1"
STRATUM = Stratum(profile="raspberry-pi-4", runs_on=("litert/xnnpack",), stand_in=True, devices=("pi-00000",))


def release(variant: str, manifest: str, size: int) -> Release:
    return Release(
        model="digits",
        version="1",
        variant=variant,
        manifest=manifest,
        profiles=("raspberry-pi-4",),
        size_bytes=size,
        security_epoch=0,
        accuracy=0.97,
        accuracy_drop=0.0,
        rank=0,
        published_at=1.0,
    )


def fill(store: Store, devices: int) -> None:
    """Put everything in."""
    for name, role, secret in (("ann", Role.OPERATOR, OPERATOR), ("bob", Role.VIEWER, VIEWER)):
        store.save_token(Token(name=name, role=role, digest=token_digest(secret), created_at=1.0))
    store.save_release(release("float32", FLOAT, 200_000), b"float")
    store.save_release(release("int8", INT8, 50_000), b"int8")
    names = [f"pi-{number:05}" for number in range(devices)]
    with store.batch():
        for number, name in enumerate(names):
            add_device(store, number, name)
    document = decisions.record(decision(), rollout=ROLLOUT, decided_at=2.0, previous=None)
    store.append_decision("digits", document)
    save_rollout(store, rollout(names, decisions.parse_record(document).id))


def add_device(store: Store, number: int, name: str) -> None:
    born = Birth(
        device=name,
        session=1,
        profile="raspberry-pi-4",
        agent_version="0.1.0",
        machine="aarch64",
        system="Linux",
        python="3.11",
        runtimes=(),
        memory_bytes=1,
        disk_free_bytes=1,
        stand_in=True,
    )
    refusal = (
        Refusal(code=RefusalCode.NO_SPACE, detail="<b>full</b>", hint="Delete something.") if number == 1 else None
    )
    state = ModelState(
        model="digits",
        phase=Phase.CONFIRMED,
        active=INT8 if number % 2 else FLOAT,
        active_label="1 int8" if number % 2 else "1 float32",
        refusal=refusal,
    )
    store.heard_birth(born, 1.0)
    store.heard_presence(name, Presence(session=1, online=number != 2), 2.0)
    store.heard_reported(Reported(device=name, session=1, sequence=1, security_epoch=0, models=(state,)), 3.0)
    incident = Incident(code=IncidentCode.RUNNER_CRASHED, detail="<script>alert(1)</script>", model="digits")
    store.add_report(
        Report(id="i1", device=name, session=1, recorded_at=2.0, kind=ReportKind.INCIDENT, incident=incident), 3.0
    )


def decision() -> decisions.Decision:
    plain = decisions.plain_decision(
        model="digits",
        stratum=STRATUM,
        verdict=Judgement.PROMOTE,
        reasons=("int8 is 40 % faster and loses no accuracy",),
        policy=Policy(),
        winner=INT8,
        winner_label="1 int8",
        incumbent=FLOAT,
        incumbent_label="1 float32",
    )
    figures = {FLOAT: (1e6, 9e6, 0.03), INT8: (0.6e6, 6e6, 0.031)}
    candidates = [
        CandidateResult(
            manifest=manifest,
            label=label,
            figures=tuple(
                Figure(metric=metric, value=value, devices=1)
                for metric, value in zip((Metric.LATENCY, Metric.MEMORY, Metric.ERROR), figures[manifest], strict=True)
            ),
            reason="" if manifest == INT8 else "40 % slower",
        )
        for manifest, label in ((INT8, "1 int8"), (FLOAT, "1 float32"))
    ]
    proof = Proof(
        candidate=INT8,
        metric=Metric.LATENCY,
        scope=Scope.FLEET,
        gain=0.0,
        paired=True,
        units=12,
        wins=12,
        losses=0,
        e_promote=315.0,
        e_harm=0.1,
        rate="1/20",
        rate_harm="1/100",
        low=0.55,
        high=0.65,
        needed=7,
        verdict=Verdict.PROMOTE,
    )
    effect = Effect(candidate=INT8, metric=Metric.LATENCY, ratio=0.6, devices=1)
    return replace(plain, candidates=tuple(candidates), effects=(effect,), proofs=(proof,))


def rollout(names: list[str], decided: str) -> core.RolloutState:
    members = tuple(
        Member(
            device=name,
            wave=0 if number == 0 else 1,
            previous=FLOAT,
            status=MemberStatus.CONFIRMED if number == 0 else MemberStatus.OFFERED,
        )
        for number, name in enumerate(names)
    )
    lane = Lane(
        profile="raspberry-pi-4",
        label=STRATUM.label,
        stand_in=True,
        verdict=Judgement.PROMOTE,
        winner=INT8,
        winner_label="1 int8",
        reason="int8 is 40 % faster",
        decision=decided,
        members=members,
    )
    begun = core.begin(ROLLOUT, "digits", Plan(version="1"), now=1.0)
    line = HistoryLine(at=2.0, text="canary begins")
    return replace(begun, stage=Stage.WAVE, wave=1, waves=3, lanes=(lane,), history=(line,), deadline=100.0)
