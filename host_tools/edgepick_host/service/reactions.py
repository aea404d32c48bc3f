"""What the host makes of what it knows: what is decided, who is seen how.

Functions from the host's memory to events of the rollout core. They read values and write nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypedDict

from edgepick_host.core.checks import Limit, limits, parse_checks
from edgepick_host.core.decision import Decision, Judgement, plain_decision
from edgepick_host.core.experiment.evidence import share
from edgepick_host.core.experiment.family import holm
from edgepick_host.core.gates import Policy
from edgepick_host.core.measured import MeasuredReport
from edgepick_host.core.objective import Objective, parse_objective
from edgepick_host.core.outlook import outlook
from edgepick_host.core.plausible import unusable
from edgepick_host.core.race import Race, count_family, gather_race
from edgepick_host.core.records import Device, Release
from edgepick_host.core.rollout import joinable
from edgepick_host.core.rollout_state import DeviceView, Joiner, RolloutState
from edgepick_host.core.select import decide, label
from edgepick_host.core.selector import facts_of, parse_query
from edgepick_host.core.strata import Stratum, latest_results, stratify
from edgepick_host.core.waves import Lane, Plan, Seat, seat
from edgepick_host.service.crowd import Crowd, most_common, state_of
from edgepick_host.service.measuring import Waiting, candidates, profiles_of, to_measure
from edgepick_host.service.report_log import Evidence
from edgepick_profiles.schema import Budgets
from edgepick_wire.messages import ModelState

BudgetsOf = Callable[[str], Budgets | None]
"""Profile name -> its hard limits; ``None`` if the host does not know the profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What the host knows about one model at one moment.

    Attributes:
        releases: Everything published of the model, oldest first.
        devices: Every device ever heard.
        reports: Every measurement of it, in order of arrival.
    """

    releases: tuple[Release, ...]
    devices: tuple[Device, ...]
    reports: tuple[MeasuredReport, ...]

    def of_profile(self, profile: str) -> tuple[Device, ...]:
        """Return the devices of a profile."""
        return tuple(d for d in self.devices if d.birth is not None and d.birth.profile == profile)

    def release(self, manifest: str | None) -> Release | None:
        """Return the release of a manifest, if it was published from here."""
        return next((r for r in self.releases if r.manifest == manifest), None)


def views(devices: Iterable[Device], model: str) -> tuple[DeviceView, ...]:
    """Return the devices as the rollout core sees them."""
    return tuple(DeviceView(device=d.device, online=d.online, state=state_of(d, model)) for d in devices)


def joiners(state: RolloutState, devices: Iterable[Device]) -> tuple[Joiner, ...]:
    """Return those of ``devices`` that a rollout is about and has not heard of, while it still takes any in."""
    if not joinable(state):
        return ()
    known = {m.device for m in state.members}
    profiles = {lane.profile for lane in state.lanes if lane.lead and lane.active}
    query = parse_query(state.plan.only)
    return tuple(
        Joiner(profile=d.birth.profile, seat=_seat(d, state.model))
        for d in devices
        if d.birth is not None and d.birth.profile in profiles and d.device not in known and query.matches(facts_of(d))
    )


def outstanding(state: RolloutState, known: Knowledge) -> tuple[str, ...]:
    """Return who still has to measure what, in words; empty when nothing is to be waited for."""
    waiting = Waiting(state, known.of_profile)
    waiting.update((), (), known.releases, Evidence(known.reports))
    return waiting.lines(len(known.devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A stratum's decision and its lane; the lane names the decision once that is recorded."""

    decision: Decision
    lane: Lane


def rule(state: RolloutState, known: Knowledge, budgets_of: BudgetsOf) -> tuple[Ruling, ...]:
    """Return the decision for every stratum of every profile that the rollout covers.

    All of them share one error rate: with more strata or more variants, each comparison has to show more.
    """
    asked = _asked(state, known, budgets_of)
    rates = _rates(state.plan.policy, [race for race, _ in asked if isinstance(race, Race)])
    return tuple(_ruling(state, _answer(race, rates), known, lead=lead) for race, lead in asked)


def _asked(state: RolloutState, known: Knowledge, budgets_of: BudgetsOf) -> "list[tuple[Decision | Race, bool]]":
    """Return what is known of each stratum, or its decision where there is nothing to compare; and whether it leads."""
    places = [place for p in profiles_of(state.plan, known.releases) for place in _places(state, p, known)]
    questions = [_question(state, stratum, known, budgets_of) for stratum, _ in places]
    family = max(1, sum(_comparisons(asked) for asked in questions))
    races = [q if isinstance(q, Decision) else gather_race(**q, family=family) for q in questions]
    return [(race, lead) for race, (_, lead) in zip(races, places, strict=True)]


def outlooks(state: RolloutState, known: Knowledge, budgets_of: BudgetsOf) -> tuple[str, ...]:
    """Return what each stratum could prove, in words, before anyone waits for it."""
    races = [race for race, _ in _asked(state, known, budgets_of) if isinstance(race, Race)]
    return tuple(f"{race.stratum.label}: {found.text}" for race in races if (found := outlook(race)) is not None)


def _places(state: RolloutState, profile: str, known: Knowledge) -> list[tuple[Stratum, bool]]:
    """Return the strata of a profile, and whether each leads it."""
    crowd = Crowd(state.plan, state.model, profile, known.of_profile(profile))
    results = latest_results(known.reports)
    manifests = to_measure(state.plan, crowd, known.releases)
    strata = stratify(profile, sorted(crowd.devices), () if state.plan.variant else manifests, results)
    return [(stratum, position == 0) for position, stratum in enumerate(strata or (Stratum(profile=profile),))]


