"""A bad variant is stopped by what all waves together show, long before a single wave breaks its own limit."""

import dataclasses
import random

import pytest

from edgepick_host.core.checks import Limit
from edgepick_host.core.constraints import Bounded
from edgepick_host.core.rollout import begin, step
from edgepick_host.core.rollout_state import Decided, EvidenceReady, Heard, RolloutState, Stage
from edgepick_host.core.waves import MemberStatus, Plan, Seat, seat
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import Outcome
from fakes.lanes import promoted
from fleet.synthetic import installed, measured, measurement, release

RELEASE = release("new")
NEW, OLD = RELEASE.manifest, digest_of(b"old")
LIMITS = (Limit(figure=Bounded.LATENCY, most=15e6, before=10e6),)
WAVES = tuple(n / 100 for n in (5, 10, 15, 20, 40, 100))


def started(devices: int, **options) -> RolloutState:
    """Return a rollout over online devices whose canary, one device, has been offered the variant."""
    limited = len(options.get("checks", "").split())
    plan = Plan(version="1", canary=1, waves=WAVES, max_failures=0.5, soak_seconds=0, **options)
    seats = [Seat(device=f"d{n:04}", online=True, previous=OLD, limits=LIMITS[:limited]) for n in range(devices)]
    lane = promoted(NEW, seat("r-1", plan, seats))
    state = begin("r-1", "digits", plan, now=0.0)
    for event in (EvidenceReady(now=0.0, detail="ready"), Decided(now=0.0, lanes=(lane,))):
        state, _ = step(state, event)
    return state


def answered(state: RolloutState, fails) -> RolloutState:
    """Return the rollout once every device that is asked has answered, and ``fails`` says which failed."""
    while not (state.stage.terminal or state.stage is Stage.REVERTING):
        offered = [m for m in state.members if m.status is MemberStatus.OFFERED]
        reports = [
            installed(
                m.device, NEW, Outcome.REVERTED if m.wave and fails(m.device) else Outcome.CONFIRMED, rollout="r-1"
            )
            for m in offered
        ]
        state, _ = step(state, Heard(now=1.0, first=state.reports_seen, reports=tuple(reports)))
    return state


def touched(state: RolloutState) -> int:
    return sum(m.touched for m in state.members)


def lot(share: float, seed: int):
    """Return who fails: this share of the devices, by lot."""
    rng = random.Random(seed)
    chosen = {f"d{n:04}" for n in range(2000) if rng.random() < share}
    return chosen.__contains__


@pytest.mark.parametrize("seed", range(5))
def test_a_variant_that_fails_on_a_twentieth_returns_although_no_wave_breaks_its_limit(seed):
    """Half of a wave may fail, and everything returns at one in twenty, before the last wave begins."""
    state = answered(started(2000), lot(0.05, seed))

    assert state.stage is Stage.REVERTING
    assert "shown to be more than the 0.50% that are tolerated" in state.reason
    assert touched(state) <= 800


def test_failures_of_several_waves_add_up():
    """Two failures in each wave of a hundred are none too many by themselves, and too many after the fourth."""
    state = started(2000)
    waves = {m.device: m.wave for m in state.members}
    chosen = {d for wave in range(1, 7) for d in sorted(d for d in waves if waves[d] == wave)[:2]}

    ended = answered(state, chosen.__contains__)

    assert ended.stage is Stage.REVERTING
    assert ended.reason.startswith("pi: 8 of 400 devices failed")
    assert "wrong answers; " in ended.reason


def measuring(state: RolloutState, ratio: float) -> RolloutState:
    """Return the rollout once every device has confirmed and measured again, at this ratio to before."""
    rng = random.Random(7)
    while not (state.stage.terminal or state.stage is Stage.REVERTING):
        offered = [m.device for m in state.members if m.status is MemberStatus.OFFERED]
        figures = [measurement(p50_ms=10 * ratio * rng.lognormvariate(0, 0.05)) for _ in offered]
        told = [installed(d, NEW, Outcome.CONFIRMED, rollout="r-1") for d in offered]
        said = [_again(d, f) for d, f in zip(offered, figures, strict=True)]
        state, _ = step(state, Heard(now=1.0, first=state.reports_seen, reports=(*told, *said)))
    return state


def _again(device: str, figures):
    report = measured(device, RELEASE, figures)
    return dataclasses.replace(report, measurement=dataclasses.replace(report.measurement, request="after-r-1"))


def test_a_variant_that_is_a_tenth_slower_returns_although_each_device_keeps_its_limit():
    """Every device may be half as slow again, and everything returns at a tenth, after the first wave."""
    slow = measuring(started(2000, checks="latency <= +50%"), 1.10)

    assert slow.stage is Stage.REVERTING
    assert "devices are more than 5% worse than before" in slow.reason
    assert touched(slow) <= 101


def test_a_variant_that_is_as_quick_as_before_reaches_everybody():
    """Noise of five per cent around what was measured before is no harm."""
    assert measuring(started(2000, checks="latency <= +50%"), 1.0).stage is Stage.DONE


def test_a_healthy_variant_reaches_everybody():
    """With as many failures as are tolerated, the rollout goes on to the end."""
    assert answered(started(2000), lot(0.004, seed=1)).stage is Stage.DONE


def test_a_fleet_that_tolerates_more_is_told_so_by_its_plan():
    """The same failures are borne where the operator tolerates them, and where nobody watches."""
    assert answered(started(2000, tolerated=0.2), lot(0.05, seed=1)).stage is Stage.DONE
    assert answered(started(2000, tolerated=0.0), lot(0.05, seed=1)).stage is Stage.DONE


@pytest.mark.parametrize("wrong", [{"tolerated": 0.5}, {"tolerated": -0.1}, {"max_slower": -0.1}])
def test_a_tolerance_of_everything_or_less_than_nothing_is_refused(wrong):
    """A plan says from where on there is harm, or that nobody watches."""
    with pytest.raises(MalformedError):
        Plan(version="1", **wrong)
