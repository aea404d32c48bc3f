"""Which variant the devices of one stratum should run: gates, Pareto, objective, proof against what runs. Pure.

    evidence -> gates -> figures on common devices -> Pareto by ranges -> objective -> proof over the incumbent

Permuting or repeating reports changes nothing, and what is missing is never a pass.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import median

from edgepick_host.core.decision import CandidateResult, Decision, Effect, ExclusionCode, Figure, Judgement
from edgepick_host.core.experiment.dominance import dominates
from edgepick_host.core.experiment.trial import Verdict
from edgepick_host.core.figures import EnergyKind, energy_kind, energy_uj, metric_value
from edgepick_host.core.gates import Evidence, Gate, GateVerdict, Policy, failed, passed
from edgepick_host.core.measured import condensed
from edgepick_host.core.objective import Metric, Objective, rank
from edgepick_host.core.proof import Proof
from edgepick_host.core.race import Race, gather_race
from edgepick_host.core.records import Release
from edgepick_host.core.strata import Stratum
from edgepick_host.core.verdict_words import change_words, evidence_words, notes_of, required_words
from edgepick_profiles.schema import Budgets
from edgepick_wire.messages import Report
from edgepick_wire.version import __version__

PARETO = (Metric.LATENCY, Metric.MEMORY, Metric.SIZE, Metric.ERROR)


def select(
    *,
    stratum: Stratum,
    candidates: Sequence[Release],
    reports: Iterable[Report],
    budgets: Budgets,
    objective: Objective,
    incumbent: Release | None,
    previous: Release | None = None,
    policy: Policy,
    family: int = 0,
    rates: Mapping[str, Fraction] | None = None,
) -> Decision:
    """Return what the devices of ``stratum`` should run, with every reason.

    Args:
        stratum: The devices, and how they ran.
        candidates: Variants to choose from, all of one model; the incumbent may be among them.
        reports: Any reports; measurements of other devices and variants are ignored.
        budgets: Hard limits of the profile.
        objective: What to minimise among those that keep the limits.
        incumbent: What runs there now, if anything.
        previous: What ran there before, to go back to if the incumbent breaks a limit.
        policy: How strict.
        family: Comparisons that share the error rate, in all strata of the rollout; 0 for those of this stratum.
        rates: Manifest -> its part of the error rate, where the family's correction gives it more than an even one.
    """
    return decide(
        gather_race(
            stratum=stratum,
            candidates=candidates,
            reports=condensed(reports),
            budgets=budgets,
            objective=objective,
            incumbent=incumbent,
            previous=previous,
            policy=policy,
            family=family,
            rates=rates,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """The verdict, and what it says about candidates: manifest -> why it is out, ``None`` for the winner."""

    verdict: Judgement
    winner: Release | None
    reasons: tuple[str, ...]
    keeps_best: bool = False
    changes: Mapping[str, tuple[ExclusionCode | None, str]] = field(default_factory=dict)


def decide(race: Race) -> Decision:
    """Return the decision that follows from what is known."""
    results = _judged(race)
    results, contest = _compared(race, results)
    results = _ranked(race, results, contest)
    proofs = _proofs(race, results)
    outcome = _verdict(race, results, proofs)
    results = _changed(results, outcome.changes)
    return Decision(
        model=next((c.model for c in race.candidates), race.incumbent.model if race.incumbent else ""),
        stratum=race.stratum,
        verdict=outcome.verdict,
        winner=outcome.winner.manifest if outcome.winner else None,
        winner_label=label(outcome.winner) if outcome.winner else None,
        reasons=(*outcome.reasons, *notes_of(race, results, proofs, contest.energy)),
        incumbent=race.incumbent.manifest if race.incumbent else None,
        incumbent_label=label(race.incumbent) if race.incumbent else None,
        keeps_best=outcome.keeps_best,
        candidates=results,
        effects=_effects(race),
        objective=str(race.objective),
        policy=race.policy,
        inputs=race.inputs,
        code_version=__version__,
        proofs=tuple(proofs.values()),
        question=race.question,
    )


def label(release: Release) -> str:
    """Return a release's name for people: "1.2 static_wi8_ai8"."""
    return f"{release.version} {release.variant}"


# Step 1: gates.


