"""A rollout in which everything happens that a page has to show, and a device that is pinned and has had a shadow."""

from dataclasses import replace

from edgepick_host.core.experiment.between import Between
from edgepick_host.core.rollout import begin
from edgepick_host.core.rollout_state import HistoryLine, RolloutState, Stage
from edgepick_host.core.waves import Lane, Leg, Member, MemberStatus, Plan
from edgepick_wire.messages import ModelState, Phase, Report, Reported, ReportKind, ShadowedVariant
from edgepick_wire.shadow import OutputDifference, ShadowSummary
from fakes.lanes import promoted
from host.web.small_fleet import FLOAT, INT8

BUSY = "r-busy"
PLAN = Plan(
    version="1",
    variant="int8",
    waves=(0.5, 1.0),
    window="mon-fri 01:00-05:00",
    phase_seconds={"fetch": 1800.0},
    between=Between(share=0.5, seconds=3600.0),
    only="site=lab",
)


def busy() -> RolloutState:
    """Return a rollout that compares its arms, one of which has failed and crashed, beside a stratum that is held."""
    members = (
        member(0, wave=0, status=MemberStatus.CONFIRMED),
        *(member(n, wave=1, status=MemberStatus.CONFIRMED) for n in range(1, 60)),
        member(60, wave=1, status=MemberStatus.FAILED, struck=3.0, reason="too long in phase fetch"),
        member(61, wave=1, status=MemberStatus.OFFERED, leg=Leg.FETCH, since=2.0),
        *(member(n, wave=2) for n in range(62, 124)),
    )
    running = lane("pi 4", members=members, joined=3)
    begun = begin(BUSY, "digits", PLAN, now=1.0)
    return replace(
        begun,
        stage=Stage.WAVE,
        wave=1,
        lanes=(running, lane("pi 5", held="no canary device answered before the deadline")),
        history=(HistoryLine(at=2.0, text="3 new device(s) joined the last wave"),),
    )


def opening(rollout: RolloutState) -> RolloutState:
    """Return the rollout as it waits for its maintenance window to open for the second wave."""
    return replace(rollout, upcoming=2, opens_at=5_000.0, compared="pi 4: 60 pairs of devices")


def member(number: int, *, wave: int, **others) -> Member:
    return Member(device=f"pi-{number:05}", wave=wave, previous=FLOAT, online=True, reached=True, **others)


def lane(label: str, **others) -> Lane:
    why = "chosen by the operator"
    return promoted(INT8, profile="raspberry-pi-4", label=label, winner_label="1 int8", reason=why, **others)


def shadow_of(device: str) -> Report:
    """Return what a device says at the end of a shadow."""
    output = OutputDifference(name="digits", max_abs=0.2, mean_abs=0.01, rows=100, agreeing=99)
    summary = ShadowSummary(
        against=FLOAT, seconds=60.0, seen=1000, drawn=100, compared=100, outputs=(output,), ratio=1.5
    )
    told = ShadowedVariant(request="s-1", model="digits", manifest=INT8, summary=summary)
    return Report(id="s1", device=device, session=1, recorded_at=5.0, kind=ReportKind.SHADOW, shadow=told)


def pinned(device: str) -> Reported:
    """Return what a device says that a technician has pinned."""
    state = ModelState(model="digits", phase=Phase.CONFIRMED, active=FLOAT, active_label="1 float32", pinned=True)
    return Reported(device=device, session=1, sequence=2, security_epoch=0, models=(state,))
