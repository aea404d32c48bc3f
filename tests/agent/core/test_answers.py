"""Which rows of answers make a variant a failed one."""

from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.core.answers import MOST_BAD_ANSWERS, SOUND, Answers, after_bad, after_good


def after(kinds: list[bool]) -> Answers:
    """Return what is known after answers of these kinds, good or bad."""
    found = Answers()
    for number, good in enumerate(kinds):
        found = after_good(found) if good else after_bad(found, f"problem {number}")
    return found


@given(st.lists(st.booleans(), max_size=40))
def test_too_many_bad_answers_in_a_row_are_a_failure_and_nothing_else_is(kinds):
    """It has failed if and only if as many bad answers came without a good one between them, whatever came later."""
    written = "".join("+" if good else "-" for good in kinds)

    assert (after(kinds).failure is not None) == ("-" * MOST_BAD_ANSWERS in written)


@given(st.lists(st.booleans(), max_size=40))
def test_the_first_failure_is_what_is_told(kinds):
    """The sentence counts the row, and names the problem of its last answer; later ones do not replace it."""
    written = "".join("+" if good else "-" for good in kinds)
    at = written.find("-" * MOST_BAD_ANSWERS)

    failure = after(kinds).failure

    expected = f"{MOST_BAD_ANSWERS} answers in a row were bad: problem {at + MOST_BAD_ANSWERS - 1}"
    assert failure == (expected if at >= 0 else None)


@given(st.lists(st.booleans(), max_size=40))
def test_a_good_answer_is_remembered(kinds):
    """Whether a client has ever had a good answer is known, however many bad ones followed."""
    assert after(kinds).any_good == any(kinds)


def test_good_answers_cost_nothing():
    """After one good answer the next one changes nothing, and makes no object."""
    assert after_good(SOUND) is SOUND