def _judged(race: Race) -> tuple[CandidateResult, ...]:
    results = []
    for release in race.candidates:
        gates = race.gates(release)
        code, reason = _gate_exclusion(gates)
        results.append(
            CandidateResult(manifest=release.manifest, label=label(release), gates=gates, excluded=code, reason=reason)
        )
    return tuple(results)


def _gate_exclusion(gates: Sequence[Gate]) -> tuple[ExclusionCode | None, str]:
    for verdict, code in ((GateVerdict.FAIL, ExclusionCode.GATE), (GateVerdict.MISSING, ExclusionCode.MISSING)):
        found = [f"{g.name}: {g.detail}" for g in gates if g.verdict is verdict]
        if found:
            return code, "; ".join(found)
    return None, ""


def _open(results: Sequence[CandidateResult]) -> list[CandidateResult]:
    return [r for r in results if r.excluded is None]


def _changed(
    results: Sequence[CandidateResult], why: Mapping[str, tuple[ExclusionCode | None, str]]
) -> tuple[CandidateResult, ...]:
    return tuple(
        dataclasses.replace(r, excluded=why[r.manifest][0], reason=why[r.manifest][1]) if r.manifest in why else r
        for r in results
    )


# Step 2: figures on devices that measured every variant still in the race, and Pareto.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contest:
    """The variants still in the race, as they are compared.

    Attributes:
        devices: Those that measured all of them.
        energy: In which kind energy is compared, for all of them alike.
        figures: Manifest -> medians over the devices.
    """

    devices: tuple[str, ...] = ()
    energy: EnergyKind = EnergyKind.NET
    figures: Mapping[str, dict[Metric, float]] = field(default_factory=dict)


def _compared(race: Race, results: tuple[CandidateResult, ...]) -> tuple[tuple[CandidateResult, ...], _Contest]:
    running = [r.manifest for r in _open(results)]
    evidence = {c.manifest: race.evidence[c.manifest] for c in race.candidates if c.manifest in running}
    common = tuple(sorted(set.intersection(*(set(e.usable) for e in evidence.values())))) if evidence else ()
    if evidence and len(common) < race.policy.min_devices:
        reason = f"only {len(common)} devices measured every variant in the race; {race.policy.min_devices} needed"
        return _changed(results, dict.fromkeys(running, (ExclusionCode.MISSING, reason))), _Contest()
    kind = _energy_kind(evidence.values(), common)
    figures = {manifest: _figures(e, common, kind) for manifest, e in evidence.items()}
    filled = tuple(
        dataclasses.replace(r, figures=_shown(figures[r.manifest], len(common))) if r.manifest in figures else r
        for r in results
    )
    return _without_figures(race.objective, filled, figures), _Contest(devices=common, energy=kind, figures=figures)


def _energy_kind(evidence: Iterable[Evidence], devices: Sequence[str]) -> EnergyKind:
    """Return in which kind the energy of those variants is compared of which each device has one."""
    each = [[e.usable[d] for d in devices] for e in evidence]
    whole = [found for found in each if all(energy_uj(m, EnergyKind.GROSS) is not None for m in found)]
    return energy_kind(m for found in whole for m in found)


def _figures(evidence: Evidence, devices: Sequence[str], kind: EnergyKind) -> dict[Metric, float]:
    found = {}
    for metric in Metric:
        values = [metric_value(metric, evidence.release, evidence.usable[d], kind) for d in devices]
        known = [v for v in values if v is not None]
        if known and len(known) == len(values):
            found[metric] = float(median(known))
    return found


def _shown(figures: Mapping[Metric, float], devices: int) -> tuple[Figure, ...]:
    return tuple(Figure(metric=m, value=v, devices=devices) for m, v in figures.items())


def _without_figures(
    objective: Objective, results: tuple[CandidateResult, ...], figures: dict[str, dict[Metric, float]]
) -> tuple[CandidateResult, ...]:
    why: dict[str, tuple[ExclusionCode | None, str]] = {}
    for metric in _needed(objective, figures):
        lacking = [manifest for manifest, f in figures.items() if metric not in f]
        why.update(dict.fromkeys(lacking, (ExclusionCode.MISSING, f"objective: nobody measured its {metric}")))
    return _changed(results, why)


