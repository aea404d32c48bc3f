"""Hard limits, each a named gate with a bound, a limit, what was observed, and pass, fail or missing.

A gate judges the worst device of the stratum, never the average. Data that is missing is never a
pass. Order matters for reading only: every gate is always judged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgepick_host.core import asked, plausible
from edgepick_host.core.constraints import Bounded, Constraint
from edgepick_host.core.experiment.evidence import is_rate
from edgepick_host.core.experiment.intervals import share_lower
from edgepick_host.core.figures import EnergyKind, energy_uj, energy_within
from edgepick_host.core.records import Release
from edgepick_host.core.strata import Results
from edgepick_profiles.schema import Budgets
from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError
from edgepick_wire.messages import Refusal
from edgepick_wire.metrics import Measurement


class GateName(StrEnum):
    """What is checked, in this order."""

    RUNS = "runs"
    MEASURED = "measured"
    GOLDEN = "golden"
    ACCURACY = "accuracy"
    LATENCY_P95 = "latency-p95"
    PEAK_RSS = "peak-rss"
    ARENA = "arena"
    MODEL_SIZE = "model-size"
    ENERGY = "energy"
    CONSTRAINT = "constraint"
    """A limit of the operator's, besides the profile's."""


class GateVerdict(StrEnum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    MISSING = "missing"
    """There is no data to judge by; never a pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One judged limit.

    Attributes:
        name: Which.
        bound: In words, which bound on which figure is compared.
        limit: What is allowed, in ``unit``.
        observed: The bound's value over the stratum's devices, in ``unit``.
        unit: Of both.
        verdict: Pass, fail or missing.
        detail: A sentence when it is not a pass.
        devices: Whose figures fail or are missing.
    """

    name: GateName
    bound: str
    limit: float | None
    observed: float | None
    unit: str
    verdict: GateVerdict
    detail: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How strict a selection is.

    Attributes:
        min_devices: Devices of the stratum with a valid measurement that a variant needs.
        max_accuracy_drop: Against the float model on the host's evaluation set, in share.
        min_gain: Least relative gain over an incumbent of the same version (0.05 is 5 % less).
        max_regression: Most relative loss at which a variant of another version still replaces the
            incumbent: a new version is wanted for itself, not for its speed.
        alpha: Most probability that any variant of the same version is promoted in a rollout without such a gain.
        alpha_harm: Most probability of calling a variant harmful that is not.
    """

    min_devices: int = 1
    max_accuracy_drop: float = 0.01
    min_gain: float = 0.0
    max_regression: float = 0.25
    alpha: float = 0.05
    alpha_harm: float = 0.10

    def __post_init__(self) -> None:
        """Refuse a policy under which nothing needs to be measured, or anything may be concluded."""
        for name, rate in (("alpha", self.alpha), ("alpha_harm", self.alpha_harm)):
            if not is_rate(rate):
                raise MalformedError(f"{name} lies between 0.0001 % (0.000001) and 99.9999 %; found {rate!r}")
        if self.min_devices < 1:
            raise MalformedError(f"min_devices {self.min_devices}: at least one device must have measured")
        if not (0 <= self.max_accuracy_drop <= 1 and 0 <= self.min_gain < 1 and self.max_regression >= 0):
            raise MalformedError("a policy's shares are: drop 0..1, gain 0..1, regression 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the devices of one stratum say about one variant.

    Attributes:
        release: The variant.
        usable: Measurements that may be used, by device.
        unusable: Why a device's measurement may not be used.
        refused: What a device answered instead of measuring.
        silent: Devices that said nothing.
    """

    release: Release
    usable: Mapping[str, Measurement]
    unusable: Mapping[str, str]
    refused: Mapping[str, Refusal]
    silent: tuple[str, ...]


def gather(release: Release, devices: Sequence[str], results: Results) -> Evidence:
    """Return the evidence about ``release`` from ``devices``."""
    found = {d: r for d in sorted(devices) if (r := results.get((d, release.manifest)))}
    measured = {d: r.measurement for d, r in found.items() if r.measurement is not None}
    unusable = {d: why for d, m in measured.items() if (why := plausible.unusable(m))}
    return Evidence(
        release=release,
        usable={d: m for d, m in measured.items() if d not in unusable},
        unusable=unusable,
        refused={d: r.refusal for d, r in found.items() if r.refusal is not None},
        silent=tuple(d for d in sorted(devices) if d not in found),
    )


def judge(
    evidence: Evidence, budgets: Budgets, policy: Policy, constraints: Sequence[Constraint] = ()
) -> tuple[Gate, ...]:
    """Return every gate that applies, judged."""
    return (
        _runs(evidence),
        _measured(evidence, policy.min_devices),
        _golden(evidence),
        _accuracy(evidence, policy.max_accuracy_drop),
        *_budgeted(evidence, budgets),
        *(_asked(evidence, constraint) for constraint in constraints),
    )


def passed(gates: Sequence[Gate]) -> bool:
    """Return whether every gate passed."""
    return all(g.verdict is GateVerdict.PASS for g in gates)


def failed(gates: Sequence[Gate]) -> bool:
    """Return whether a gate failed on data, rather than for want of it."""
    return any(g.verdict is GateVerdict.FAIL for g in gates)


def _gate(
    name: GateName,
    bound: str,
    *,
    verdict: GateVerdict,
    limit: float | None = None,
    observed: float | None = None,
    unit: str = "",
    detail: str = "",
    devices: Sequence[str] = (),
) -> Gate:
    return Gate(
        name=name,
        bound=bound,
        limit=limit,
        observed=observed,
        unit=unit,
        verdict=verdict,
        detail=detail,
        devices=tuple(devices),
    )


def _runs(evidence: Evidence) -> Gate:
    refused = evidence.refused
    why = "; ".join(f"{d} refused ({r.code}): {r.detail}" for d, r in refused.items())
    return _gate(
        GateName.RUNS,
        "no device refused to measure it",
        limit=0,
        observed=len(refused),
        unit="devices",
        verdict=GateVerdict.FAIL if refused else GateVerdict.PASS,
        detail=why,
        devices=tuple(refused),
    )


def _measured(evidence: Evidence, min_devices: int) -> Gate:
    enough = len(evidence.usable) >= min_devices
    parts = [f"no measurement from {', '.join(evidence.silent)}"] if evidence.silent else []
    parts += [f"unusable from {d}: {why}" for d, why in evidence.unusable.items()]
    return _gate(
        GateName.MEASURED,
        "devices with a usable measurement",
        limit=min_devices,
        observed=len(evidence.usable),
        unit="devices",
        verdict=GateVerdict.PASS if enough else GateVerdict.MISSING,
        detail="; ".join(parts),
        devices=(*evidence.silent, *evidence.unusable) if not enough else (),
    )


def _golden(evidence: Evidence) -> Gate:
    wrong = {d: m.golden for d, m in evidence.usable.items() if m.golden is not None and not m.golden.passed}
    unknown = [d for d, m in evidence.usable.items() if m.golden is None]
    bound = "every device answers the golden inputs within tolerance"
    if wrong:
        detail = "; ".join(f"{d}: {g.detail}" for d, g in wrong.items())
        return _gate(GateName.GOLDEN, bound, verdict=GateVerdict.FAIL, detail=detail, devices=tuple(wrong))
    if unknown or not evidence.usable:
        who = ", ".join(unknown) or "any device"
        return _gate(GateName.GOLDEN, bound, verdict=GateVerdict.MISSING, detail=f"not tried on {who}", devices=unknown)
    return _gate(GateName.GOLDEN, bound, verdict=GateVerdict.PASS)


def _accuracy(evidence: Evidence, limit: float) -> Gate:
    drop = evidence.release.accuracy_drop
    if drop is not None:
        bound = "accuracy drop on the host's evaluation set"
        return _limit(GateName.ACCURACY, bound, limit, {"": drop}, unit="share", what="the accuracy drop")
    # Without labels: accuracy cannot drop by more than the share of answers that changed.
    bound = "share of changed answers on the device (no labels; the drop cannot exceed it)"
    changed = {d: 1 - m.golden.agreement if m.golden else None for d, m in evidence.usable.items()}
    return _limit(GateName.ACCURACY, bound, limit, changed, unit="share", what="the share of changed answers")


def _budgeted(evidence: Evidence, budgets: Budgets) -> list[Gate]:
    gates = []
    if budgets.latency_p95_ms is not None:
        figures = _each(evidence, lambda m: None if m.latency.p95_ns is None else m.latency.p95_ns / 1e6)
        bound = "largest p95 of single-inference latency of any device"
        gates.append(
            _limit(GateName.LATENCY_P95, bound, budgets.latency_p95_ms, figures, unit="ms", what="p95 latency")
        )
    if budgets.peak_rss_bytes is not None:
        figures = _each(evidence, lambda m: m.memory.peak_rss_bytes)
        bound = "largest peak resident set of the runner on any device"
        gates.append(
            _limit(GateName.PEAK_RSS, bound, budgets.peak_rss_bytes, figures, unit="bytes", what="peak memory")
        )
    if budgets.arena_bytes is not None:
        figures = _each(evidence, lambda m: m.memory.arena_bytes)
        bound = "largest tensor arena on any device"
        gates.append(_limit(GateName.ARENA, bound, budgets.arena_bytes, figures, unit="bytes", what="the tensor arena"))
    if budgets.model_bytes is not None:
        size = {"": float(evidence.release.size_bytes)}
        gates.append(
            _limit(
                GateName.MODEL_SIZE, "model file size", budgets.model_bytes, size, unit="bytes", what="the model file"
            )
        )
    if budgets.energy_mj is not None and (sensed := _sensed(evidence)):
        gates.append(_energy(budgets.energy_mj, sensed))
    return gates


WITHHELD = "gross of idle power it is above the limit, and no net figure could be told"


def _sensed(evidence: Evidence) -> dict[str, Measurement]:
    """Return the measurements that have an energy."""
    return {d: m for d, m in evidence.usable.items() if energy_uj(m, EnergyKind.GROSS) is not None}


def _energy(limit_mj: float, sensed: Mapping[str, Measurement]) -> Gate:
    found = {d: energy_within(m, limit_mj * 1e3) for d, m in sensed.items()}
    gate = _limit(
        GateName.ENERGY,
        "largest energy per inference, net of idle power, of any device that has a sensor",
        limit_mj,
        {d: None if uj is None else uj / 1e3 for d, uj in found.items()},
        unit="mJ",
        what="energy per inference",
    )
    return gate if gate.verdict is not GateVerdict.MISSING else replace(gate, detail=f"{gate.detail}: {WITHHELD}")


def _asked(evidence: Evidence, constraint: Constraint) -> Gate:
    figures = asked.observed(constraint, evidence.release, evidence.usable)
    bounds = asked.bounds(constraint, evidence.release, evidence.usable)
    sign = -1 if constraint.floor else 1
    broken = [d for d, v in figures.items() if v is not None and v * sign > constraint.limit * sign]
    unknown = [d for d, v in figures.items() if v is None]
    open_ = [d for d, v in bounds.items() if d not in broken and (v is None or v * sign > constraint.limit * sign)]
    known = [v * sign for v in bounds.values() if v is not None]
    verdict, detail = GateVerdict.PASS, ""
    if broken:
        verdict, detail = GateVerdict.FAIL, f"{constraint} is broken{_on(broken)}"
    elif unknown or not figures:
        verdict, detail = GateVerdict.MISSING, _unknown(constraint, evidence, unknown)
    elif open_:
        verdict, detail = GateVerdict.MISSING, f"{constraint} is observed, but not shown at 95 %{_on(open_)}"
    return _gate(
        GateName.CONSTRAINT,
        f"{constraint}, by its bound on the worst device{_claim(constraint, len(evidence.usable))}",
        limit=constraint.limit,
        observed=max(known) * sign if known else None,
        unit=asked.BASE_UNITS[constraint.figure],
        verdict=verdict,
        detail=detail,
        devices=[d for d in broken or unknown or open_ if d],
    )


def _unknown(constraint: Constraint, evidence: Evidence, devices: Sequence[str]) -> str:
    sensed = _sensed(evidence) if constraint.figure is Bounded.ENERGY else {}
    withheld = [d for d in devices if d in sensed]
    unmeasured = [d for d in devices if d not in sensed]
    parts = [f"nobody measured {constraint.figure}{_on(unmeasured)}"] if unmeasured or not withheld else []
    parts += [f"{constraint.figure} is not known{_on(withheld)}: {WITHHELD}"] if withheld else []
    return "; ".join(parts)


def _claim(constraint: Constraint, devices: int) -> str:
    """Return which share of devices like these keeps a limit that all of ``devices`` keep, at 95 %."""
    if not devices or constraint.figure in (Bounded.ACCURACY, Bounded.SIZE):
        return ""
    return f"; if all {devices} keep it, at least {share_lower(devices, devices):.0%} of devices like these do"


def _each(evidence: Evidence, figure: Callable[[Measurement], float | None]) -> dict[str, float | None]:
    return {d: figure(m) for d, m in evidence.usable.items()}


def _limit(
    name: GateName, bound: str, limit: float, figures: Mapping[str, float | None], *, unit: str, what: str
) -> Gate:
    known = {d: v for d, v in figures.items() if v is not None}
    missing = [d for d, v in figures.items() if v is None]
    over = [d for d, v in known.items() if v > limit]
    observed = max(known.values(), default=None)
    verdict, detail = GateVerdict.PASS, ""
    if over:
        verdict, detail = GateVerdict.FAIL, f"{what} is over the limit{_on(over)}"
    elif missing or not known:
        verdict, detail = GateVerdict.MISSING, f"{what} is not known{_on(missing)}"
    devices = [d for d in over or missing if d]
    return _gate(
        name, bound, limit=limit, observed=observed, unit=unit, verdict=verdict, detail=detail, devices=devices
    )


def _on(devices: Sequence[str]) -> str:
    named = [d for d in devices if d]
    return f" on {', '.join(named)}" if named else ""
