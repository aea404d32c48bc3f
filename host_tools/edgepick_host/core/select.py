"""Which variant the devices of one stratum should run: gates, Pareto, objective, gain. Pure.

    evidence -> gates -> figures on common devices -> Pareto -> objective -> gain over the incumbent

Permuting or repeating reports changes nothing, and what is missing is never a pass.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from edgepick_host.core.decision import (
    CandidateResult,
    Decision,
    Effect,
    ExclusionCode,
    Figure,
    Judgement,
)
from edgepick_host.core.gates import Evidence, Gate, GateVerdict, Policy, energy_uj, failed, gather, judge, passed
from edgepick_host.core.objective import Metric, Objective, dominated, rank
from edgepick_host.core.records import Release
from edgepick_host.core.strata import Results, Stratum, latest_results
from edgepick_profiles.schema import Budgets
from edgepick_wire import codec
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import MeasuredVariant, Report
from edgepick_wire.metrics import Measurement
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
    """
    ordered = tuple(sorted({c.manifest: c for c in candidates}.values(), key=lambda c: (c.rank, c.manifest)))
    race = _Race(
        stratum=stratum,
        candidates=ordered,
        results=latest_results(r for r in reports if r.device in stratum.devices),
        budgets=budgets,
        objective=objective,
        incumbent=incumbent,
        previous=previous,
        policy=policy,
    )
    return _decide(race)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Race:
    stratum: Stratum
    candidates: tuple[Release, ...]
    results: Results
    budgets: Budgets
    objective: Objective
    incumbent: Release | None
    previous: Release | None
    policy: Policy

    def evidence(self, release: Release) -> Evidence:
        return gather(release, self.stratum.devices, self.results)

    def gates(self, release: Release) -> tuple[Gate, ...]:
        return judge(self.evidence(release), self.budgets, self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    verdict: Judgement
    winner: Release | None
    reasons: tuple[str, ...]
    keeps_best: bool = False
    excluded: tuple[str, ExclusionCode, str] | None = None


def _decide(race: _Race) -> Decision:
    results = _judged(race)
    results, figures = _compared(race, results)
    results = _ranked(race, results, figures)
    outcome = _verdict(race, results)
    if outcome.excluded is not None:
        manifest, code, reason = outcome.excluded
        results = _exclude(results, {manifest: (code, reason)})
    return Decision(
        model=next((c.model for c in race.candidates), race.incumbent.model if race.incumbent else ""),
        stratum=race.stratum,
        verdict=outcome.verdict,
        winner=outcome.winner.manifest if outcome.winner else None,
        winner_label=label(outcome.winner) if outcome.winner else None,
        reasons=(*outcome.reasons, *_notes(race, results)),
        incumbent=race.incumbent.manifest if race.incumbent else None,
        incumbent_label=label(race.incumbent) if race.incumbent else None,
        keeps_best=outcome.keeps_best,
        candidates=results,
        effects=_effects(race),
        objective=str(race.objective),
        policy=race.policy,
        inputs=_inputs_digest(race),
        code_version=__version__,
    )


def label(release: Release) -> str:
    """Return a release's name for people: "1.2 static_wi8_ai8"."""
    return f"{release.version} {release.variant}"


# Step 1: gates.


def _judged(race: _Race) -> tuple[CandidateResult, ...]:
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


def _exclude(
    results: Sequence[CandidateResult], why: Mapping[str, tuple[ExclusionCode, str]]
) -> tuple[CandidateResult, ...]:
    return tuple(
        dataclasses.replace(r, excluded=why[r.manifest][0], reason=why[r.manifest][1]) if r.manifest in why else r
        for r in results
    )


# Step 2: figures on devices that measured every variant still in the race, and Pareto.


def metric_value(metric: Metric, release: Release, measurement: Measurement) -> float | None:
    """Return one metric of one measurement, in the metric's unit; ``None`` if it was not measured."""
    memory = measurement.memory
    if metric is Metric.ERROR:
        return _error(release, measurement)
    if metric is Metric.MEMORY:
        return memory.peak_rss_bytes if memory.arena_bytes is None else memory.arena_bytes
    return {
        Metric.LATENCY: measurement.latency.p50_ns,
        Metric.TAIL: measurement.latency.p95_ns,
        Metric.SIZE: release.size_bytes,
        Metric.ENERGY: energy_uj(measurement),
    }[metric]


def _error(release: Release, measurement: Measurement) -> float | None:
    if release.accuracy is not None:
        return 1 - release.accuracy
    return measurement.golden.mean_abs_error if measurement.golden else None


def _compared(
    race: _Race, results: tuple[CandidateResult, ...]
) -> tuple[tuple[CandidateResult, ...], dict[str, dict[Metric, float]]]:
    running = [r.manifest for r in _open(results)]
    evidence = {c.manifest: race.evidence(c) for c in race.candidates if c.manifest in running}
    common = sorted(set.intersection(*(set(e.usable) for e in evidence.values()))) if evidence else []
    if evidence and len(common) < race.policy.min_devices:
        reason = f"only {len(common)} devices measured every variant in the race; {race.policy.min_devices} needed"
        return _exclude(results, dict.fromkeys(running, (ExclusionCode.MISSING, reason))), {}
    figures = {manifest: _figures(e, common) for manifest, e in evidence.items()}
    filled = tuple(
        dataclasses.replace(r, figures=_shown(figures[r.manifest], len(common))) if r.manifest in figures else r
        for r in results
    )
    return _without_figures(race.objective, filled, figures), figures


def _figures(evidence: Evidence, devices: Sequence[str]) -> dict[Metric, float]:
    found = {}
    for metric in Metric:
        values = [metric_value(metric, evidence.release, evidence.usable[d]) for d in devices]
        known = [v for v in values if v is not None]
        if known and len(known) == len(values):
            found[metric] = float(median(known))
    return found


def _shown(figures: Mapping[Metric, float], devices: int) -> tuple[Figure, ...]:
    return tuple(Figure(metric=m, value=v, devices=devices) for m, v in figures.items())


def _without_figures(
    objective: Objective, results: tuple[CandidateResult, ...], figures: dict[str, dict[Metric, float]]
) -> tuple[CandidateResult, ...]:
    why = {}
    for metric in _needed(objective, figures):
        lacking = [manifest for manifest, f in figures.items() if metric not in f]
        why.update(dict.fromkeys(lacking, (ExclusionCode.MISSING, f"objective: nobody measured its {metric}")))
    return _exclude(results, why)


def _needed(objective: Objective, figures: Mapping[str, Mapping[Metric, float]]) -> list[Metric]:
    """Return the primary metric, and those others that somebody measured: a tie-breaker may be unknown to all."""
    metrics = [t.metric for t in objective.terms]
    return [m for m in metrics if m is objective.primary or any(m in f for f in figures.values())]


# Step 3: Pareto and objective.


def _ranked(
    race: _Race, results: tuple[CandidateResult, ...], figures: Mapping[str, Mapping[Metric, float]]
) -> tuple[CandidateResult, ...]:
    running = {r.manifest: figures[r.manifest] for r in _open(results)}
    if not running:
        return results
    shared = [m for m in Metric if all(m in f for f in running.values())]
    # The objective's own metrics count too: what it wants least must not fall to a variant it does not ask about.
    asked = [t.metric for t in race.objective.terms]
    beaten = dominated(running, [m for m in shared if m in PARETO or m in asked])
    names = {r.manifest: r.label for r in results}
    results = _exclude(
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
    excluded = _exclude(results, lower)
    return tuple(sorted(excluded, key=lambda r: (position.get(r.manifest, len(order)), r.excluded is not None)))


def _measurable(objective: Objective, shared: Sequence[Metric]) -> Objective:
    return dataclasses.replace(objective, terms=tuple(t for t in objective.terms if t.metric in shared))


# Step 4: the incumbent, and the verdict.


def _verdict(race: _Race, results: Sequence[CandidateResult]) -> _Outcome:
    best = next(iter(_open(results)), None)
    if best is None:
        return _nobody(race, results)
    winner = next(c for c in race.candidates if c.manifest == best.manifest)
    if race.incumbent is None:
        reason = f"{best.label} keeps every limit and is best by: {race.objective}; nothing runs there yet"
        return _Outcome(verdict=Judgement.PROMOTE, winner=winner, reasons=(reason,))
    if race.incumbent.manifest == winner.manifest:
        reason = f"{best.label} runs there already and is best by: {race.objective}"
        return _Outcome(verdict=Judgement.INCONCLUSIVE, winner=None, reasons=(reason,), keeps_best=True)
    return _against_incumbent(race, winner, race.incumbent)


def _against_incumbent(race: _Race, winner: Release, incumbent: Release) -> _Outcome:
    broken = race.gates(incumbent)
    if failed(broken):
        reason = f"{label(incumbent)} breaks a limit ({_gate_exclusion(broken)[1]}) and {label(winner)} keeps them all"
        return _Outcome(verdict=Judgement.PROMOTE, winner=winner, reasons=(reason,))
    metric = race.objective.primary
    effect = _effect(race, winner, incumbent, metric)
    if effect is None:
        reason = (
            f"{label(winner)} cannot be compared with {label(incumbent)}: "
            f"{', '.join(race.stratum.devices)} measured no {metric} of both"
        )
        excluded = (winner.manifest, ExclusionCode.MISSING, reason)
        return _Outcome(verdict=Judgement.INCONCLUSIVE, winner=None, reasons=(reason,), excluded=excluded)
    return _by_gain(race, winner, incumbent, effect)


def _by_gain(race: _Race, winner: Release, incumbent: Release, effect: Effect) -> _Outcome:
    same = winner.version == incumbent.version
    least = race.policy.min_gain if same else -race.policy.max_regression
    text = (
        f"{label(winner)} has {_change(effect)} {effect.metric} than {label(incumbent)} "
        f"(median over {effect.devices} device(s) that measured both)"
    )
    if 1 - effect.ratio >= least:
        return _Outcome(verdict=Judgement.PROMOTE, winner=winner, reasons=(text,))
    reason = f"{text}; {_required(least)}"
    excluded = (winner.manifest, ExclusionCode.NO_GAIN, reason)
    return _Outcome(verdict=Judgement.INCONCLUSIVE, winner=None, reasons=(reason,), excluded=excluded)


def _change(effect: Effect) -> str:
    share = abs(effect.ratio - 1) * 100
    return f"{share:.1f} % {'more' if effect.ratio > 1 else 'less'}"


def _required(least: float) -> str:
    if least < 0:
        return f"a new version may cost at most {-least * 100:g} % more"
    return f"at least {least * 100:g} % less is required"


def _nobody(race: _Race, results: Sequence[CandidateResult]) -> _Outcome:
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


def _notes(race: _Race, results: Sequence[CandidateResult]) -> tuple[str, ...]:
    notes = []
    if race.stratum.stand_in:
        notes.append("the figures are from machines that stand in for the board")
    if race.budgets.energy_mj is not None and not any(g.name == "energy" for r in results for g in r.gates):
        notes.append(f"the energy budget was not checked: {_why_no_energy(race)}")
    out = [
        f"left out {r.label}: {r.reason}" for r in results if r.excluded in (ExclusionCode.GATE, ExclusionCode.MISSING)
    ]
    return (*notes, *out)


def _why_no_energy(race: _Race) -> str:
    found = [m for c in race.candidates for m in race.evidence(c).usable.values()]
    if any(m.energy.estimated for m in found):
        return "energy was only estimated from CPU time, and nothing is decided by an estimate"
    return "no device has a sensor that could be read"


# Effects: paired by device.


def _effects(race: _Race) -> tuple[Effect, ...]:
    if race.incumbent is None:
        return ()
    rivals = [c for c in race.candidates if c.manifest != race.incumbent.manifest]
    found = (_effect(race, c, race.incumbent, m) for c in rivals for m in Metric)
    return tuple(e for e in found if e is not None)


def _effect(race: _Race, candidate: Release, incumbent: Release, metric: Metric) -> Effect | None:
    mine, its = race.evidence(candidate).usable, race.evidence(incumbent).usable
    ratios = []
    for device in sorted(mine.keys() & its.keys()):
        new = metric_value(metric, candidate, mine[device])
        old = metric_value(metric, incumbent, its[device])
        if new is not None and old is not None and new > 0 and old > 0:
            ratios.append(math.log(new / old))
    if not ratios:
        return None
    return Effect(candidate=candidate.manifest, metric=metric, ratio=math.exp(median(ratios)), devices=len(ratios))


# The digest of the inputs.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Used:
    device: str
    result: MeasuredVariant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    stratum: Stratum
    candidates: tuple[Release, ...]
    used: tuple[_Used, ...]
    budgets: Budgets
    objective: Objective
    incumbent: Release | None
    previous: Release | None
    policy: Policy


def _inputs_digest(race: _Race) -> str:
    known = {r.manifest for r in (*race.candidates, race.incumbent, race.previous) if r is not None}
    used = (_Used(device=d, result=r) for (d, m), r in sorted(race.results.items()) if m in known)
    inputs = _Inputs(
        stratum=race.stratum,
        candidates=race.candidates,
        used=tuple(used),
        budgets=race.budgets,
        objective=race.objective,
        incumbent=race.incumbent,
        previous=race.previous,
        policy=race.policy,
    )
    return digest_of(codec.encode_document(inputs))
