"""The non-dominated points of a set, for any number of objectives. Pure."""

from collections.abc import Sequence

Point = Sequence[float]
"""One candidate's objectives; smaller is better in each (negate what should be large)."""


def dominates(a: Point, b: Point) -> bool:
    """Return whether ``a`` is at least as good as ``b`` everywhere and better somewhere."""
    pairs = list(zip(a, b, strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def pareto_front(points: Sequence[Point]) -> tuple[int, ...]:
    """Return the indices of the points that no other point dominates, ascending; equal points stay together.

    Points are visited in lexicographic order, in which nothing can dominate what comes before it, so each needs
    comparing with the front so far only (Kung, Luccio, Preparata 1975, the simple form).
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: tuple(points[i])):
        if not any(dominates(points[kept], points[index]) for kept in front):
            front.append(index)
    return tuple(sorted(front))
