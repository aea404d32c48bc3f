"""What is said of a selection: a proof, a change and what has to be known besides, in words. Pure.

A decision holds these words, and is derived again byte for byte: other words are another decision.
"""

from collections.abc import Mapping, Sequence

from edgepick_host.core.decision import CandidateResult, Effect, ExclusionCode
from edgepick_host.core.experiment.trial import Verdict
from edgepick_host.core.figures import EnergyKind
from edgepick_host.core.objective import Metric
from edgepick_host.core.outlook import outlook
from edgepick_host.core.proof import Proof, Scope
from edgepick_host.core.race import Race


def evidence_words(race: Race, proof: Proof) -> str:
    """Return what a proof says, whom it is about, and, if it is none, what is missing."""
    if proof.verdict is Verdict.REJECT:
        return f"it is shown to be worse: {proof.losses} of {proof.units} lose"
    if proof.verdict is Verdict.PROMOTE:
        whom = {Scope.FLEET: "", Scope.DEVICES: ", on these devices; others were not asked", Scope.FACT: ""}[
            proof.scope
        ]
        return f"shown: {proof.text}{whom}"
    least = f" ({required_words(race.policy.min_gain)})" if race.policy.min_gain else ""
    if proof.scope is Scope.FACT:
        return required_words(race.policy.min_gain)
    if proof.scope is Scope.FLEET or proof.units:
        return f"that is not shown{least}: {proof.text}"
    return (
        f"that is not shown{least}: {len(race.stratum.devices)} device(s) are too few for a claim about devices like "
        f"these, and not all of them measured in at least {proof.needed} quads, which would show it for themselves"
    )


def change_words(effect: Effect) -> str:
    """Return by how much a figure differs from what runs."""
    share = abs(effect.ratio - 1) * 100
    return f"{share:.1f} % {'more' if effect.ratio > 1 else 'less'}"


def required_words(least: float) -> str:
    """Return which gain is required, or which loss is borne where ``least`` is negative."""
    if least < 0:
        return f"a new version may cost at most {-least * 100:g} % more"
    return f"at least {least * 100:g} % less is required" if least else "a gain is required"


def notes_of(
    race: Race, results: Sequence[CandidateResult], proofs: Mapping[str, Proof], energy: EnergyKind
) -> tuple[str, ...]:
    """Return what has to be known besides: whose figures they are, what was not checked, what was left out."""
    notes = []
    if race.stratum.stand_in:
        notes.append("the figures are from machines that stand in for the board")
    if race.budgets.energy_mj is not None and not any(g.name == "energy" for r in results for g in r.gates):
        notes.append(f"the energy budget was not checked: {_why_no_energy(race)}")
    notes += _gross_energy(race, results, energy)
    if any(p.scope is not Scope.FACT and p.units and not p.paired for p in proofs.values()):
        notes.append("not every device compared in quads: a drift that all devices share is not ruled out")
    found = outlook(race)
    if found is not None and found.noise is not None and found.noise.suspicious:
        notes.append("an A/A run found a variant unlike itself: something on these devices disturbs comparisons")
    if found is not None and not any(p.verdict is Verdict.PROMOTE for p in proofs.values()):
        notes.append(found.text)
    out = [
        f"left out {r.label}: {r.reason}" for r in results if r.excluded in (ExclusionCode.GATE, ExclusionCode.MISSING)
    ]
    return (*notes, *out)


def _gross_energy(race: Race, results: Sequence[CandidateResult], kind: EnergyKind) -> list[str]:
    """Return whose energy has the idle power in it: a device's two figures, or those of all variants alike."""
    notes = []
    if kind is EnergyKind.GROSS and any(f.metric is Metric.ENERGY for r in results for f in r.figures):
        notes.append("the energies of all variants are gross of idle power: not every measurement has a net one")
    found = [] if race.incumbent is None else [race.comparison(c, Metric.ENERGY) for c in race.challengers]
    gross = {d for comparison in found for d in comparison.gross}
    if gross and (kind is EnergyKind.NET or any(set(c.effects) - c.gross for c in found)):
        notes.append(f"{len(gross)} device(s) compare energy gross of idle power, having no net one of both sides")
    return notes


def _why_no_energy(race: Race) -> str:
    found = [m for c in race.candidates for m in race.evidence[c.manifest].usable.values()]
    if any(m.energy.estimated for m in found):
        return "energy was only estimated from CPU time, and nothing is decided by an estimate"
    return "no device has a sensor that could be read"
