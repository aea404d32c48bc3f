"""What a candidate is measured against before it is evaluated: nothing that could have been best is lost by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.bounds import Contender, is_hopeless, to_beat, work_of
from edgepick_host.core.pareto import pareto_front
from edgepick_host.core.recipe_names import parse
from edgepick_wire.manifest import ModelFormat

LEAST_LOSS = -0.02
LIMIT = 0.03

candidates = st.lists(
    st.builds(
        Contender,
        name=st.uuids().map(str),
        work=st.sampled_from(["a", "b"]),
        size_bytes=st.integers(1, 4),
        zipped_bytes=st.integers(1, 4),
        loss=st.integers(-2, 4).map(lambda points: points / 100),
    ),
    max_size=12,
    unique_by=lambda each: each.name,
)


def front(found: list[Contender]) -> set[tuple]:
    """Return the front of each kind of work, as figures."""
    points = {}
    for work in {each.work for each in found}:
        mine = [(each.loss, each.size_bytes, each.zipped_bytes) for each in found if each.work == work]
        points[work] = {mine[index] for index in pareto_front(mine)}
    return {(work, point) for work, its in points.items() for point in its}


def searched(table: list[Contender]) -> tuple[list[Contender], int]:
    """Return what a search keeps that stops by the bounds, and how many it did not even begin to evaluate."""
    kept: list[Contender] = []
    spared = 0
    for candidate in table:
        rival = to_beat(candidate, kept)
        if rival is not None and is_hopeless(candidate, rival, LEAST_LOSS):
            spared += 1
        elif candidate.loss <= min(LIMIT, LIMIT if rival is None else rival.loss):
            kept.append(candidate)
    return kept, spared


@given(table=candidates)
def test_the_front_is_that_of_evaluating_everything(table):
    """In any order of trying, with any sizes and losses, every figure of the exhaustive front is found."""
    kept, _ = searched(table)

    assert front(kept) == front([each for each in table if each.loss <= LIMIT])


def test_what_cannot_win_is_not_even_evaluated():
    """A larger model of the same work as a perfect one is spared; a smaller one is not, nor one of other work."""
    perfect = Contender(name="p", work="a", size_bytes=2, zipped_bytes=2, loss=LEAST_LOSS)
    larger = Contender(name="l", work="a", size_bytes=3, zipped_bytes=2, loss=LEAST_LOSS)
    smaller = Contender(name="s", work="a", size_bytes=3, zipped_bytes=1, loss=LEAST_LOSS)
    other = Contender(name="o", work="b", size_bytes=3, zipped_bytes=3, loss=LEAST_LOSS)

    assert searched([perfect, larger]) == ([perfect], 1)
    assert searched([perfect, smaller, other]) == ([perfect, smaller, other], 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("static_wi8_ai8", "prune20.static_wi8_ai8.mse.bias", True),
        ("static_wi8_ai8", "eq.cluster32.static_wi8_ai8", True),
        ("static_wi8_ai8", "prune2of4.static_wi8_ai8", False),
        ("static_wi8_ai8", "low_rank95.static_wi8_ai8", False),
        ("static_wi8_ai8", "static_wi8_ai8_float_io", False),
        ("static_wi8_ai8", "channels50.static_wi8_ai8", False),
        ("static_wi8_ai8", "sparse80.static_wi8_ai8", False),
    ],
)
def test_work_is_the_same_where_only_numbers_differ(one, other, same):
    """Zeroed and shared weights leave the operators as they are; other ranks, types and trained networks do not."""
    first, second = (parse(name, ModelFormat.TFLITE) for name in (one, other))

    assert (work_of(first) == work_of(second)) is same
