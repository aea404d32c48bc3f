"""What a replay promises: the same bytes from the same log, whatever else is in it; and that any change shows."""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.core.decision import FIRST, Judgement, first_break, parse_record, plain_decision, record
from edgepick_host.core.gates import Policy
from edgepick_host.core.objective import DEFAULT_OBJECTIVE, parse_objective
from edgepick_host.core.replay import Outcome, replay
from edgepick_host.core.select import select
from edgepick_host.core.strata import Stratum
from edgepick_profiles.schema import Budgets
from edgepick_wire import codec
from edgepick_wire.limits import MAX_ITEMS
from edgepick_wire.messages import Report
from fleet.synthetic import measured, measurement, release

OLD, NEW = release("old"), release("new", size=90_000)
PI = Stratum(profile="pi", runs_on=("litert/xnnpack",), stand_in=True, devices=tuple(f"d{n}" for n in range(9)))


def reports(rng, number=1):
    return [
        measured(d, r, measurement(rng.uniform(1, 30), p95_ms=rng.choice([None, 12.0, 40.0])), number=number)
        for r in (OLD, NEW)
        for d in PI.devices
        if rng.random() < 0.9
    ]


def decided(known, *, incumbent=OLD, objective=DEFAULT_OBJECTIVE, **options):
    decision = select(
        stratum=PI,
        candidates=(OLD, NEW),
        reports=known,
        budgets=Budgets(latency_p95_ms=20, model_bytes=200_000),
        objective=objective,
        incumbent=incumbent,
        policy=Policy(max_regression=1, min_gain=0),
        **options,
    )
    return record(decision, rollout="r", decided_at=1.0, previous=None)


def again(documents, log, releases=(OLD, NEW)):
    return [r.outcome for r in replay(documents, releases, log)]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    copies=st.integers(1, 3),
    text=st.sampled_from(["minimise latency", "minimise size", "weighted latency=1 size=2 subject to p95 <= 20 ms"]),
    incumbent=st.sampled_from([None, OLD, NEW]),
)
def test_a_decision_comes_out_the_same_whatever_else_is_in_the_log(seed, copies, text, incumbent):
    """Reports repeated, shuffled, sent through the wire, and joined by later ones give the decision bit for bit."""
    rng = random.Random(seed)
    known = reports(rng)
    document = decided(known, incumbent=incumbent, objective=parse_objective(text), family=rng.choice([0, 16]))
    log = [codec.decode(Report, codec.encode(r)) for r in [*known * copies, *reports(rng, number=2)]]
    rng.shuffle(log)

    assert again([document], log) == [Outcome.SAME]


def test_late_data_cannot_flip_a_decision():
    """A later report that would have changed the verdict changes no record, and a decision made now is another one."""
    known = [measured(d, r, measurement(10.0 if r is OLD else 5.0)) for r in (OLD, NEW) for d in PI.devices]
    late = [measured(d, NEW, measurement(50.0), number=2) for d in PI.devices]
    document = decided(known)

    assert parse_record(document).decision.verdict is Judgement.PROMOTE
    assert again([document], [*known, *late]) == [Outcome.SAME]
    assert parse_record(decided([*known, *late])).decision.verdict is Judgement.INCONCLUSIVE


def test_a_changed_report_shows():
    """One latency altered in the log, or one release, makes the replay differ and say in what."""
    known = [measured(d, r, measurement(10.0 if r is OLD else 5.0)) for r in (OLD, NEW) for d in PI.devices]
    altered = [measured("d0", OLD, measurement(10.5)), *known[1:]]
    document = decided(known)

    (found,) = replay([document], (OLD, NEW), altered)

    assert found.outcome is Outcome.DIFFERENT
    assert "inputs" in found.detail
    assert again([document], known, (OLD, dataclasses.replace(NEW, size_bytes=1))) == [Outcome.DIFFERENT]


def test_what_is_gone_is_unknown_and_never_the_same():
    """Without one of its reports or releases a decision cannot be derived, and the replay says what is missing."""
    known = [measured(d, r, measurement()) for r in (OLD, NEW) for d in PI.devices]
    document = decided(known)

    (found,) = replay([document], (OLD, NEW), known[1:])

    assert found.outcome is Outcome.UNKNOWN
    assert "1 of 18 reports" in found.detail
    assert again([document], known, (OLD,)) == [Outcome.UNKNOWN]


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"winner": "a" * 64, "winner_label": "1 a", "incumbent": None, "incumbent_label": None},
        {"harmful": "a" * 64, "harmful_label": "1 a", "winner_label": "what ran before"},
    ],
)
def test_decisions_without_comparison_are_derived_from_what_they_say(named):
    """An operator's choice, harm and want of data come out the same; with another reason they do not."""
    verdict = Judgement.PROMOTE if "winner" in named else Judgement.ROLLBACK
    decision = plain_decision(model="digits", stratum=PI, verdict=verdict, reasons=("so",), policy=Policy(), **named)
    forged = dataclasses.replace(decision, reasons=("otherwise",))

    documents = [record(d, rollout="r", decided_at=1.0, previous=None) for d in (decision, forged)]

    assert again(documents, []) == [Outcome.SAME, Outcome.DIFFERENT]


@settings(max_examples=30)
@given(st.integers(2, 5), st.data())
def test_removing_or_altering_any_record_breaks_the_chain(count, data):
    """Records are appended only: one taken out, exchanged or altered anywhere but at the end is found."""
    documents = []
    for number in range(count):
        bare = plain_decision(
            model="digits", stratum=PI, verdict=Judgement.INCONCLUSIVE, reasons=(f"{number}",), policy=Policy()
        )
        documents.append(record(bare, rollout="r", decided_at=1.0, previous=documents[-1] if documents else None))
    place = data.draw(st.integers(0, count - 2))

    assert first_break(documents) is None
    assert parse_record(documents[0]).previous == FIRST
    assert first_break([*documents[:place], *documents[place + 1 :]]) is not None
    assert (
        first_break([*documents[:place], documents[place].replace(b'"r"', b'"s"'), *documents[place + 1 :]]) is not None
    )


def test_a_record_of_many_reports_can_be_read_again():
    """With more reports than a list on the wire may hold, the record is still read, and still comes out the same."""
    many = dataclasses.replace(PI, devices=tuple(f"d{n:04}" for n in range(2100)))
    known = [measured(d, r, measurement(10.0 if r is OLD else 8.0)) for d in many.devices for r in (OLD, NEW)]
    decision = select(
        stratum=many,
        candidates=(OLD, NEW),
        reports=known,
        budgets=Budgets(),
        objective=DEFAULT_OBJECTIVE,
        incumbent=OLD,
        policy=Policy(),
    )

    assert len(known) > MAX_ITEMS
    assert again([record(decision, rollout="r", decided_at=1.0, previous=None)], known) == [Outcome.SAME]
