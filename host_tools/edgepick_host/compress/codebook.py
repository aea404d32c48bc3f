"""Weight clustering: a layer's weights share a few values, so that the file compresses well. Pure numpy.

Nothing becomes smaller until the file is compressed (on the wire, in flash with a decompressor), and nothing becomes
faster: the search judges these variants by their compressed size.
"""

import numpy as np
import numpy.typing as npt

from edgepick_host.errors import CompressionError

FloatArray = npt.NDArray[np.float32]

MAX_ROUNDS = 100
MIN_CLUSTERS, MAX_CLUSTERS = 2, 256


def clustered(weights: FloatArray, clusters: int) -> FloatArray:
    """Return a copy of ``weights`` with at most ``clusters`` different values besides 0.

    Lloyd's algorithm in one dimension, started at the quantiles, so that the same weights give the same values
    everywhere. Weights that are 0 stay 0: what was pruned stays pruned.
    """
    flat = weights.astype(np.float64).reshape(-1)
    kept = np.sort(flat[flat != 0])
    if len(np.unique(kept)) <= clusters:
        return weights.astype(np.float32, copy=True)
    centres = _centres(kept, clusters)
    shared = centres[np.searchsorted(_borders(centres), flat)]
    return np.where(flat == 0, 0.0, shared).astype(np.float32).reshape(weights.shape)


def _centres(ordered: npt.NDArray[np.float64], clusters: int) -> npt.NDArray[np.float64]:
    """Return the centres, ascending; of ascending values, every cluster is a stretch."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.unique(np.quantile(ordered, (np.arange(clusters) + 0.5) / clusters))
    for _ in range(MAX_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(ordered, _borders(centres), side="right"), [len(ordered)]])
        counts = np.diff(ends)
        moved = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _borders(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    middles: npt.NDArray[np.float64] = (centres[:-1] + centres[1:]) / 2
    return middles


def clusters_of(text: str) -> int:
    """Return a pass's number of clusters.

    Raises:
        CompressionError: Not a whole number from 2 to 256.
    """
    if text.isascii() and text.isdecimal() and MIN_CLUSTERS <= int(text) <= MAX_CLUSTERS:
        return int(text)
    raise CompressionError(f"parameter clusters={text!r}: expected a number from {MIN_CLUSTERS} to {MAX_CLUSTERS}")
