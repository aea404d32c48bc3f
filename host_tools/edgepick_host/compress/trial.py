"""Candidates tried in batches: made, verified, evaluated, and kept or refused with the reason.

Each stage of a batch is done for all candidates before the next begins, and what is known without evaluation is judged
before it: rules on the finished file, then budgets, then accuracy.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepick_host.compress.bench import Bench
from edgepick_host.compress.laboratory import Laboratory
from edgepick_host.compress.layers import asks_for_layers, kept_in_float
from edgepick_host.compress.source import describe
from edgepick_host.compress.verdicts import origin, quality_of, score_objection, variant_of
from edgepick_host.compress.work import (
    COMPRESSION_LEVEL,
    ArenaJob,
    Crashed,
    Layers,
    Made,
    MakeJob,
    Result,
    Score,
    ScoreJob,
    SensitivityJob,
    Start,
    Trained,
    TrainJob,
)
from edgepick_host.core.bounds import Contender, is_hopeless, to_beat, work_of
from edgepick_host.core.layer_errors import LayerError
from edgepick_host.core.left_in_float import left_in_float
from edgepick_host.core.model_facts import ModelFacts
from edgepick_host.core.plan import Candidate
from edgepick_host.core.search import Finding, family
from edgepick_host.core.search_record import Attempt, ChangedAnswers, Verdict
from edgepick_host.core.variants import Recipe, Rejection, RejectionCode, Variant
from edgepick_host.core.verify import ArenaFacts, Objection, engine_objection, profile_objection
from edgepick_host.errors import CompressionError
from edgepick_profiles.schema import OperatorSet
from edgepick_wire.ids import digest_of


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What has been kept and rejected so far.

    Attributes:
        variants: By the model's digest.
        files: By the model's digest; of what lost too much, too.
        starts: By candidate name: the float models that training ended with.
        attempts: By candidate name, in the order of trying.
        unfinished: Candidates that the budget left out, with their profiles.
    """

    rejections: list[Rejection] = field(default_factory=list)
    variants: dict[str, Variant] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    sensitivity: dict[str, tuple[LayerError, ...]] = field(default_factory=dict)
    unfinished: list[Candidate] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Case:
    """One candidate on its way through the stages."""

    candidate: Candidate
    recipe: Recipe
    start: Start | None = None
    model: bytes = b""
    facts: ModelFacts | None = None
    takers: tuple[str, ...] = ()
    arena: ArenaFacts | None = None
    score: Score | None = None
    remark: str = ""
    fell: dict[str, Objection] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest_of(self.model) if self.model else ""

    def refuse(self, profiles: Iterable[str], code: RejectionCode, reason: str) -> None:
        """Note why some profiles do not get it."""
        objection = Objection(code=code, reason=reason)
        self.fell.update((profile, objection) for profile in profiles if profile not in self.fell)
        self.takers = tuple(taker for taker in self.takers if taker not in self.fell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """A bench, a laboratory, and what was found with them.

    Attributes:
        limit: Largest loss, in share.
        races: Siblings of one family race: the ones that certainly answer worse are not evaluated to the end.
        strict: The whole confidence interval must be within the limit.
    """

    bench: Bench
    laboratory: Laboratory
    limit: float
    races: bool = False
    strict: bool = False
    outcome: Outcome = field(default_factory=Outcome)

    def run(self, candidates: Sequence[Candidate], number: int) -> None:
        """Add to the outcome what became of each candidate, for each of its profiles."""
        cases = [_Case(candidate=c, recipe=c.recipe, takers=c.profiles) for c in candidates]
        for stage in (self._train, self._choose_layers, self._make, self._verify, self._measure_arena, self._evaluate):
            cases = stage(cases)
        for case in cases:
            self._settle(case, number)

    def _open(self, cases: Sequence[_Case]) -> list[_Case]:
        return [case for case in cases if case.takers]

    def _dropped(self, cases: Sequence[_Case], unfinished: Sequence[_Case]) -> list[_Case]:
        self.outcome.unfinished += [case.candidate for case in unfinished]
        gone = {id(case) for case in unfinished}
        return [case for case in cases if id(case) not in gone]

    def _train(self, cases: list[_Case]) -> list[_Case]:
        """Train what recipes ask for; each module once, for both formats."""
        training = [case for case in cases if case.recipe.training]
        formats = tuple(self.bench.sources)
        jobs = [TrainJob(training=case.recipe.training, formats=formats) for case in training]
        results = self.laboratory.results(jobs, "training") if jobs else []
        unfinished = [case for case, found in zip(training, results, strict=True) if found is None]
        for case, found in zip(training, results, strict=True):
            if isinstance(found, Trained) and not found.failure:
                case.start = found.starts[case.recipe.format]
            elif isinstance(found, Trained):
                case.refuse(case.takers, RejectionCode.ENGINE, found.failure)
            elif isinstance(found, Crashed):
                case.refuse(case.takers, RejectionCode.ENGINE, found.reason)
        return self._dropped(cases, unfinished)

    def _choose_layers(self, cases: list[_Case]) -> list[_Case]:
        """Fill in the names of layers that stay in float, measuring the sensitivity of all first."""
        asking = [case for case in self._open(cases) if asks_for_layers(case.recipe)]
        jobs = [SensitivityJob(recipe=_without_count(case.recipe), start=case.start) for case in asking]
        results = self.laboratory.results(jobs, "measuring how much each layer hurts") if jobs else []
        unfinished: list[_Case] = []
        for case, found in zip(asking, results, strict=True):
            if found is None:
                unfinished.append(case)
                continue
            self._fill_in(case, found if isinstance(found, Layers) else Layers(failure=_crash_of(found)))
        return self._dropped(cases, unfinished)

    def _fill_in(self, case: _Case, found: Layers) -> None:
        if found.failure:
            case.refuse(case.takers, RejectionCode.ENGINE, f"the sensitivity of its layers: {found.failure}")
            return
        self.outcome.sensitivity[case.recipe.format.value] = found.errors
        try:
            case.recipe = kept_in_float(case.recipe, found.errors)
        except CompressionError as error:
            case.refuse(case.takers, RejectionCode.ENGINE, str(error))

    def _make(self, cases: list[_Case]) -> list[_Case]:
        todo = self._open(cases)
        results = self.laboratory.results(
            [MakeJob(recipe=case.recipe, start=case.start) for case in todo], "making models"
        )
        unfinished = [case for case, found in zip(todo, results, strict=True) if found is None]
        for case, found in zip(todo, results, strict=True):
            if isinstance(found, Crashed):
                case.refuse(case.takers, RejectionCode.ENGINE, found.reason)
            elif isinstance(found, Made) and found.failure:
                case.refuse(case.takers, RejectionCode.ENGINE, found.failure)
            elif isinstance(found, Made):
                case.model = found.model
        return self._dropped(cases, unfinished)

    def _verify(self, cases: list[_Case]) -> list[_Case]:
        """Refuse what the engine did not do, and what breaks rules or budgets that need no measurement."""
        for case in self._open(cases):
            case.facts = describe(case.model, case.recipe.format, Path(case.candidate.name))
            case.remark = left_in_float(case.recipe, case.facts)
            broken = engine_objection(case.recipe, case.facts)
            if broken is not None:
                case.refuse(case.takers, RejectionCode.ENGINE, broken)
            self._judge(case, lambda _: None)
        return cases

    def _judge(self, case: _Case, arena_of: Callable[[str], ArenaFacts | None]) -> None:
        assert case.facts is not None
        for name in case.takers:
            objection = profile_objection(case.facts, self.bench.profile(name), arena_of(name))
            if objection is not None:
                case.refuse([name], objection.code, objection.reason)

    def _is_small(self, name: str) -> bool:
        return self.bench.profile(name).rules.operators is OperatorSet.TFLM

    def _measure_arena(self, cases: list[_Case]) -> list[_Case]:
        todo = [case for case in self._open(cases) if any(map(self._is_small, case.takers))]
        jobs = [ArenaJob(model=case.model) for case in todo]
        results = self.laboratory.results(jobs, "running in tflite-micro") if jobs else []
        unfinished = [case for case, found in zip(todo, results, strict=True) if found is None]
        for case, found in zip(todo, results, strict=True):
            if found is None:
                continue
            case.arena = found if isinstance(found, ArenaFacts) else ArenaFacts(failure=_crash_of(found))
            self._judge(case, lambda name, arena=case.arena: arena if self._is_small(name) else None)  # type: ignore[misc]  # mypy infers no lambda with a default
        return self._dropped(cases, unfinished)

    def _evaluate(self, cases: list[_Case]) -> list[_Case]:
        self._refuse_hopeless(cases)
        todo = self._open(cases)
        jobs = [ScoreJob(model=c.model, format=c.recipe.format, limit=self._limit(c)) for c in todo]
        results = self.laboratory.results(jobs, "evaluating")
        unfinished = [case for case, found in zip(todo, results, strict=True) if found is None]
        for case, found in zip(todo, results, strict=True):
            if isinstance(found, Crashed):
                case.refuse(case.takers, RejectionCode.ENGINE, found.reason)
            elif isinstance(found, Score):
                self._judge_score(case, found)
        return self._dropped(cases, unfinished)

    def _refuse_hopeless(self, cases: list[_Case]) -> None:
        """Refuse what costs more than something kept that cannot be answered better."""
        least = -self.bench.float_wrong / len(self.bench.evaluation)
        for case in self._open(cases):
            rival = self._rival(case)
            if rival is not None and is_hopeless(_contender(case), rival, least):
                reason = f"cannot answer better than {rival.name}, which costs no more in anything"
                case.refuse(case.takers, RejectionCode.DOMINATED, reason)

    def _limit(self, case: _Case) -> float:
        """Return the loss at which evaluation may stop: the tolerance, or what a better one already reached."""
        losses = [best.loss for best in (self._best_sibling(case), self._rival(case)) if best is not None]
        return min([self.limit, *(loss for loss in losses if loss is not None)])

    def _best_sibling(self, case: _Case) -> Contender | None:
        siblings = [v for v in self._offered_to(case) if family(v.recipe) == family(case.recipe)]
        best = min(siblings, key=score_loss, default=None)
        return None if best is None else _contender_of(best)

    def _rival(self, case: _Case) -> Contender | None:
        """Return the best kept variant that does the same work and is no larger; siblings apart, who race anyway."""
        others = [v for v in self._offered_to(case) if family(v.recipe) != family(case.recipe)]
        same = [v for v in others if work_of(v.recipe) == work_of(case.recipe)]
        return to_beat(_contender(case), map(_contender_of, same)) if same else None

    def _offered_to(self, case: _Case) -> list[Variant]:
        """Return what is kept for every profile that would take the case; nothing, unless siblings race."""
        kept = self.outcome.variants.values() if self.races else ()
        return [variant for variant in kept if set(case.takers) <= set(variant.profiles)]

    def _judge_score(self, case: _Case, score: Score) -> None:
        case.score = score
        if score.failure:
            case.refuse(case.takers, RejectionCode.ENGINE, score.failure)
            return
        objection = score_objection(score, self.limit, strict=self.strict)
        if objection is not None:
            case.refuse(case.takers, objection.code, objection.reason)
        elif not score.complete:
            case.refuse(case.takers, RejectionCode.DOMINATED, self._beaten_by(case))

    def _beaten_by(self, case: _Case) -> str:
        sibling, rival = self._best_sibling(case), self._rival(case)
        if sibling is not None and sibling.loss == self._limit(case):
            return f"answers worse than {sibling.name}, which costs the same"
        assert rival is not None
        return f"answers worse than {rival.name}, which costs no more in anything"

    def _settle(self, case: _Case, number: int) -> None:
        same_as = ""
        if case.takers and case.score is not None:
            same_as = self._keep(case, case.score)
        name = case.candidate.name
        for profile, objection in case.fell.items():
            self.outcome.rejections.append(
                Rejection(recipe=name, profile=profile, code=objection.code, reason=objection.reason)
            )
        if any(objection.code is RejectionCode.ACCURACY for objection in case.fell.values()):
            self.outcome.files.setdefault(case.digest, case.model)
        if case.start is not None:
            self.outcome.starts[name] = case.start
        self.outcome.attempts[name] = _attempt(case, number, same_as, self.bench.float_right)
        self.outcome.findings[name] = _finding(case)

    def _keep(self, case: _Case, score: Score) -> str:
        """Keep the model; return the name of the variant that had the same bytes before, if one had."""
        before = self.outcome.variants.get(case.digest)
        if before is None:
            arena = case.arena.arena_bytes if case.arena is not None and not case.arena.failure else None
            made = variant_of(case.candidate.name, case.recipe, case.model, score, self.bench)
            origins = origin(case.recipe.format, self.bench)
            self.outcome.variants[case.digest] = replace(
                made, profiles=case.takers, arena_bytes=arena, provenance=origins
            )
            self.outcome.files[case.digest] = case.model
            return ""
        arena_bytes = case.arena.arena_bytes if case.arena is not None else before.arena_bytes
        profiles = tuple(dict.fromkeys((*before.profiles, *case.takers)))
        self.outcome.variants[case.digest] = replace(before, profiles=profiles, arena_bytes=arena_bytes)
        return before.name


def _crash_of(found: Result) -> str:
    assert isinstance(found, Crashed)
    return found.reason


def _contender(case: _Case) -> Contender:
    zipped = len(zlib.compress(case.model, COMPRESSION_LEVEL))
    return Contender(
        name=case.candidate.name, work=work_of(case.recipe), size_bytes=len(case.model), zipped_bytes=zipped
    )


def _contender_of(variant: Variant) -> Contender:
    return Contender(
        name=variant.name,
        work=work_of(variant.recipe),
        size_bytes=variant.size_bytes,
        zipped_bytes=variant.compressed_bytes,
        loss=score_loss(variant),
    )


def score_loss(variant: Variant) -> float:
    """Return what the accuracy gate looked at."""
    quality = variant.quality
    return 1.0 - quality.agreement if quality.accuracy_drop is None else quality.accuracy_drop


def _without_count(recipe: Recipe) -> Recipe:
    """Return the recipe without the number of layers, which the sensitivity does not depend on."""
    last = recipe.steps[-1]
    parameters = {key: value for key, value in last.parameters.items() if key != "keep"}
    return replace(recipe, name="", steps=(*recipe.steps[:-1], replace(last, parameters=parameters)))


def _finding(case: _Case) -> Finding:
    score = case.score
    known = score is not None and not score.failure
    return Finding(
        kept=frozenset(case.takers),
        fell={profile: objection.code for profile, objection in case.fell.items()},
        loss=score.least_loss if known and score else None,
        error=score.mean_abs_error if known and score else float("inf"),
    )


def _attempt(case: _Case, number: int, same_as: str, float_right: int | None) -> Attempt:
    score = case.score
    verdicts = [Verdict(profile=profile, kept=True, reason=case.remark) for profile in case.takers]
    verdicts += [Verdict(profile=p, kept=False, code=o.code, reason=o.reason) for p, o in case.fell.items()]
    measured = case.arena is not None and not case.arena.failure
    whole = score is not None and score.complete and not score.failure
    return Attempt(
        name=case.candidate.name,
        recipe=case.recipe,
        round=number,
        verdicts=tuple(verdicts),
        sha256=case.digest,
        size_bytes=len(case.model),
        compressed_bytes=score.zipped_bytes if score else 0,
        arena_bytes=case.arena.arena_bytes if case.arena is not None and measured else None,
        same_as=same_as,
        quality=quality_of(score, float_right) if score is not None and whole else None,
        samples_seen=score.seen if score else 0,
        least_loss=score.least_loss if score is not None and not score.failure else None,
        changed=tuple(
            ChangedAnswers(label=c.label, float_answer=c.float_answer, answer=c.answer, count=c.count)
            for c in (score.changed if score else ())
        ),
    )
