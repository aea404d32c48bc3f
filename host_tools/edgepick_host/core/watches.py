"""What a rollout keeps an eye on, in numbers: how near each watch is to sending everything back. Pure.

A watch stops the rollout when its e-value reaches one over its error rate; then, and not before, harm is shown.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgepick_host.core.arms import comparing, pairs
from edgepick_host.core.experiment.between import first_to_fail, silent_sides
from edgepick_host.core.experiment.evidence import Tally, above, e_value, share
from edgepick_host.core.experiment.harm import HarmRules, Watched
from edgepick_host.core.experiment.rates import least_failures, rate_evidence
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.waves import Lane, MemberStatus, Plan, count

LARGEST = 1e12
"""An e-value beyond that is told as this: it has long been enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One watch over one stratum.

    Attributes:
        lane: The stratum.
        what: What is watched.
        e_value: How strongly what is known speaks for harm; 1 for not at all, below 1 against it.
        stops_at: The e-value at which everything returns.
        text: What is known, and what it would take.
    """

    lane: str
    what: str
    e_value: float
    stops_at: float
    text: str


def watches(state: RolloutState) -> tuple[Watch, ...]:
    """Return every watch that the rollout keeps now; none before it has lanes, or once nothing more is offered."""
    if state.stage.terminal or state.ending is not None:
        return ()
    return tuple(watch for lane in state.lanes if lane.active for watch in _of(state, lane))


def watched(state: RolloutState, lane: Lane) -> Watched:
    """Return what the harm monitor knows of a stratum."""
    return Watched(
        failed=count(lane.members, MemberStatus.FAILED),
        counted=sum(m.wave <= state.wave and m.counts for m in lane.members),
        effects=[m.grown for m in lane.members if m.grown is not None] if state.plan.checks else (),
    )


def harm_rules(plan: Plan) -> HarmRules | None:
    """Return what a plan calls harm; ``None`` if it keeps no such watch."""
    if not plan.tolerated:
        return None
    return HarmRules(tolerated=share(plan.tolerated), slower=plan.max_slower, alpha=share(plan.policy.alpha_harm))


def _of(state: RolloutState, lane: Lane) -> Iterator[Watch]:
    rules = harm_rules(state.plan)
    if rules is not None:
        seen, rate = watched(state, lane), rules.alpha / (2 * state.strata)
        yield _failures(lane, seen, rules, rate)
        if seen.effects:
            yield _slower(lane, seen.effects, rules, rate)
    if comparing(state):
        yield _arms(lane, share(state.plan.policy.alpha_harm) / state.strata)


def _failures(lane: Lane, seen: Watched, rules: HarmRules, rate: Fraction) -> Watch:
    least = least_failures(seen.counted, rules.tolerated, rate)
    takes = "too few to tell" if least is None else f"{least} would be too many"
    return Watch(
        lane=lane.label,
        what="devices that fail",
        e_value=_told(rate_evidence(seen.failed, max(seen.counted, seen.failed), rules.tolerated)),
        stops_at=float(1 / rate),
        text=f"{seen.failed} of {seen.counted} devices failed, {float(rules.tolerated):.2%} are tolerated; {takes}",
    )


def _slower(lane: Lane, effects: Sequence[float], rules: HarmRules, rate: Fraction) -> Watch:
    tally = above(effects, math.log1p(rules.slower))
    return Watch(
        lane=lane.label,
        what="devices that become slower",
        e_value=_told(e_value(tally)),
        stops_at=float(1 / rate),
        text=f"{tally.wins} of {tally.units} devices are more than {rules.slower:.0%} worse than before",
    )


def _arms(lane: Lane, rate: Fraction) -> Watch:
    drawn = pairs(lane)
    tally, silent = first_to_fail(drawn), silent_sides(drawn)
    return Watch(
        lane=lane.label,
        what="between devices",
        e_value=_told(_one_sided(tally)),
        stops_at=float(1 / rate),
        text=f"{len(drawn)} pairs of devices, in {tally.units} of them one failed first, in {tally.wins} the "
        f"candidate's; one is silent in {silent.units}, the candidate's in {silent.wins}",
    )


def _one_sided(tally: Tally) -> Fraction:
    return e_value(tally) if 2 * tally.wins > tally.units else min(Fraction(1), e_value(tally))


def _told(evidence: Fraction) -> float:
    return float(min(evidence, Fraction(LARGEST)))
