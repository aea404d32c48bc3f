"""Low-rank factorization of a layer's weights: one layer becomes two thin ones where that saves work. Pure numpy.

A dense layer is a matrix ``[out, in]``; a convolution is one of ``[out, kernel height * width * in]``, and its
factors are a convolution with ``rank`` filters and a 1x1 convolution. Both save parameters and multiplications in the
same proportion, as both factors run at every output position.
"""

import numpy as np
import numpy.typing as npt

from edgepick_host.errors import CompressionError

FloatArray = npt.NDArray[np.float32]

Factors = tuple[FloatArray, FloatArray]
"""``left [out, rank]`` and ``right [rank, in]``, whose product stands for the matrix."""


def factorize(matrix: FloatArray, energy: float) -> Factors | None:
    """Return the factors of the least rank that keeps ``energy``, or ``None`` if they are not smaller than the matrix.

    Args:
        matrix: ``[out, in]``.
        energy: Share of the squared singular values to keep, above 0 and at most 1 (Eckart and Young 1936: no other
            matrix of this rank is closer).
    """
    outputs, inputs = matrix.shape
    u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    total = float(np.sum(s**2))
    if not total:
        return None
    rank = int(np.searchsorted(np.cumsum(s**2) / total, energy - 1e-12)) + 1
    if rank * (outputs + inputs) >= outputs * inputs:
        return None
    # The root of each singular value goes to either side: both factors are then equally easy to quantize.
    root = np.sqrt(s[:rank])
    return (u[:, :rank] * root).astype(np.float32), (root[:, None] * v[:rank]).astype(np.float32)


def energy_of(text: str) -> float:
    """Return a pass's energy parameter.

    Raises:
        CompressionError: Not a number above 0 and at most 1.
    """
    try:
        energy = float(text)
    except ValueError:
        energy = -1.0
    if not 0 < energy <= 1:
        raise CompressionError(f"parameter energy={text!r}: expected a number above 0 and at most 1")
    return energy
