"""Everything that one selection knows, gathered once: the variants, what the stratum's devices said, the rules. Pure.

What a selection depends on besides the reports is a value too (:class:`Question`), and is kept with the decision, so
that the decision can be derived again from the log.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from edgepick_host.core.experiment.evidence import share
from edgepick_host.core.experiment.family import even_share
from edgepick_host.core.experiment.trial import Rules
from edgepick_host.core.gates import Evidence, Gate, Policy, gather, judge
from edgepick_host.core.measured import MeasuredReport, PairedEffects
from edgepick_host.core.objective import Metric, Objective
from edgepick_host.core.plausible import unusable
from edgepick_host.core.proof import Comparison, Proof, Runs, compare, p_value, prove, scope_of
from edgepick_host.core.records import Release
from edgepick_host.core.strata import Stratum, latest_results
from edgepick_profiles.schema import Budgets
from edgepick_wire import codec
from edgepick_wire.ids import digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked, and of which evidence: with the log, everything that a decision depends on.

    Attributes:
        candidates: Manifests to choose from.
        previous: What ran before the incumbent.
        budgets: Hard limits of the profile, as they were.
        family: Number of comparisons that share the error rate: same-version challengers in all strata.
        rates: Manifest -> its part of the error rate, as a fraction, where it is not the even one.
        reports: Device -> ids of its reports that were known.
    """

    candidates: tuple[str, ...]
    previous: str | None
    budgets: Budgets
    family: int
    rates: Mapping[str, str]
    reports: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """One selection's knowledge. Made by :func:`gather_race`.

    Attributes:
        evidence: Manifest -> what the devices say, for the candidates, the incumbent and what ran before.
        runs: What was measured in quads.
        digests: Of every report that this depends on.
        question: As it is kept.
    """

    stratum: Stratum
    candidates: tuple[Release, ...]
    budgets: Budgets
    objective: Objective
    incumbent: Release | None
    previous: Release | None
    policy: Policy
    evidence: Mapping[str, Evidence]
    runs: Runs
    digests: tuple[str, ...]
    question: Question

    @property
    def inputs(self) -> str:
        """Digest of all of it."""
        return digest_of(codec.encode_document(_Inputs.of(self)))

    def with_rates(self, rates: Mapping[str, Fraction]) -> "Race":
        """Return the race with other parts of the error rate."""
        told = {name: str(rate) for name, rate in sorted(rates.items())}
        return replace(self, question=replace(self.question, rates=told))

    def gates(self, release: Release) -> tuple[Gate, ...]:
        """Return every gate, judged for one variant."""
        return judge(self.evidence[release.manifest], self.budgets, self.policy, self.objective.constraints)

    @property
    def challengers(self) -> tuple[Release, ...]:
        """The candidates that do not run already."""
        return tuple(c for c in self.candidates if self.incumbent is None or c.manifest != self.incumbent.manifest)

    def comparison(self, challenger: Release, metric: Metric) -> Comparison:
        """Return a challenger beside the incumbent, device by device."""
        if self.incumbent is None:
            raise LookupError("nothing runs there to compare with")
        new, old = (self.evidence[r.manifest] for r in (challenger, self.incumbent))
        sides = ((new.release, new.usable), (old.release, old.usable))
        return compare(metric, *sides, self.runs, self.stratum.devices)

    def same_version(self, challenger: Release) -> bool:
        """Return whether a challenger must gain, rather than only not lose much."""
        return self.incumbent is not None and challenger.version == self.incumbent.version

    def rules(self, challenger: Release) -> Rules:
        """Return what a challenger has to show, and its part of the error rate."""
        alpha, harm = share(self.policy.alpha), share(self.policy.alpha_harm)
        if not self.same_version(challenger):
            loss = self.policy.max_regression
            return Rules(alpha=alpha, alpha_harm=harm, gain=-loss, harm=loss)
        given = self.question.rates.get(challenger.manifest)
        rate = even_share(alpha, self.question.family) if given is None else Fraction(given)
        return Rules(alpha=rate, alpha_harm=harm, gain=self.policy.min_gain)

    def proof(self, challenger: Release) -> Proof:
        """Return what is shown about a challenger, in the primary metric."""
        found, rules = self.comparison(challenger, self.objective.primary), self.rules(challenger)
        return prove(found, scope_of(found, len(self.stratum.devices), self.even_rate), self.stratum.devices, rules)

    def p_value(self, challenger: Release) -> Fraction:
        """Return the p-value of "this challenger does not gain", valid at every look."""
        found = self.comparison(challenger, self.objective.primary)
        scope = scope_of(found, len(self.stratum.devices), self.even_rate)
        return p_value(found, scope, self.stratum.devices, self.policy.min_gain)

    @property
    def even_rate(self) -> Fraction:
        """Each comparison's part of the error rate, if all get the same."""
        return even_share(share(self.policy.alpha), self.question.family)


