"""From what the host knows to what the report shows. Reads values, writes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from edgepick_host.core.decision import CandidateResult as Judged
from edgepick_host.core.decision import Decision, DecisionRecord, ExclusionCode
from edgepick_host.core.figures import EnergyKind, energy_kind, energy_uj
from edgepick_host.core.pareto import pareto_front
from edgepick_host.core.records import Device, Release
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.schedule import CANARY
from edgepick_host.core.strata import Results
from edgepick_host.core.variants import VariantSet
from edgepick_host.core.waves import Member
from edgepick_host.demo import quantities
from edgepick_host.demo.result import (
    CandidateResult,
    FleetDevice,
    ProfileResult,
    RejectedCandidate,
    Standing,
    Wave,
    WaveDevice,
)
from edgepick_profiles.schema import Budgets, Profile
from edgepick_wire.messages import ModelState, Report
from edgepick_wire.metrics import Measurement, RuntimeUsed

BARRED = (ExclusionCode.GATE, ExclusionCode.MISSING, ExclusionCode.HARM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was published, measured and decided.

    Attributes:
        variants: What compression made and rejected.
        releases: What was published of them, by manifest.
        results: What the devices measured.
        decisions: The decisions of the rollout, by profile.
    """

    variants: VariantSet
    releases: Mapping[str, Release]
    results: Results
    decisions: Mapping[str, Decision]


def decisions_of(records: Iterable[DecisionRecord], rollout: str) -> dict[str, Decision]:
    """Return the decision of a rollout for each profile; of several strata the first, which leads."""
    found: dict[str, Decision] = {}
    for entry in records:
        if entry.rollout == rollout:
            found.setdefault(entry.decision.stratum.profile, entry.decision)
    return found


def profile_result(profile: Profile, evidence: Evidence) -> ProfileResult:
    """Return the selection for one kind of device."""
    decision = evidence.decisions.get(profile.name)
    rejected = tuple(
        RejectedCandidate(recipe=r.recipe, gate=r.code.value, reason=r.reason)
        for r in evidence.variants.rejections
        if r.profile == profile.name
    )
    candidates = _candidates(decision, evidence) if decision else ()
    chosen = next((c.label for c in candidates if c.standing is Standing.CHOSEN), None)
    return ProfileResult(
        profile=profile.name,
        title=profile.title,
        candidates=_with_front(candidates),
        rejected=rejected,
        chosen=chosen,
        reasons=decision.reasons if decision else ("Nothing was decided.",),
        objective=decision.objective if decision else "",
        limits=_limits(profile.budgets, decision),
    )


def _candidates(decision: Decision, evidence: Evidence) -> tuple[CandidateResult, ...]:
    """Return the variants that were judged; their energies are all net of idle power, or all gross."""
    judged = [j for j in decision.candidates if j.manifest]
    measured = {
        j.manifest: [m for d in decision.stratum.devices if (m := measurement(evidence.results, d, j.manifest))]
        for j in judged
    }
    kind = energy_kind(m for found in measured.values() for m in found)
    return tuple(_candidate(j, decision, evidence, measured[j.manifest], kind) for j in judged)


def _candidate(
    judged: Judged, decision: Decision, evidence: Evidence, measured: Sequence[Measurement], kind: EnergyKind
) -> CandidateResult:
    release = evidence.releases.get(judged.manifest)
    energies = [e for m in measured if (e := energy_uj(m, kind)) is not None]
    return CandidateResult(
        label=release.variant if release else judged.label,
        size_bytes=release.size_bytes if release else 0,
        accuracy=release.accuracy if release else None,
        accuracy_drop=release.accuracy_drop if release else None,
        p50_ns=_middle(m.latency.p50_ns for m in measured),
        p95_ns=_middle(m.latency.p95_ns for m in measured),
        peak_rss_bytes=_most(m.memory.peak_rss_bytes for m in measured),
        arena_bytes=_most(m.memory.arena_bytes for m in measured),
        energy_uj=median(energies) if energies else None,
        energy_kind=kind if energies else None,
        energy_reason=next((m.energy.reason for m in measured if m.energy.reason), "nothing was measured"),
        devices=len(measured),
        on_front=False,
        standing=_standing(judged, decision),
        reason=judged.reason,
    )


