"""What the host makes of what it knows: who still has to measure, what is decided, who is seen how.

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
from edgepick_host.core.objective import Objective, parse_objective
from edgepick_host.core.outlook import QUADS, outlook
from edgepick_host.core.race import Race, count_family, gather_race
from edgepick_host.core.records import Device, Release
from edgepick_host.core.rollout import joinable
from edgepick_host.core.rollout_state import DeviceView, Joiner, RolloutState
from edgepick_host.core.select import decide, label
from edgepick_host.core.selector import facts_of, parse_query
from edgepick_host.core.strata import Results, Stratum, latest_results, stratify
from edgepick_host.core.waves import Lane, Plan, Seat, seat
from edgepick_profiles.schema import Budgets
from edgepick_wire.messages import MeasureRequest, ModelState, Report
from edgepick_wire.pairing import CAPABILITY, PairOrder

AA_QUADS = 12
"""Quads of the one A/A run of what runs: enough for a noise figure, half the time of a comparison."""
MAX_NAME = 64

BudgetsOf = Callable[[str], Budgets | None]
"""Profile name -> its hard limits; ``None`` if the host does not know the profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What the host knows about one model at one moment.

    Attributes:
        releases: Everything published of the model, oldest first.
        devices: Every device ever heard.
        reports: Every report about the model, in order of arrival.
    """

    releases: tuple[Release, ...]
    devices: tuple[Device, ...]
    reports: tuple[Report, ...]

    def of_profile(self, profile: str) -> tuple[Device, ...]:
        """Return the devices of a profile."""
        return tuple(d for d in self.devices if d.birth is not None and d.birth.profile == profile)

    def release(self, manifest: str | None) -> Release | None:
        """Return the release of a manifest, if it was published from here."""
        return next((r for r in self.releases if r.manifest == manifest), None)


def state_of(device: Device, model: str) -> ModelState | None:
    """Return what a device says about a model."""
    models = device.reported.models if device.reported else ()
    return next((m for m in models if m.model == model), None)


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


def profiles_of(plan: Plan, releases: Iterable[Release]) -> tuple[str, ...]:
    """Return the profiles that a rollout covers: those asked for, of those that the version is for."""
    offered = dict.fromkeys(p for r in releases if r.version == plan.version for p in r.profiles)
    return tuple(p for p in sorted(offered) if not plan.profiles or p in plan.profiles)


def candidates(plan: Plan, profile: str, releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return the variants that a profile may choose from."""
    return tuple(r for r in releases if r.version == plan.version and profile in r.profiles)


def concerned(plan: Plan, profile: str, known: Knowledge) -> tuple[Device, ...]:
    """Return the devices of a profile that a rollout is about."""
    query = parse_query(plan.only)
    return tuple(d for d in known.of_profile(profile) if query.matches(facts_of(d)))


def to_measure(plan: Plan, model: str, profile: str, known: Knowledge) -> tuple[str, ...]:
    """Return the manifests that devices of ``profile`` must measure: the candidates and what runs there."""
    running = (state_of(d, model) for d in concerned(plan, profile, known))
    incumbents = {s.active for s in running if s is not None and s.active and known.release(s.active)}
    wanted = (r.manifest for r in candidates(plan, profile, known.releases))
    return tuple(dict.fromkeys((*wanted, *sorted(i for i in incumbents if i is not None))))


def pair_orders(state: RolloutState, profile: str, known: Knowledge) -> tuple[MeasureRequest, ...]:
    """Return the orders to measure what has to prove a gain beside what runs on the devices of ``profile``.

    Each rollout throws coins of its own, so that its quads add to what earlier ones found. What runs is compared with
    itself, too, once: that tells the noise.
    """
    devices = concerned(state.plan, profile, known)
    everybody = Stratum(profile=profile, devices=tuple(d.device for d in devices))
    incumbent = _most_common(known, everybody, state.model, _active)
    if incumbent is None or state.plan.variant or not any(_pairs(d) for d in devices):
        return ()
    challengers = [
        r
        for r in candidates(state.plan, profile, known.releases)
        if r.version == incumbent.version and r.manifest != incumbent.manifest
    ]
    orders = [_pair_order(r.manifest, incumbent.manifest, key=state.id, quads=QUADS) for r in challengers]
    return (_pair_order(incumbent.manifest, incumbent.manifest, key="aa", quads=AA_QUADS), *orders) if orders else ()


def _pair_order(manifest: str, against: str, *, key: str, quads: int) -> MeasureRequest:
    pair = PairOrder(against=against, key=key, quads=quads)
    return MeasureRequest(id=f"{manifest[:12]}-{against[:8]}-{key}"[:MAX_NAME], manifest=manifest, pair=pair)


def _pairs(device: Device) -> bool:
    return device.birth is not None and CAPABILITY in device.birth.capabilities


def _active(state: ModelState) -> str | None:
    return state.active


def outstanding(state: RolloutState, known: Knowledge) -> tuple[str, ...]:
    """Return who still has to measure what, in words; empty when nothing is to be waited for.

    Waited for are the devices that are online. While none of a profile's devices is, the
    profile itself is waited for, if it has any.
    """
    results = latest_results(known.reports)
    answered = {(r.device, r.measurement.request) for r in known.reports if r.measurement is not None}
    lines = []
    for profile in profiles_of(state.plan, known.releases):
        manifests = to_measure(state.plan, state.model, profile, known)
        pairs = pair_orders(state, profile, known)
        devices = concerned(state.plan, profile, known)
        online = [d for d in devices if d.online]
        if devices and not online and not _anyone(devices, manifests, results):
            lines.append(f"{profile}: none of {len(devices)} device(s) is online")
        for device in online:
            missing = sum((device.device, m) not in results for m in manifests)
            if missing:
                lines.append(f"{device.device}: {missing} of {len(manifests)} variants not measured")
            unpaired = sum((device.device, order.id) not in answered for order in pairs) if _pairs(device) else 0
            if unpaired and not missing:
                lines.append(f"{device.device}: {unpaired} of {len(pairs)} variants not compared with what runs")
    return tuple(lines)


def _anyone(devices: Sequence[Device], manifests: Sequence[str], results: Results) -> bool:
    return any((d.device, m) in results for d in devices for m in manifests)


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
    devices = [d.device for d in concerned(state.plan, profile, known)]
    results = latest_results(known.reports)
    manifests = to_measure(state.plan, state.model, profile, known)
    strata = stratify(profile, devices, () if state.plan.variant else manifests, results)
    return [(stratum, position == 0) for position, stratum in enumerate(strata or (Stratum(profile=profile),))]


class Asked(TypedDict):
    """What :func:`edgepick_host.core.race.gather_race` is asked of one stratum."""

    stratum: Stratum
    candidates: tuple[Release, ...]
    reports: tuple[Report, ...]
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
    states = (state_of(d, model) for d in known.devices if d.device in stratum.devices)
    counts = Counter(m for s in states if s is not None and (m := which(s)) is not None)
    best = min(counts.items(), key=lambda item: (-item[1], item[0]), default=None)
    return known.release(best[0]) if best else None


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
    before = {device: r.measurement for device, r in found.items() if r is not None and r.measurement is not None}
    try:
        return limits(checks, before, [s.device for s in seats]), ""
    except LookupError as error:
        return {}, str(error)


def _seat(device: Device, model: str) -> Seat:
    said = state_of(device, model)
    previous = said.active if said else None
    return Seat(device=device.device, online=device.online, previous=previous, facts=facts_of(device))