def _needed(objective: Objective, figures: Mapping[str, Mapping[Metric, float]]) -> list[Metric]:
    """Return the primary metric, and those others that somebody measured: a tie-breaker may be unknown to all."""
    metrics = [t.metric for t in objective.terms]
    return [m for m in metrics if m is objective.primary or any(m in f for f in figures.values())]


# Step 3: Pareto and objective.


def _ranked(race: Race, results: tuple[CandidateResult, ...], contest: _Contest) -> tuple[CandidateResult, ...]:
    running = {r.manifest: contest.figures[r.manifest] for r in _open(results)}
    if not running:
        return results
    shared = [m for m in Metric if all(m in f for f in running.values())]
    # The objective's own metrics count too: what it wants least must not fall to a variant it does not ask about.
    asked = [t.metric for t in race.objective.terms]
    beaten = _beaten(race, list(running), [m for m in shared if m in PARETO or m in asked], contest)
    names = {r.manifest: r.label for r in results}
    results = _changed(
        results,
        {
            m: (ExclusionCode.DOMINATED, f"{names[rival]} is at least as good in everything")
            for m, rival in beaten.items()
        },
    )
    front = {m: f for m, f in running.items() if m not in beaten}
    order = rank(_measurable(race.objective, shared), front)
    reason = f"{names[order[0]]} is better by: {race.objective}"
    lower = dict.fromkeys(order[1:], (ExclusionCode.RANKED_LOWER, reason))
    position = {m: i for i, m in enumerate(order)}
    excluded = _changed(results, lower)
    return tuple(sorted(excluded, key=lambda r: (position.get(r.manifest, len(order)), r.excluded is not None)))


def _beaten(race: Race, running: Sequence[str], metrics: Sequence[Metric], contest: _Contest) -> dict[str, str]:
    """Return which rival beats a variant beyond doubt, device by device, for each that has such a rival."""
    evidence = {m: race.evidence[m] for m in running}
    values = {
        (m, metric): [metric_value(metric, e.release, e.usable[d], contest.energy) or 0.0 for d in contest.devices]
        for m, e in evidence.items()
        for metric in metrics
    }

    def differences(a: str, b: str) -> dict[str, list[float]]:
        return {k: [x - y for x, y in zip(values[a, k], values[b, k], strict=True)] for k in metrics}

    found = {}
    for name in running:
        rivals = (rival for rival in running if rival != name and dominates(differences(rival, name)))
        if (rival := next(rivals, None)) is not None:
            found[name] = rival
    return found


def _measurable(objective: Objective, shared: Sequence[Metric]) -> Objective:
    return dataclasses.replace(objective, terms=tuple(t for t in objective.terms if t.metric in shared))


# Step 4: the incumbent, proofs, and the verdict.


def _proofs(race: Race, results: Sequence[CandidateResult]) -> dict[str, Proof]:
    """Return what is shown about every challenger that keeps the limits, best first."""
    if race.incumbent is None:
        return {}
    releases = {c.manifest: c for c in race.challengers}
    in_race = (None, ExclusionCode.RANKED_LOWER, ExclusionCode.DOMINATED)
    return {
        r.manifest: race.proof(releases[r.manifest])
        for r in results
        if r.excluded in in_race and r.manifest in releases
    }


def _verdict(race: Race, results: Sequence[CandidateResult], proofs: Mapping[str, Proof]) -> _Outcome:
    best = next(iter(_open(results)), None)
    if best is None:
        return _nobody(race, results)
    winner = _release(race, best.manifest)
    if race.incumbent is None:
        reason = f"{best.label} keeps every limit and is best by: {race.objective}; nothing runs there yet"
        return _Outcome(verdict=Judgement.PROMOTE, winner=winner, reasons=(reason,))
    if race.incumbent.manifest == winner.manifest:
        reason = f"{best.label} runs there already and is best by: {race.objective}"
        return _Outcome(verdict=Judgement.INCONCLUSIVE, winner=None, reasons=(reason,), keeps_best=True)
    return _against_incumbent(race, winner, race.incumbent, results, proofs)


def _release(race: Race, manifest: str) -> Release:
    return next(c for c in race.candidates if c.manifest == manifest)


