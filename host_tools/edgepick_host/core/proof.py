"""What the devices of a stratum prove about a challenger against what runs there. Pure.

Where the stratum is large enough, a device is one unit, and the claim is about devices like these. Where even unanimous
devices would be too few, each quad is a unit, every device has to prove the gain by itself, and the claim is about
these devices only (an intersection-union test: nothing is added up, so nothing is to be corrected). A figure that is a
fact, such as a file's size, needs no proof.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from edgepick_host.core.experiment.evidence import Tally, anytime_p, below, e_value, least_units
from edgepick_host.core.experiment.quads import plausible
from edgepick_host.core.experiment.trial import Finding, Rules, Verdict, look
from edgepick_host.core.figures import EnergyKind, energy_kind, exact, metric_value
from edgepick_host.core.measured import PairedEffects
from edgepick_host.core.objective import Metric
from edgepick_host.core.records import Release
from edgepick_wire.enums import StrEnum
from edgepick_wire.metrics import Measurement


class Scope(StrEnum):
    """Whom a proof is about."""

    FLEET = "fleet"
    """Devices like these; a device is one unit."""
    DEVICES = "devices"
    """These devices and no others; a quad is one unit, on each device by itself."""
    FACT = "fact"
    """The variant itself; the figure is the same wherever it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is shown about a challenger, in one metric.

    Attributes:
        candidate: Its manifest.
        metric: The objective's primary metric.
        scope: Whom it is about.
        gain: Least relative gain that counts; negative for a loss that is accepted.
        paired: The figures come from quads in an order drawn by lot.
        units: Devices, or quads of the device that proves least.
        wins: Units that gain more than the margin.
        losses: Units that lose more than the margin of harm.
        e_promote: Evidence for a gain; it has to reach ``1/rate``.
        e_harm: Evidence for harm; it has to reach ``1/rate_harm``.
        rate: Most probability of a false promotion, a fraction: this candidate's part of its family's.
        rate_harm: Most probability of a false alarm.
        low: Least ratio to the incumbent that the data leave open at this rate, at every look; ``None`` if any.
        high: Greatest ratio likewise.
        needed: Units that would have sufficed if all had gained.
        dropped: Reason -> quads that were not used.
        verdict: What follows.
    """

    candidate: str
    metric: Metric
    scope: Scope
    gain: float
    paired: bool
    units: int
    wins: int
    losses: int
    e_promote: float
    e_harm: float
    rate: str
    rate_harm: str
    low: float | None
    high: float | None
    needed: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    verdict: Verdict

    @property
    def text(self) -> str:
        """The evidence as a sentence."""
        if self.scope is Scope.FACT:
            return "the figure is the same wherever it runs"
        unit = "devices" if self.scope is Scope.FLEET else "quads of the device that shows least"
        least = f"{float(1 / Fraction(self.rate)):.4g}"
        return f"{self.wins} of {self.units} {unit} {self._gained}: evidence {self.e_promote:.3g} of {least}"

    @property
    def _gained(self) -> str:
        if self.gain < 0:
            return f"lose less than {-self.gain * 100:g} %"
        return f"gain more than {self.gain * 100:g} %" if self.gain else "gain"


Runs = Mapping[tuple[str, str, str], Sequence[PairedEffects]]
"""``(device, candidate, incumbent)`` -> its runs, the first one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A challenger beside the incumbent, in one metric, device by device.

    Attributes:
        effects: Device -> log ratio of its own two figures.
        quads: Device -> log ratios of its usable quads, all its runs together.
        paired: Devices whose effect comes from quads.
        gross: Devices whose effect is one of energy with the idle power in it, on both sides.
        dropped: Reason -> quads that were not used.
        fact: The figures are facts about the variants.
    """

    challenger: str
    metric: Metric
    effects: Mapping[str, float]
    quads: Mapping[str, Sequence[float]]
    paired: frozenset[str]
    gross: frozenset[str]
    dropped: Mapping[str, int]
    fact: bool


def compare(
    metric: Metric,
    challenger: tuple[Release, Mapping[str, Measurement]],
    incumbent: tuple[Release, Mapping[str, Measurement]],
    runs: Runs,
    devices: Sequence[str],
) -> Comparison:
    """Return what ``devices`` say; a device that measured in quads speaks by its first run of them.

    Energy is net on both sides, or gross on both: quads measure the net one.
    """
    new, old = challenger[0], incumbent[0]
    found = {d: [run.of(metric) for run in runs.get((d, new.manifest, old.manifest), ())] for d in sorted(devices)}
    first = {d: e[0].unit for d, e in found.items() if e and e[0].unit is not None}
    effects = {
        d: v for d in sorted(devices) if (v := first.get(d, _single(metric, challenger, incumbent, d))) is not None
    }
    both = [(new, m) for m in challenger[1].values()] + [(old, m) for m in incumbent[1].values()]
    return Comparison(
        challenger=new.manifest,
        metric=metric,
        effects=effects,
        quads={d: [v for e in many for v in e.values] for d, many in found.items() if many},
        paired=frozenset(first),
        gross=frozenset(d for d in effects if d not in first and _kind(challenger, incumbent, d) is EnergyKind.GROSS),
        dropped=_added([e.dropped for many in found.values() for e in many]),
        fact=bool(both) and all(exact(metric, r, m) for r, m in both),
    )


def _single(
    metric: Metric,
    challenger: tuple[Release, Mapping[str, Measurement]],
    incumbent: tuple[Release, Mapping[str, Measurement]],
    device: str,
) -> float | None:
    kind = _kind(challenger, incumbent, device)
    known = [metric_value(metric, r, m[device], kind) for r, m in (challenger, incumbent) if device in m]
    figures = [v for v in known if v is not None]
    if len(figures) < 2 or not plausible(figures):
        return None
    return math.log(figures[0] / figures[1])


def _kind(
    challenger: tuple[Release, Mapping[str, Measurement]], incumbent: tuple[Release, Mapping[str, Measurement]], d: str
) -> EnergyKind:
    return energy_kind(m[d] for _, m in (challenger, incumbent) if d in m)


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    reasons = sorted({reason for each in counts for reason in each})
    return {reason: sum(each.get(reason, 0) for each in counts) for reason in reasons}


def scope_of(comparison: Comparison, devices: int, rate: Fraction) -> Scope:
    """Return whom a proof at ``rate`` can be about; it follows from the stratum's size, not from what was measured."""
    if comparison.fact:
        return Scope.FACT
    return Scope.FLEET if devices >= least_units(rate) else Scope.DEVICES


