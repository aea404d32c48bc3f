"""The decision record: what was decided, on which figures, by which rule, and why; chained by digests.

A record holds everything that a person needs to contest it. Each names the digest of the one
before it, so a record that was changed or removed later shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepick_host.core.gates import Gate, Policy
from edgepick_host.core.objective import Metric
from edgepick_host.core.proof import Proof
from edgepick_host.core.race import Question
from edgepick_host.core.strata import Stratum
from edgepick_wire import codec
from edgepick_wire.enums import StrEnum
from edgepick_wire.ids import digest_of
from edgepick_wire.limits import MAX_OWN_ITEMS
from edgepick_wire.version import __version__

DECISION_SCHEMA = 1
FIRST = "0" * 64
"""What the first record names as the one before it."""


class Judgement(StrEnum):
    """The three verdicts."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    INCONCLUSIVE = "inconclusive"
    """Keep what runs."""


class ExclusionCode(StrEnum):
    """Why a candidate did not win."""

    GATE = "gate"
    """A hard limit is broken."""
    MISSING = "missing"
    """Something that must be known is not."""
    DOMINATED = "dominated"
    """Another is at least as good in everything."""
    RANKED_LOWER = "ranked-lower"
    """The objective prefers another."""
    NO_GAIN = "no-gain"
    """Not enough better than what runs."""
    HARM = "harm"
    """It failed on devices during its rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A metric of a variant: the median over ``devices`` devices."""

    metric: Metric
    value: float
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateResult:
    """How one variant fared.

    Attributes:
        manifest: Its digest.
        label: Version and variant, for people.
        gates: Every gate, judged.
        figures: Over the devices that measured all variants still in the race, where it got so far.
        excluded: Why it did not win; ``None`` for the winner.
        reason: The same as a sentence.
    """

    manifest: str
    label: str
    gates: tuple[Gate, ...] = ()
    figures: tuple[Figure, ...] = ()
    excluded: ExclusionCode | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A candidate against the incumbent: median over devices of the ratio of their own two figures.

    ``ratio`` 0.8 means 20 % less; ``devices`` measured both.
    """

    candidate: str
    metric: Metric
    ratio: float
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a selection says; equal inputs give an equal decision.

    Attributes:
        model: Name of the model.
        stratum: For which devices.
        verdict: Promote, rollback or inconclusive.
        winner: Manifest digest to run; ``None`` keeps what runs.
        winner_label: The same for people.
        reasons: Sentences for a person, the most important first.
        incumbent: Manifest digest of what runs there, if anything.
        incumbent_label: The same for people.
        keeps_best: Nothing changes because what runs is what would be chosen.
        candidates: Each with its gates and figures, best first.
        effects: Against the incumbent.
        proofs: What is shown about each challenger that got so far, and at which error rate.
        objective: As text.
        policy: As used.
        inputs: Digest of everything that the decision depends on.
        code_version: Version of the program that decided.
        question: What was asked of which reports, so that it can be derived again; ``None`` for decisions that were
            not made by comparing figures, and in records of older versions.
    """

    schema: int = DECISION_SCHEMA
    model: str
    stratum: Stratum
    verdict: Judgement
    winner: str | None
    winner_label: str | None
    reasons: tuple[str, ...]
    incumbent: str | None
    incumbent_label: str | None
    keeps_best: bool = False
    candidates: tuple[CandidateResult, ...]
    effects: tuple[Effect, ...]
    objective: str
    policy: Policy
    inputs: str
    code_version: str
    proofs: tuple[Proof, ...] = ()
    question: Question | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision as it is kept: when, for which rollout, after which record.

    Attributes:
        id: First 16 digits of the digest of the record without its id.
        rollout: The rollout that asked.
        decided_at: Seconds since the epoch, for people only.
        previous: Digest of the record before this one; :data:`FIRST` for none.
        decision: The decision.
    """

    id: str
    rollout: str
    decided_at: float
    previous: str
    decision: Decision


def plain_decision(
    *, model: str, stratum: Stratum, verdict: Judgement, reasons: Sequence[str], policy: Policy, **named: str | None
) -> Decision:
    """Return a decision that was not made by comparing figures: by an operator, by harm, for want of data.

    Args:
        model: Name of the model.
        stratum: For which devices.
        verdict: What follows.
        reasons: Why.
        policy: As given.
        named: ``winner``, ``winner_label``, ``incumbent``, ``incumbent_label``, ``harmful``,
            ``harmful_label``: a variant that failed on devices is listed as excluded.
    """
    harmful = named.get("harmful")
    reason = reasons[0] if reasons else ""
    excluded = CandidateResult(
        manifest=harmful or "", label=named.get("harmful_label") or "", excluded=ExclusionCode.HARM, reason=reason
    )
    facts = f"{model}\0{stratum}\0{verdict}\0{sorted(named.items())}\0{tuple(reasons)}"
    return Decision(
        model=model,
        stratum=stratum,
        verdict=verdict,
        winner=named.get("winner"),
        winner_label=named.get("winner_label"),
        reasons=tuple(reasons),
        incumbent=named.get("incumbent"),
        incumbent_label=named.get("incumbent_label"),
        candidates=(excluded,) if harmful else (),
        effects=(),
        objective="none",
        policy=policy,
        inputs=digest_of(facts.encode()),
        code_version=__version__,
    )


def record(decision: Decision, *, rollout: str, decided_at: float, previous: bytes | None) -> bytes:
    """Return the record's bytes, chained to the bytes of the record before it."""
    before = FIRST if previous is None else digest_of(previous)
    return record_after(before, decision, rollout=rollout, decided_at=decided_at)


def record_after(before: str, decision: Decision, *, rollout: str, decided_at: float) -> bytes:
    """Return the record's bytes, chained to the record of digest ``before``."""
    bare = DecisionRecord(id="", rollout=rollout, decided_at=decided_at, previous=before, decision=decision)
    return codec.encode_document(replace(bare, id=digest_of(codec.encode_document(bare))[:16]))


def parse_record(document: bytes) -> DecisionRecord:
    """Return the record in ``document``.

    Raises:
        WireError: Not a decision record.
    """
    return codec.decode_document(DecisionRecord, document, max_items=MAX_OWN_ITEMS)


def first_break(documents: Sequence[bytes]) -> int | None:
    """Return the position of the first record that does not name the one before it; ``None`` if all do."""
    before = FIRST
    for position, document in enumerate(documents):
        if parse_record(document).previous != before:
            return position
        before = digest_of(document)
    return None


def sentence(decision: Decision) -> str:
    """Return the decision as one sentence."""
    what = {
        Judgement.PROMOTE: f"run {decision.winner_label}",
        Judgement.ROLLBACK: f"go back to {decision.winner_label or 'what ran before'}",
        Judgement.INCONCLUSIVE: f"keep {decision.incumbent_label or 'things as they are'}",
    }[decision.verdict]
    why = f": {decision.reasons[0]}" if decision.reasons else ""
    return f"{decision.stratum.label}: {decision.verdict}, {what}{why}"
