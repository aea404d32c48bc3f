"""When answers that are none make a served variant a failed one.

An answer is bad if an output holds NaN or infinity, does not have the shape that the model declares,
or does not come because the runtime fails, as it does when an accelerator is pulled out. One of them
says something about its request. So many in a row, with not one good answer between them, say
something about the variant; and whoever is asked then loses nothing when it is started anew.
"""

from dataclasses import dataclass, replace

MOST_BAD_ANSWERS = 5
"""Bad answers in a row that make a failure. Where every tenth request leads to NaN that happens once in 100,000
requests, where every second one does within the first hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a runner's answers have been like.

    Attributes:
        bad_in_a_row: Up to now.
        any_good: There has been a good one.
        failure: What was wrong once there had been too many in a row; it stays.
    """

    bad_in_a_row: int = 0
    any_good: bool = False
    failure: str | None = None


SOUND = Answers(any_good=True)


def after_good(before: Answers) -> Answers:
    """Return what is known after a good answer."""
    return SOUND if before.failure is None else replace(before, bad_in_a_row=0, any_good=True)


def after_bad(before: Answers, problem: str) -> Answers:
    """Return what is known after an answer with a ``problem``."""
    bad = before.bad_in_a_row + 1
    failure = before.failure
    if failure is None and bad >= MOST_BAD_ANSWERS:
        failure = f"{bad} answers in a row were bad: {problem}"
    return replace(before, bad_in_a_row=bad, failure=failure)