def p_value(comparison: Comparison, scope: Scope, devices: Sequence[str], gain: float) -> Fraction:
    """Return the p-value of "it does not gain more than the margin", valid at every look."""
    limit = math.log1p(-gain)
    if scope is Scope.FACT:
        return Fraction(0 if comparison.effects and max(comparison.effects.values()) < limit else 1)
    if scope is Scope.FLEET:
        return anytime_p(below(comparison.effects.values(), limit))
    return max(anytime_p(below(comparison.quads.get(d, ()), limit)) for d in devices)


def prove(comparison: Comparison, scope: Scope, devices: Sequence[str], rules: Rules) -> Proof:
    """Return what is proven under ``rules``."""
    found = _finding(comparison, scope, devices, rules)
    middle = [math.exp(v) if v is not None else None for v in (found.range.low, found.range.high)]
    return Proof(
        candidate=comparison.challenger,
        metric=comparison.metric,
        scope=scope,
        gain=rules.gain,
        paired=bool(comparison.effects) and comparison.paired >= set(comparison.effects),
        units=found.gain.units,
        wins=found.gain.wins,
        losses=found.harm.wins,
        e_promote=_shown(found.gain),
        e_harm=_shown(found.harm),
        rate=str(rules.alpha),
        rate_harm=str(rules.alpha_harm),
        low=middle[0],
        high=middle[1],
        needed=found.needed,
        dropped=comparison.dropped,
        verdict=found.verdict,
    )


LARGEST_SHOWN = 1e12


def _shown(tally: Tally) -> float:
    """Return an e-value for people: what decides is the exact fraction."""
    return float(min(e_value(tally), Fraction(LARGEST_SHOWN)))


def _finding(comparison: Comparison, scope: Scope, devices: Sequence[str], rules: Rules) -> Finding:
    if scope is Scope.FLEET:
        return look(list(comparison.effects.values()), rules)
    if scope is Scope.FACT:
        return _fact(list(comparison.effects.values()), rules)
    alone = replace(rules, alpha_harm=rules.alpha_harm / max(1, len(devices)))
    each = [look(comparison.quads.get(d, ()), alone) for d in devices]
    harmed = [f for f in each if f.verdict is Verdict.REJECT]
    return harmed[0] if harmed else min(each, key=lambda f: (e_value(f.gain), -f.gain.units))


def _fact(effects: Sequence[float], rules: Rules) -> Finding:
    found = look(effects, rules)
    gained = bool(effects) and found.gain.wins == len(effects)
    lost = bool(effects) and found.harm.wins == len(effects)
    verdict = Verdict.PROMOTE if gained else Verdict.REJECT if lost else Verdict.INCONCLUSIVE
    return Finding(verdict=verdict, gain=found.gain, harm=found.harm, range=found.range, needed=1)
