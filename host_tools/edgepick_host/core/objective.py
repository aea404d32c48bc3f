"""What "best" means among variants that may all run: an objective over measured figures.

Every metric is a positive number of which less is better. Pure; nothing here reads a report.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepick_host.core.constraints import Constraint, parse_constraints
from edgepick_host.errors import ConfigError
from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError


class Metric(StrEnum):
    """A figure of a variant in one stratum; less is better."""

    LATENCY = "latency"
    """Median single-inference latency, nanoseconds."""
    TAIL = "p95"
    """95th percentile of single-inference latency, nanoseconds."""
    MEMORY = "memory"
    """Tensor arena where the runtime tells it exactly, else peak resident set, bytes."""
    SIZE = "size"
    """Model file size, bytes."""
    ENERGY = "energy"
    """Energy per inference, microjoules."""
    ERROR = "error"
    """1 - accuracy on labelled data, else mean absolute error to the float model."""


class Method(StrEnum):
    """How several metrics become one order."""

    LEXICOGRAPHIC = "lexicographic"
    """The first metric decides; values within its tie share go on to the next."""
    WEIGHTED = "weighted"
    """The sum of weight * ln(value / best value) decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One metric of an objective.

    Attributes:
        metric: Which.
        tie: Values up to this share above the best count as equal (lexicographic).
        weight: Its weight (weighted).
    """

    metric: Metric
    tie: float = 0.0
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What to minimise; ``terms`` in order of importance, the first one is the *primary* metric.

    ``constraints`` are limits that the operator adds to those of the profile.
    """

    method: Method
    terms: tuple[Term, ...]
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an objective over nothing or over one metric twice."""
        metrics = [t.metric for t in self.terms]
        if not metrics or len(set(metrics)) != len(metrics):
            raise MalformedError("an objective names at least one metric, each once")

    @property
    def primary(self) -> Metric:
        """The metric by which a gain is judged."""
        return (
            max(self.terms, key=lambda t: t.weight).metric if self.method is Method.WEIGHTED else self.terms[0].metric
        )

    def __str__(self) -> str:
        limits = " and ".join(str(c) for c in self.constraints)
        return f"{self.aim}{SUBJECT_TO}{limits}" if limits else self.aim

    @property
    def aim(self) -> str:
        """What is minimised, without the constraints."""
        if self.method is Method.WEIGHTED:
            return "weighted " + " ".join(f"{t.metric}={t.weight:g}" for t in self.terms)
        return "minimise " + " then ".join(_term_text(t) for t in self.terms)


SUBJECT_TO = " subject to "

LATENCY_TIE = 0.03
"""Below 3 % two medians of one device are not told apart in a few runs (A/A spread of a quiet board)."""

_BREAKERS = (
    Term(metric=Metric.LATENCY, tie=LATENCY_TIE),
    Term(metric=Metric.MEMORY),
    Term(metric=Metric.SIZE),
)

DEFAULT_OBJECTIVE = Objective(method=Method.LEXICOGRAPHIC, terms=_BREAKERS)
"""Fastest; within 3 % the one that needs less memory; then the smaller file."""

_MINIMISE = re.compile(r"(?:minimi[sz]e)\s+(.+)")
_TERM = re.compile(r"([a-z0-9]+)(?:\s+within\s+([0-9.]+)\s*%)?")
_WEIGHT = re.compile(r"([a-z0-9]+)=([0-9.]+)")


def parse_objective(text: str) -> Objective:
    """Return the objective that a person wrote.

    Accepted: ``minimise latency``, ``minimise size then latency within 3%``, ``maximise accuracy``,
    ``weighted latency=0.7 size=0.3``, each with ``subject to accuracy >= 0.97 and p95 <= 20 ms`` after it.
    After one single metric the default's tie-breakers follow.

    Raises:
        ConfigError: Not of that form, or over a metric that nobody measures; the message names what is allowed.
    """
    words = " ".join(text.lower().split())
    aim, split, limits = words.partition(SUBJECT_TO)
    constraints = parse_constraints(limits) if split else ()
    return dataclasses.replace(_aim(text, aim), constraints=constraints)


def _aim(text: str, words: str) -> Objective:
    if re.fullmatch(r"maximi[sz]e accuracy", words):
        words = "minimise error"
    if words.startswith("weighted "):
        return _weighted(text, words.removeprefix("weighted "))
    match = _MINIMISE.fullmatch(words)
    if match is None:
        raise _unreadable(text)
    terms = tuple(_term(text, part.strip()) for part in match[1].split(" then "))
    return _checked(text, Method.LEXICOGRAPHIC, _with_breakers(terms) if len(terms) == 1 else terms)


def rank(objective: Objective, figures: Mapping[str, Mapping[Metric, float]]) -> tuple[str, ...]:
    """Return the names in ``figures``, best first; ties keep the order of ``figures``.

    Every name must have every metric of the objective.
    """
    left, ranked = list(figures), []
    while left:
        best = _best(objective, {name: figures[name] for name in left})
        ranked.append(best)
        left.remove(best)
    return tuple(ranked)


def dominated(figures: Mapping[str, Mapping[Metric, float]], metrics: Sequence[Metric]) -> dict[str, str]:
    """Return who is at least as good in every metric and better in one, for each name that has such a rival."""
    found = {}
    for name, mine in figures.items():
        rivals = (rival for rival, its in figures.items() if _dominates(its, mine, metrics))
        if (rival := next(rivals, None)) is not None:
            found[name] = rival
    return found


def _dominates(a: Mapping[Metric, float], b: Mapping[Metric, float], metrics: Sequence[Metric]) -> bool:
    return all(a[m] <= b[m] for m in metrics) and any(a[m] < b[m] for m in metrics)


def _best(objective: Objective, figures: Mapping[str, Mapping[Metric, float]]) -> str:
    if objective.method is Method.WEIGHTED:
        scores = _scores(objective, figures)
        return min(figures, key=lambda name: scores[name])
    names = list(figures)
    for term in objective.terms:
        limit = min(figures[n][term.metric] for n in names) * (1 + term.tie)
        names = [n for n in names if figures[n][term.metric] <= limit]
    return names[0]


def _scores(objective: Objective, figures: Mapping[str, Mapping[Metric, float]]) -> dict[str, float]:
    floor = 1e-12
    best = {t.metric: max(min(f[t.metric] for f in figures.values()), floor) for t in objective.terms}
    return {
        name: sum(t.weight * math.log(max(f[t.metric], floor) / best[t.metric]) for t in objective.terms)
        for name, f in figures.items()
    }


def _term_text(term: Term) -> str:
    return f"{term.metric} within {term.tie * 100:g}%" if term.tie else term.metric.value


def _with_breakers(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    named = terms[0].metric
    if named is Metric.LATENCY and not terms[0].tie:
        return _BREAKERS
    return (*terms, *(t for t in _BREAKERS if t.metric is not named))


def _term(text: str, part: str) -> Term:
    match = _TERM.fullmatch(part)
    if match is None:
        raise _unreadable(text)
    return Term(metric=_metric(text, match[1]), tie=_number(text, match[2] or "0") / 100)


def _weighted(text: str, words: str) -> Objective:
    matches = [_WEIGHT.fullmatch(word) for word in words.split()]
    terms = tuple(Term(metric=_metric(text, m[1]), weight=_number(text, m[2])) for m in matches if m)
    if len(terms) != len(matches) or not any(t.weight > 0 for t in terms):
        raise _unreadable(text)
    return _checked(text, Method.WEIGHTED, terms)


def _checked(text: str, method: Method, terms: tuple[Term, ...]) -> Objective:
    try:
        return Objective(method=method, terms=terms)
    except MalformedError as error:
        raise _unreadable(text) from error


def _metric(text: str, name: str) -> Metric:
    try:
        return Metric(name)
    except ValueError as error:
        raise _unreadable(text) from error


def _number(text: str, digits: str) -> float:
    try:
        return float(digits)
    except ValueError as error:
        raise _unreadable(text) from error


def _unreadable(text: str) -> ConfigError:
    metrics = ", ".join(m.value for m in Metric)
    return ConfigError(
        f"objective {text!r}: expected 'minimise METRIC [within N%] [then METRIC ...]', "
        f"'maximise accuracy' or 'weighted METRIC=WEIGHT ...' with METRIC one of {metrics}, each once, "
        "and perhaps 'subject to FIGURE <= NUMBER UNIT and ...'",
        hint="For example: --objective 'minimise energy subject to accuracy >= 0.97 and p95 <= 20 ms'.",
    )
