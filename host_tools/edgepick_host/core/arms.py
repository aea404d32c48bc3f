"""A rollout that compares its first wave with those that wait: who is paired with whom, and what follows. Pure.

The first wave after the canary is one arm; whoever comes later is the other. Their order is a hash of rollout and
device, so the arms are drawn by lot and stored with the members, and nobody ever changes sides.
"""

import dataclasses

from edgepick_host.core.experiment.between import (
    Conclusion,
    Pair,
    Subject,
    conclude,
    first_to_fail,
    harm_shown,
    prospect,
)
from edgepick_host.core.experiment.evidence import share
from edgepick_host.core.rollout_moves import go_back, offer, say
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.waves import Lane, Member, MemberStatus, Plan

ARM = 1
"""Number of the wave whose devices are given the candidate."""


def pairs(lane: Lane) -> list[Pair]:
    """Return the lane's pairs as they were drawn, less those whose first device is pinned to another variant."""
    candidates = [m for m in lane.members if m.wave == ARM]
    incumbents = [m for m in lane.members if m.wave > ARM]
    drawn = zip(candidates, incumbents, strict=False)
    return [(_subject(a), _subject(b)) for a, b in drawn if a.status is not MemberStatus.DECLINED]


def _subject(member: Member) -> Subject:
    return Subject(struck=member.struck, reached=member.reached, answers=member.online)


def comparing(state: RolloutState) -> bool:
    """Return whether the arms are being compared."""
    return state.plan.between is not None and state.wave == ARM and not state.compared


def excess_harm(state: RolloutState) -> str:
    """Return why the candidate is shown to fail more often than what runs on the other arm, or nothing."""
    if not comparing(state):
        return ""
    rate = share(state.plan.policy.alpha_harm) / state.strata
    found = ((lane, harm_shown(pairs(lane), rate)) for lane in state.lanes if lane.active)
    return next((f"{lane.label}: {text}" for lane, text in found if text), "")


def compare(state: RolloutState, now: float) -> RolloutState:
    """Return the state while the arms are compared, and at the end of that: the next wave, or everything back."""
    rules = state.plan.between
    if rules is None:
        return state
    if state.compare_until is None:
        until = dataclasses.replace(state, compare_until=now + rules.seconds)
        return say(until, now, f"the arms are compared for {rules.seconds:g} s")
    if now < state.compare_until:
        return state
    alpha = state.plan.policy.alpha / state.strata
    found = {n: conclude(pairs(lane), rules, alpha) for n, lane in enumerate(state.lanes) if lane.active}
    lanes = tuple(_with(lane, found.get(n)) for n, lane in enumerate(state.lanes))
    text = "; ".join(f"{state.lanes[n].label}: {conclusion.text}" for n, conclusion in found.items())
    after = say(dataclasses.replace(state, lanes=lanes, compared=text, compare_until=None), now, text)
    if any(lane.active for lane in lanes):
        return offer(after, ARM + 1, now)
    return go_back(after, Stage.INCONCLUSIVE, now, text)


def _with(lane: Lane, conclusion: Conclusion | None) -> Lane:
    """Return the lane as it goes on: where too little is shown, its devices return to what they ran."""
    if conclusion is None or conclusion.goes_on:
        return lane
    return dataclasses.replace(lane, held=conclusion.text)


def prospects(plan: Plan, lanes: tuple[Lane, ...]) -> tuple[str, ...]:
    """Return what each lane's arms can show, before anyone waits for it."""
    rules, active = plan.between, [lane for lane in lanes if lane.active]
    if rules is None or not active:
        return ()
    alpha, harm = share(plan.policy.alpha) / len(active), share(plan.policy.alpha_harm) / len(active)
    return tuple(f"{lane.label}: {prospect(len(pairs(lane)), rules, plan.tolerated, alpha, harm)}" for lane in active)


def standing(state: RolloutState) -> str:
    """Return how the comparison stands or what it came to; nothing where no arms are compared."""
    if state.compared or not comparing(state):
        return state.compared
    tallies = [(lane.label, len(pairs(lane)), first_to_fail(pairs(lane))) for lane in state.lanes if lane.active]
    return "; ".join(
        f"{label}: {count} pairs of devices, in {t.units} of them one failed first, in {t.wins} the candidate's"
        for label, count, t in tallies
    )
