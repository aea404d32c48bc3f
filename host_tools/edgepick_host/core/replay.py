"""Derives decisions again from the log: the same reports, releases and question must give the same bytes. Pure.

Reports that came later, came twice or came in another order are in the log too; a decision names those that it knew.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgepick_host.core.decision import (
    Decision,
    DecisionRecord,
    ExclusionCode,
    Judgement,
    parse_record,
    plain_decision,
    record_after,
    sentence,
)
from edgepick_host.core.objective import parse_objective
from edgepick_host.core.race import Question
from edgepick_host.core.records import Pruned, Release
from edgepick_host.core.select import select
from edgepick_host.errors import HostError
from edgepick_wire import codec
from edgepick_wire.enums import StrEnum
from edgepick_wire.limits import MAX_OWN_ITEMS
from edgepick_wire.messages import Report
from edgepick_wire.version import __version__

Log = Mapping[tuple[str, str], Report]
"""``(device, id)`` -> report."""


class Outcome(StrEnum):
    """What came of deriving a decision again."""

    SAME = "same"
    """To the last bit."""
    DIFFERENT = "different"
    """The log, the record or the program was changed since."""
    PRUNED = "pruned"
    """Reports that it depended on were deleted for their age; the chain of records shows that it is as it was."""
    UNKNOWN = "unknown"
    """Something that it depended on is not in the log any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A record, derived again.

    Attributes:
        record: Its id.
        rollout: The rollout that asked.
        decision: What it says, as a sentence.
        outcome: What came of it.
        detail: What differs, or what is missing.
    """

    record: str
    rollout: str
    decision: str
    outcome: Outcome
    detail: str = ""


class EvidenceGoneError(LookupError):
    """Reports that a decision rests on are not in the log."""


def replay(
    documents: Iterable[bytes],
    releases: Iterable[Release],
    log: Iterable[Report],
    pruned: Mapping[str, Pruned] | None = None,
) -> tuple[Replayed, ...]:
    """Return every record, derived again from the log and compared byte for byte.

    ``pruned`` says of which models reports were deleted for their age.
    """
    known = {r.manifest: r for r in releases}
    reports = {(r.device, r.id): r for r in log}
    return tuple(_replayed(document, known, reports, pruned or {}) for document in documents)


def _replayed(document: bytes, releases: Mapping[str, Release], reports: Log, pruned: Mapping[str, Pruned]) -> Replayed:
    record = parse_record(document)
    outcome, detail = Outcome.SAME, ""
    try:
        derived = _derived(record.decision, releases, reports)
    except (LookupError, HostError) as error:
        outcome, detail = _underivable(error, pruned.get(record.decision.model))
    else:
        derived = dataclasses.replace(derived, code_version=record.decision.code_version)
        if _bytes(record, derived) != document:
            outcome, detail = Outcome.DIFFERENT, _differences(record.decision, derived)
    return Replayed(
        record=record.id, rollout=record.rollout, decision=sentence(record.decision), outcome=outcome, detail=detail
    )


def _underivable(error: LookupError | HostError, pruned: Pruned | None) -> tuple[Outcome, str]:
    detail = str(error.args[0])
    if pruned is None or not isinstance(error, EvidenceGoneError):
        return Outcome.UNKNOWN, detail
    return Outcome.PRUNED, f"{detail}; {pruned.text}"


def _bytes(record: DecisionRecord, derived: Decision) -> bytes:
    return record_after(record.previous, derived, rollout=record.rollout, decided_at=record.decided_at)


def _differences(recorded: Decision, derived: Decision) -> str:
    """Return the fields that differ, as a record carries them."""
    carried = codec.decode_document(Decision, codec.encode_document(derived), max_items=MAX_OWN_ITEMS)
    names = [f.name for f in dataclasses.fields(Decision) if getattr(recorded, f.name) != getattr(carried, f.name)]
    return f"differs in {', '.join(names) or 'the record itself'}{_version(recorded)}"


def _version(decision: Decision) -> str:
    if decision.code_version == __version__:
        return ""
    return f"; it was made by edgepick {decision.code_version}, this is {__version__}"


def _derived(decision: Decision, releases: Mapping[str, Release], reports: Log) -> Decision:
    question = decision.question
    if question is None:
        return _plain(decision)
    return select(
        stratum=decision.stratum,
        candidates=[_release(manifest, releases) for manifest in question.candidates],
        reports=_evidence(question, reports),
        budgets=question.budgets,
        objective=parse_objective(decision.objective),
        incumbent=_release(decision.incumbent, releases) if decision.incumbent else None,
        previous=_release(question.previous, releases) if question.previous else None,
        policy=decision.policy,
        family=question.family,
        rates={manifest: Fraction(rate) for manifest, rate in question.rates.items()},
    )


def _release(manifest: str, releases: Mapping[str, Release]) -> Release:
    if manifest not in releases:
        raise LookupError(f"the release {manifest[:12]} is not in the store")
    return releases[manifest]


def _evidence(question: Question, reports: Log) -> Sequence[Report]:
    names = [(device, name) for device, ids in question.reports.items() for name in ids]
    gone = [name for name in names if name not in reports]
    if gone:
        raise EvidenceGoneError(f"{len(gone)} of {len(names)} reports are not in the log, such as {'/'.join(gone[0])}")
    return [reports[name] for name in names]


def _plain(decision: Decision) -> Decision:
    """Return a decision without comparison, made again from what it says itself."""
    if decision.objective != "none":
        raise LookupError("an older edgepick did not keep what it asked")
    named: dict[str, str | None] = {}
    harmful = next((c for c in decision.candidates if c.excluded is ExclusionCode.HARM), None)
    if harmful is not None:
        named = {"harmful": harmful.manifest, "harmful_label": harmful.label, "winner_label": decision.winner_label}
    elif decision.verdict is Judgement.PROMOTE:
        names = ("winner", "winner_label", "incumbent", "incumbent_label")
        named = {name: getattr(decision, name) for name in names}
    return plain_decision(
        model=decision.model,
        stratum=decision.stratum,
        verdict=decision.verdict,
        reasons=decision.reasons,
        policy=decision.policy,
        **named,
    )
