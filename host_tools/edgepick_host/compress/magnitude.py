"""Magnitude pruning: which weights of a layer become zero. Pure numpy."""

import numpy as np
import numpy.typing as npt

from edgepick_host.errors import CompressionError

FloatArray = npt.NDArray[np.float32]


def pruned(weights: FloatArray, share: float) -> FloatArray:
    """Return a copy of ``weights`` with the ``share`` of smallest magnitude set to zero.

    Exactly ``floor(share * size)`` weights are zeroed; of equal magnitudes the one stored first goes first, so the
    result is the same everywhere.
    """
    flat = weights.astype(np.float32, copy=True).reshape(-1)
    order = np.argsort(np.abs(flat), kind="stable")
    flat[order[: int(share * flat.size)]] = 0.0
    return flat.reshape(weights.shape)


def two_of_four(weights: FloatArray) -> FloatArray:
    """Return a copy of ``weights`` with the two smallest magnitudes of every four consecutive ones set to zero.

    Groups lie along the last axis, the one that a layer sums over: the pattern that sparse tensor cores take (NVIDIA
    Ampere white paper, "2:4 structured sparsity"). What is left over at the end of an axis stays as it is.
    """
    result = weights.astype(np.float32, copy=True)
    whole = result.shape[-1] // 4 * 4
    groups = result[..., :whole].reshape(-1, 4)
    smallest = np.argsort(np.abs(groups), axis=1, kind="stable")[:, :2]
    np.put_along_axis(groups, smallest, 0.0, axis=1)
    result[..., :whole] = groups.reshape(result[..., :whole].shape)
    return result


def share_of(text: str) -> float:
    """Return a pass's share parameter.

    Raises:
        CompressionError: Not a number from 0 up to, but not including, 1.
    """
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise CompressionError(f"parameter share={text!r}: expected a number from 0 to below 1")
    return share