def measurement(results: Results, device: str, manifest: str) -> Measurement | None:
    """Return what a device measured of a variant; ``None`` if it did not."""
    found = results.get((device, manifest))
    return found.measurement if found else None


def _standing(judged: Judged, decision: Decision) -> Standing:
    if decision.winner is not None and judged.manifest == decision.winner:
        return Standing.CHOSEN
    return Standing.EXCLUDED if judged.excluded in BARRED else Standing.ELIGIBLE


def _with_front(candidates: Sequence[CandidateResult]) -> tuple[CandidateResult, ...]:
    """Return the candidates, those marked that no other one beats in accuracy, latency and size together."""
    running = [c for c in candidates if c.standing is not Standing.EXCLUDED and c.p50_ns is not None]
    front = pareto_front([(c.accuracy_drop or 0.0, float(c.p50_ns or 0), float(c.size_bytes)) for c in running])
    best = {running[place].label for place in front}
    return tuple(replace(c, on_front=c.label in best) for c in candidates)


def _limits(budgets: Budgets, decision: Decision | None) -> tuple[str, ...]:
    texts = []
    if budgets.latency_p95_ms is not None:
        texts.append(f"p95 up to {quantities.latency_text(int(budgets.latency_p95_ms * 1e6))}")
    sizes = {"memory": budgets.peak_rss_bytes, "arena": budgets.arena_bytes, "model file": budgets.model_bytes}
    texts += [f"{name} up to {quantities.size_text(size)}" for name, size in sizes.items() if size is not None]
    if budgets.energy_mj is not None:
        texts.append(f"energy up to {quantities.energy_text(budgets.energy_mj * 1e3)}, where it can be measured")
    if decision is not None:
        texts.append(f"accuracy drop up to {decision.policy.max_accuracy_drop * 100:g} pt")
    return tuple(texts)


def _middle(values: Iterable[int | None]) -> int | None:
    known = [v for v in values if v is not None]
    return round(median(known)) if known else None


def _most(values: Iterable[int | None]) -> int | None:
    return max((v for v in values if v is not None), default=None)


def state_of(device: Device, model: str) -> ModelState | None:
    """Return what a device says about a model."""
    models = device.reported.models if device.reported else ()
    return next((m for m in models if m.model == model), None)


def fleet_device(device: Device, model: str, results: Results, *, rss_bytes: int | None) -> FleetDevice:
    """Return one device as the report shows it at the end."""
    state = state_of(device, model)
    measured = measurement(results, device.device, state.active) if state and state.active else None
    return FleetDevice(
        device=device.device,
        profile=device.birth.profile if device.birth else "",
        runtime=runtime_text(measured.runtime) if measured else "",
        fallback=(measured.runtime.fallback_reason or "") if measured else "",
        stand_in=device.birth.stand_in if device.birth else True,
        running=(state.active_label or state.active or "") if state else "",
        phase=state.phase.value if state else "",
        agent_rss_bytes=rss_bytes,
    )


def runtime_text(runtime: RuntimeUsed) -> str:
    """Return what executed a model ("litert 2.3.0, xnnpack")."""
    return f"{runtime.name} {runtime.version}, {runtime.accelerator}"


def waves(rollout: RolloutState, reports: Sequence[Report], begun: Mapping[int, float]) -> tuple[Wave, ...]:
    """Return the waves of a rollout that reached a device.

    Args:
        rollout: As it ended.
        reports: Of the devices.
        begun: Number of a wave -> seconds after the demo's start when it was first seen.
    """
    lanes = [(member, lane) for lane in rollout.lanes for member in lane.members if lane.active]
    numbers = sorted({member.wave for member, _ in lanes if member.touched})
    seconds = {
        (r.device, r.install.manifest): r.install.seconds
        for r in reports
        if r.install is not None and r.install.rollout == rollout.id
    }
    return tuple(
        Wave(
            name="Canary" if number == CANARY else f"Wave {number}",
            at_seconds=begun.get(number, 0.0),
            devices=tuple(
                _wave_device(member, lane.winner_label or "", seconds.get((member.device, lane.winner or "")))
                for member, lane in sorted(lanes, key=lambda pair: pair[0].device)
                if member.wave == number
            ),
        )
        for number in numbers
    )


def _wave_device(member: Member, variant: str, seconds: float | None) -> WaveDevice:
    return WaveDevice(device=member.device, variant=variant, outcome=member.status.value, seconds=seconds)