class Asked(TypedDict):
    """What :func:`edgepick_host.core.race.gather_race` is asked of one stratum."""

    stratum: Stratum
    candidates: tuple[Release, ...]
    reports: tuple[MeasuredReport, ...]
    budgets: Budgets
    objective: Objective
    incumbent: Release | None
    previous: Release | None
    policy: Policy


Name = tuple[tuple[str, ...], str]
"""The devices of a stratum, and a challenger's manifest."""


def _rates(policy: Policy, races: Sequence[Race]) -> dict[Name, Fraction]:
    """Return each comparison's part of the error rate, by Holm over all strata and challengers."""
    p_values = {
        (race.stratum.devices, challenger.manifest): race.p_value(challenger)
        for race in races
        for challenger in race.challengers
        if race.same_version(challenger)
    }
    return holm(p_values, share(policy.alpha))


def _comparisons(asked: "Decision | Asked") -> int:
    return 0 if isinstance(asked, Decision) else count_family(asked["candidates"], asked["incumbent"])


def _answer(race: "Decision | Race", rates: Mapping[Name, Fraction]) -> Decision:
    if isinstance(race, Decision):
        return race
    mine = {m: rate for (devices, m), rate in rates.items() if devices == race.stratum.devices}
    return decide(race.with_rates(mine))


def _question(state: RolloutState, stratum: Stratum, known: Knowledge, budgets_of: BudgetsOf) -> "Decision | Asked":
    """Return what is to be decided about a stratum, or the decision where there is nothing to compare."""
    if state.plan.variant:
        return _named(state, stratum, known)
    budgets = budgets_of(stratum.profile)
    if not stratum.devices:
        return _keep(state, stratum, _nobody(state.plan))
    if budgets is None:
        return _keep(state, stratum, f"the host does not know profile {stratum.profile!r}, so its budgets are missing")
    return Asked(
        stratum=stratum,
        candidates=candidates(state.plan, stratum.profile, known.releases),
        reports=known.reports,
        budgets=budgets,
        objective=parse_objective(state.plan.objective),
        incumbent=_most_common(known, stratum, state.model, _active),
        previous=_most_common(known, stratum, state.model, lambda s: s.previous),
        policy=state.plan.policy,
    )


def _nobody(plan: Plan) -> str:
    return (
        f"no device of this profile matches {plan.only!r}" if plan.only else "no device of this profile was ever heard"
    )


def _active(state: ModelState) -> str | None:
    return state.active


def _named(state: RolloutState, stratum: Stratum, known: Knowledge) -> Decision:
    plan = state.plan
    chosen = next((r for r in candidates(plan, stratum.profile, known.releases) if r.variant == plan.variant), None)
    if chosen is None or not stratum.devices:
        what = _nobody(plan) if chosen else f"{plan.variant} is not for this profile"
        return _keep(state, stratum, what)
    incumbent = _most_common(known, stratum, state.model, _active)
    return plain_decision(
        model=state.model,
        stratum=stratum,
        verdict=Judgement.PROMOTE,
        reasons=(f"{label(chosen)} was chosen by the operator, without selection",),
        policy=plan.policy,
        winner=chosen.manifest,
        winner_label=label(chosen),
        incumbent=incumbent.manifest if incumbent else None,
        incumbent_label=label(incumbent) if incumbent else None,
    )


def _keep(state: RolloutState, stratum: Stratum, reason: str) -> Decision:
    return plain_decision(
        model=state.model,
        stratum=stratum,
        verdict=Judgement.INCONCLUSIVE,
        reasons=(reason,),
        policy=state.plan.policy,
    )


def _most_common(
    known: Knowledge, stratum: Stratum, model: str, which: Callable[[ModelState], str | None]
) -> Release | None:
    members = frozenset(stratum.devices)
    states = (state_of(d, model) for d in known.devices if d.device in members)
    return known.release(most_common(Counter(m for s in states if s is not None and (m := which(s)) is not None)))


def _ruling(state: RolloutState, decision: Decision, known: Knowledge, *, lead: bool) -> Ruling:
    stratum = decision.stratum
    devices: Mapping[str, Device] = {d.device: d for d in known.devices}
    seats = tuple(_seat(devices[name], state.model) for name in stratum.devices)
    kept, held = _limits(state.plan, decision, seats, known)
    lane = Lane(
        profile=stratum.profile,
        label=stratum.label,
        stand_in=stratum.stand_in,
        verdict=decision.verdict,
        winner=decision.winner,
        winner_label=decision.winner_label,
        reason="; ".join(decision.reasons[:2]),
        lead=lead,
        keeps_best=decision.keeps_best,
        held=held,
        members=seat(state.id, state.plan, (replace(s, limits=kept.get(s.device, ())) for s in seats)),
    )
    return Ruling(decision=decision, lane=lane)


def _limits(
    plan: Plan, decision: Decision, seats: Sequence[Seat], known: Knowledge
) -> tuple[Mapping[str, tuple[Limit, ...]], str]:
    """Return what each device has to keep after the installation, and why that cannot be said, if so."""
    checks = parse_checks(plan.checks)
    if not checks or decision.winner is None:
        return {}, ""
    results = latest_results(known.reports)
    found = {s.device: results.get((s.device, s.previous or decision.winner)) for s in seats}
    measured = {device: r.measurement for device, r in found.items() if r is not None and r.measurement is not None}
    before = {device: m for device, m in measured.items() if not unusable(m)}
    try:
        return limits(checks, before, [s.device for s in seats]), ""
    except LookupError as error:
        return {}, str(error)


def _seat(device: Device, model: str) -> Seat:
    said = state_of(device, model)
    previous = said.active if said else None
    return Seat(device=device.device, online=device.online, previous=previous, facts=facts_of(device))
