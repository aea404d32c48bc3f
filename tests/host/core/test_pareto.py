"""The Pareto filter against brute force."""

from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.pareto import dominates, pareto_front

values = st.integers(min_value=0, max_value=4).map(float)
points = st.integers(min_value=1, max_value=4).flatmap(
    lambda width: st.lists(st.tuples(*[values] * width), max_size=25)
)


def brute_force(candidates: list[tuple[float, ...]]) -> tuple[int, ...]:
    def beaten(i: int) -> bool:
        return any(
            all(a <= b for a, b in zip(other, candidates[i], strict=True)) and other != candidates[i]
            for other in candidates
        )

    return tuple(i for i in range(len(candidates)) if not beaten(i))


@given(points)
def test_front_is_what_brute_force_finds(candidates):
    """The front is exactly the set of points that no other point dominates, ties included."""
    assert pareto_front(candidates) == brute_force(candidates)


@given(points.filter(bool))
def test_every_point_left_out_is_dominated_by_one_on_the_front(candidates):
    """Whatever is not on the front is worse than something that is: nothing good is lost."""
    front = pareto_front(candidates)

    for i in set(range(len(candidates))) - set(front):
        assert any(dominates(candidates[kept], candidates[i]) for kept in front)


def test_equal_points_stay_together():
    """Two variants with the same figures are both kept, as neither is better."""
    assert pareto_front([(1.0, 2.0), (1.0, 2.0), (2.0, 1.0), (2.0, 2.0)]) == (0, 1, 2)


def test_nothing_has_no_front():
    """A profile without variants has an empty front."""
    assert pareto_front([]) == ()
