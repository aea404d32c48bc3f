"""Choosing few samples that stand for many: the less calibration and training data, the more each sample matters.

Three ways, all on features (what the float model computes just before its last layer):

- *stratified*: as many of each class as there are in all, drawn at random;
- *k_means*: the sample nearest to each centre of Lloyd's algorithm, started by k-means++ (Arthur and Vassilvitskii,
  2007): typical ones;
- *k_center*: the sample farthest from those chosen, again and again (Gonzalez, 1985): no sample is more than twice as
  far from a chosen one as with the best choice. It keeps the outliers that set ranges.

Pure numpy; the same features, seed and count give the same indices.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.features import features_of
from edgepick_host.compress.source import SourceModel
from edgepick_host.errors import CompressionError
from edgepick_wire.enums import StrEnum

LLOYD_ROUNDS = 50

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]


class CoresetMethod(StrEnum):
    """How samples are chosen."""

    K_CENTER = "k_center"
    K_MEANS = "k_means"
    STRATIFIED = "stratified"


def calibration_coreset(
    dataset: Dataset, source: SourceModel, count: int, method: CoresetMethod = CoresetMethod.K_MEANS, seed: int = 0
) -> Dataset:
    """Return ``count`` samples of a dataset, in its order; all of them if there are no more.

    Raises:
        CompressionError: ``count`` is not positive, or the float model does not run.
    """
    if count < 1:
        raise CompressionError(f"a coreset of {count} samples: at least one is needed")
    if count >= len(dataset):
        return dataset
    features = features_of(source, dataset)
    return dataset.subset(choose(features.values, features.groups, count, method, seed))


def choose(
    features: npt.NDArray[np.float32], groups: Groups, count: int, method: CoresetMethod, seed: int
) -> list[int]:
    """Return the indices of the chosen samples, ascending, each once.

    Args:
        features: ``[N, F]``.
        groups: The class of each sample, ``[N]``; looked at by the stratified choice only.
        count: How many, from 1 to N.
        method: How.
        seed: Of what is drawn at random.
    """
    points = _whitened(features.astype(np.float64))
    return sorted(_METHODS[method](points, groups, count, np.random.default_rng(seed)))


def _whitened(points: Floats) -> Floats:
    """Return features of the same spread each: a distance should not hang on the loudest of them."""
    spread = points.std(axis=0)
    found: Floats = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return found


def _stratified(_points: Floats, groups: Groups, count: int, rng: np.random.Generator) -> list[int]:
    shuffled = rng.permutation(len(groups))
    by_group = [shuffled[groups[shuffled] == group] for group in np.unique(groups)]
    shares = _shares([len(members) for members in by_group], count)
    return [int(i) for members, share in zip(by_group, shares, strict=True) for i in members[:share]]


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """Return how many of each group, in proportion to its size; what is left goes to the largest remainders."""
    ideal = np.array(sizes, dtype=np.float64) * count / sum(sizes)
    shares = np.floor(ideal).astype(int)
    for group in np.argsort(shares - ideal, kind="stable")[: count - int(shares.sum())]:
        shares[group] += 1
    return [int(share) for share in shares]


def _k_center(points: Floats, _groups: Groups, count: int, _rng: np.random.Generator) -> list[int]:
    # The first one is the sample nearest to the middle, so that nothing is drawn at random.
    chosen = [int(np.argmin(np.square(points).sum(axis=1)))]
    nearest = _distances(points, chosen[0])
    while len(chosen) < count:
        nearest[chosen] = -1.0
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, _distances(points, chosen[-1]))
    return chosen


def _distances(points: Floats, index: int) -> Floats:
    found: Floats = np.square(points - points[index]).sum(axis=1)
    return found


def _k_means(points: Floats, _groups: Groups, count: int, rng: np.random.Generator) -> list[int]:
    centres = _spread_out(points, count, rng)
    for _ in range(LLOYD_ROUNDS):
        owner = np.argmin(_all_distances(points, centres), axis=1)
        moved = np.stack([points[owner == k].mean(axis=0) if (owner == k).any() else centres[k] for k in range(count)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    distances = _all_distances(points, centres)
    chosen: list[int] = []
    for k in range(count):
        distances[chosen] = np.inf  # each sample once, also where two centres share their nearest one
        chosen.append(int(np.argmin(distances[:, k])))
    return chosen


def _spread_out(points: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Return starting centres, each drawn with the square of its distance from those before."""
    chosen = [int(rng.integers(len(points)))]
    nearest = _distances(points, chosen[0])
    while len(chosen) < count:
        total = float(nearest.sum())
        weights = nearest / total if total > 0 else None
        chosen.append(int(rng.choice(len(points), p=weights)))
        nearest = np.minimum(nearest, _distances(points, chosen[-1]))
    return points[chosen].copy()


def _all_distances(points: Floats, centres: Floats) -> Floats:
    squares = np.square(points).sum(axis=1)[:, None] + np.square(centres).sum(axis=1)[None]
    found: Floats = squares - 2 * points @ centres.T
    return found


_METHODS: dict[CoresetMethod, Callable[[Floats, Groups, int, np.random.Generator], list[int]]] = {
    CoresetMethod.K_CENTER: _k_center,
    CoresetMethod.K_MEANS: _k_means,
    CoresetMethod.STRATIFIED: _stratified,
}