def _against_incumbent(
    race: Race, best: Release, incumbent: Release, results: Sequence[CandidateResult], proofs: Mapping[str, Proof]
) -> _Outcome:
    broken = race.gates(incumbent)
    if failed(broken):
        reason = f"{label(incumbent)} breaks a limit ({_gate_exclusion(broken)[1]}) and {label(best)} keeps them all"
        return _Outcome(verdict=Judgement.PROMOTE, winner=best, reasons=(reason,))
    changes: dict[str, tuple[ExclusionCode | None, str]] = {}
    for challenger in _ahead(race, best, incumbent, results):
        proven, code, reason = _judge(race, challenger, incumbent, proofs[challenger.manifest])
        if proven:
            changes[challenger.manifest] = (None, "")
            reasons = (reason, *(r for _, r in changes.values() if r))
            return _Outcome(verdict=Judgement.PROMOTE, winner=challenger, reasons=reasons, changes=changes)
        changes[challenger.manifest] = (code, reason)
    reasons = tuple(reason for _, reason in changes.values())
    return _Outcome(verdict=Judgement.INCONCLUSIVE, winner=None, reasons=reasons, changes=changes)


def _ahead(race: Race, best: Release, incumbent: Release, results: Sequence[CandidateResult]) -> list[Release]:
    """Return the challengers that the objective prefers to what runs, best first: what is worse need not be asked."""
    ahead = [best]
    if best.version == incumbent.version:
        order = [r.manifest for r in results if r.excluded in (None, ExclusionCode.RANKED_LOWER)]
        before = order[: order.index(incumbent.manifest)] if incumbent.manifest in order else order
        ahead = [_release(race, m) for m in before]
    return ahead


def _judge(race: Race, challenger: Release, incumbent: Release, proof: Proof) -> tuple[bool, ExclusionCode | None, str]:
    effect = _effect(race, challenger, race.objective.primary)
    if effect is None:
        reason = (
            f"{label(challenger)} cannot be compared with {label(incumbent)}: "
            f"{', '.join(race.stratum.devices)} measured no {race.objective.primary} of both"
        )
        return False, ExclusionCode.MISSING, reason
    text = (
        f"{label(challenger)} has {change_words(effect)} {effect.metric} than {label(incumbent)} "
        f"(median over {effect.devices} device(s) that measured both)"
    )
    if race.same_version(challenger):
        proven = proof.verdict is Verdict.PROMOTE
        return proven, ExclusionCode.NO_GAIN, f"{text}; {evidence_words(race, proof)}"
    bearable = effect.ratio - 1 <= race.policy.max_regression and proof.verdict is not Verdict.REJECT
    if not bearable:
        return False, ExclusionCode.NO_GAIN, f"{text}; {required_words(-race.policy.max_regression)}"
    return True, None, text if proof.verdict is Verdict.PROMOTE else f"{text}, observed but not proven: {proof.text}"


def _nobody(race: Race, results: Sequence[CandidateResult]) -> _Outcome:
    incumbent, previous = race.incumbent, race.previous
    if incumbent and previous and failed(race.gates(incumbent)) and passed(race.gates(previous)):
        why = _gate_exclusion(race.gates(incumbent))[1]
        reason = f"{label(incumbent)} breaks a limit ({why}); {label(previous)}, which ran before, keeps them all"
        return _Outcome(verdict=Judgement.ROLLBACK, winner=previous, reasons=(reason,))
    missing = [f"{r.label}: {r.reason}" for r in results if r.excluded is ExclusionCode.MISSING]
    if missing:
        reasons = ("no variant can be judged, because data is missing", *missing)
    elif results:
        reasons = ("no variant keeps every limit",)
    else:
        reasons = ("there is no variant to choose from",)
    return _Outcome(verdict=Judgement.INCONCLUSIVE, winner=None, reasons=reasons)


# Effects: paired by device.


def _effects(race: Race) -> tuple[Effect, ...]:
    if race.incumbent is None:
        return ()
    found = (_effect(race, c, m) for c in race.challengers for m in Metric)
    return tuple(e for e in found if e is not None)


def _effect(race: Race, candidate: Release, metric: Metric) -> Effect | None:
    values = race.comparison(candidate, metric).effects.values()
    if not values:
        return None
    return Effect(candidate=candidate.manifest, metric=metric, ratio=math.exp(median(values)), devices=len(values))