def gather_race(
    *,
    stratum: Stratum,
    candidates: Sequence[Release],
    reports: Iterable[MeasuredReport],
    budgets: Budgets,
    objective: Objective,
    incumbent: Release | None,
    previous: Release | None,
    policy: Policy,
    family: int = 0,
    rates: Mapping[str, Fraction] | None = None,
) -> Race:
    """Return what is known; reports of other devices and about other variants are left out."""
    # As they come back from the log: a whole number that stands for a float must not change a digest.
    budgets = codec.decode_document(Budgets, codec.encode_document(budgets))
    policy = codec.decode_document(Policy, codec.encode_document(policy))
    ordered = tuple(sorted({c.manifest: c for c in candidates}.values(), key=lambda c: (c.rank, c.manifest)))
    known = {r.manifest: r for r in (*ordered, incumbent, previous) if r is not None}
    mine = _relevant(reports, stratum, known)
    results = latest_results(mine)
    question = Question(
        candidates=tuple(c.manifest for c in ordered),
        previous=previous.manifest if previous else None,
        budgets=budgets,
        family=family or max(1, count_family(ordered, incumbent)),
        rates={name: str(rate) for name, rate in sorted((rates or {}).items())},
        reports=_ids(mine),
    )
    return Race(
        stratum=stratum,
        candidates=ordered,
        budgets=budgets,
        objective=objective,
        incumbent=incumbent,
        previous=previous,
        policy=policy,
        evidence={m: gather(r, stratum.devices, results) for m, r in known.items()},
        runs=paired_runs(mine),
        digests=tuple(r.digest for r in mine),
        question=question,
    )


def _ids(reports: Sequence[MeasuredReport]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for report in reports:
        found.setdefault(report.device, []).append(report.id)
    return {device: tuple(sorted(ids)) for device, ids in sorted(found.items())}


def count_family(candidates: Sequence[Release], incumbent: Release | None) -> int:
    """Return how many of the candidates have to prove a gain over the incumbent."""
    if incumbent is None:
        return 0
    return sum(c.version == incumbent.version and c.manifest != incumbent.manifest for c in candidates)


def _relevant(
    reports: Iterable[MeasuredReport], stratum: Stratum, known: Mapping[str, Release]
) -> list[MeasuredReport]:
    """Return the reports about these variants by these devices, each once, by device and id."""
    devices = frozenset(stratum.devices)
    found = {(r.device, r.id): r for r in reports if r.device in devices and r.measurement.manifest in known}
    return [report for _, report in sorted(found.items())]


def paired_runs(reports: Iterable[MeasuredReport]) -> Runs:
    """Return every usable run in quads, by device and pair, in the order of the device's own sessions and clock.

    A coin key counts once per device and pair, so that no order to measure again throws the same coins twice.
    """
    found: dict[tuple[str, str, str], dict[str, PairedEffects]] = {}
    for report in sorted(reports, key=lambda r: (r.session, r.recorded_at, r.id)):
        measured, paired = report.measurement.measurement, report.paired
        if measured is None or paired is None or unusable(measured):
            continue
        key = (report.device, report.measurement.manifest, paired.against)
        found.setdefault(key, {}).setdefault(paired.key, paired)
    return {key: tuple(runs.values()) for key, runs in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    stratum: Stratum
    candidates: tuple[Release, ...]
    reports: tuple[str, ...]
    question: Question
    objective: Objective
    incumbent: Release | None
    previous: Release | None
    policy: Policy

    @classmethod
    def of(cls, race: Race) -> "_Inputs":
        return cls(
            stratum=race.stratum,
            candidates=race.candidates,
            reports=race.digests,
            question=race.question,
            objective=race.objective,
            incumbent=race.incumbent,
            previous=race.previous,
            policy=race.policy,
        )
