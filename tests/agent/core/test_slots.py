"""Two slots per model, through any sequence of what may happen to them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.core import slots
from edgepick_agent.core.recovery import state_from_store
from edgepick_agent.core.state import (
    VERDICTS_KEPT,
    AgentState,
    ModelRecord,
    Origin,
    Slot,
    Verdict,
    decode_state,
    encode_state,
    with_attempt,
    with_measured,
    with_model,
)
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import Outcome, Refusal, RefusalCode
from fakes.host_stand_in import bundle

NO = Refusal(code=RefusalCode.TRIAL_FAILED, detail="no", hint="")


def slot(number: int) -> Slot:
    return Slot(manifest=digest_of(bytes([number])), label=str(number), security_epoch=1)


def verdict(number: int, rollout: str | None = None) -> Verdict:
    manifest = digest_of(number.to_bytes(4, "big"))
    return Verdict(manifest=manifest, rollout=rollout, sequence=1, outcome=Outcome.REVERTED, refusal=NO)


STEPS = st.lists(
    st.tuples(st.sampled_from(["activate", "confirm", "fall_back", "roll_back", "drop"]), st.integers(0, 3)),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_to_a_record_it_stays_valid_and_survives_its_file(steps):
    """No sequence of steps makes an active slot empty or the two slots equal, and encoding loses nothing."""
    record = ModelRecord()

    for kind, number in steps:
        before = record
        record = take(record, kind, number)

        assert (record.active is None) == (record.current is None)
        if kind == "activate" and before.current is not None and before.current != slot(number):
            assert record.previous == before.current
        state = with_model(AgentState(), "digits", record)
        assert decode_state(encode_state(state)) == state


def take(record: ModelRecord, kind: str, number: int) -> ModelRecord:
    if kind == "activate":
        return record if record.current == slot(number) else slots.activate(record, slot(number), Origin())
    if kind == "drop":
        return slots.drop(record, slot(number).manifest)
    return {"confirm": slots.confirm, "fall_back": slots.fall_back, "roll_back": slots.roll_back}[kind](record)


def test_falling_back_and_forth_leads_to_the_variant_before():
    """After activating a second variant, falling back makes the first active and forgets the second."""
    record = slots.activate(ModelRecord(), slot(1), Origin())
    record = slots.activate(slots.confirm(record), slot(2), Origin(rollout="r"))

    back = slots.fall_back(record)

    assert back.current == slot(1)
    assert back.confirmed
    assert back.previous is None


def test_activating_a_variant_clears_its_verdict_within_the_rollout_only():
    """A variant that is activated after all is no longer refused in that rollout; other verdicts stay."""
    manifest = slot(1).manifest
    other = Verdict(manifest=manifest, rollout="other", sequence=1, outcome=Outcome.REFUSED, refusal=NO)
    same = Verdict(manifest=manifest, rollout="r", sequence=1, outcome=Outcome.REFUSED, refusal=NO)
    record = slots.note(slots.note(ModelRecord(), other), same)

    record = slots.activate(record, slot(1), Origin(rollout="r"))

    assert record.verdicts == (other,)


def test_verdicts_are_bounded_and_the_latest_stay():
    """A long-lived device keeps the latest verdicts only."""
    record = ModelRecord()

    for number in range(100):
        record = slots.note(record, verdict(number))

    assert record.verdicts == tuple(verdict(n) for n in range(100 - VERDICTS_KEPT, 100))


def test_measured_requests_are_bounded_and_not_doubled():
    """The list of finished measure requests neither grows for ever nor holds one twice."""
    state = AgentState()

    for number in range(2000):
        state = with_measured(with_measured(state, f"m{number}"), f"m{number}")

    assert len(state.measured) == len(set(state.measured)) == 512
    assert state.measured[-1] == "m1999"


def test_attempts_are_counted_per_subject():
    """Each begun run is counted under its own name."""
    state = with_attempt(with_attempt(with_attempt(AgentState(), "a"), "a"), "b")

    assert state.attempts == {"a": 2, "b": 1}


@pytest.mark.parametrize("data", [b"", b"{", b'{"schema":2}', b'{"schema":1,"models":{"digits":{"active":"a"}}}'])
def test_a_state_file_that_is_not_understood_is_an_error_and_never_a_guess(data):
    """Damaged, foreign and newer state files are refused."""
    with pytest.raises(MalformedError):
        decode_state(data)


def test_a_lost_state_is_rebuilt_from_whole_bundles():
    """Without a state file the bundle with the highest epoch is active, unconfirmed, the next one previous."""
    old, new = bundle("1"), bundle("2", security_epoch=3)
    other = bundle("9", model="faces")

    state = state_from_store({b.digest: b.content for b in (old, new, other)})

    record = state.models["digits"]
    assert record.current is not None
    assert record.previous is not None
    assert (record.current.manifest, record.previous.manifest) == (new.digest, old.digest)
    assert not record.confirmed
    assert state.models["faces"].current is not None
