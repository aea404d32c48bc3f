"""Integer weights that reproduce a layer's outputs, instead of the nearest ones each by itself. Pure numpy.

The weights are first fitted to the outputs of the float layer (least squares, held near the float weights), which makes
up for the rounding of everything before it; then they are rounded one input after the other, each rounding error
carried over into the weights not yet rounded, and the last of it into the bias. The second half is GPTQ (Frantar et
al., 2022, arXiv 2210.17323), which is Optimal Brain Surgeon with a fixed order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DAMPING = 0.01
"""Added to the diagonal, as a share of its mean: GPTQ's own."""
MOST_INPUTS = 2048
"""Layers with more inputs per output are left as they are: the fit grows with the cube."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Least squares over the inputs of one layer; the bias is one more input that is always 1.

    Attributes:
        products: ``X'X`` of the inputs in the quantized model, ``[K + 1, K + 1]``.
        crossed: ``X'Z``, with Z the float model's inputs.
        hold: What holds fitted weights near the float ones, added to the diagonal.
    """

    products: Floats
    crossed: Floats
    hold: float

    @classmethod
    def of(cls, ideal: npt.NDArray[Any], found: npt.NDArray[Any], hold: float) -> "Problem":
        """Return the problem of a layer.

        Args:
            ideal: Rows of inputs in the float model, ``[R, K]``.
            found: The same in the quantized model.
            hold: How strongly fitted weights are held near the float ones, as a share of the diagonal's mean where
                there are as many rows as unknowns; the more rows, the less. Infinite leaves out the fit.
        """
        ones = np.ones((len(found), 1))
        x, z = (np.hstack([values.astype(np.float64), ones]) for values in (found, ideal))
        return cls(products=x.T @ x / len(x), crossed=x.T @ z / len(x), hold=hold * x.shape[1] / len(x))

    def solved(self, weights: Floats, bias: Floats, scales: Floats, ends: tuple[int, int]) -> tuple[Floats, Floats]:
        """Return integer weights ``[C, K]`` and the real bias ``[C]``."""
        both = np.hstack([weights, bias[:, None]])
        mean = float(np.trace(self.products)) / len(self.products) or 1.0
        if np.isfinite(self.hold):
            held = self.products + self.hold * mean * np.eye(len(self.products))
            both = both + np.linalg.solve(held, (self.crossed - self.products) @ both.T).T
        damped = self.products + DAMPING * mean * np.eye(len(self.products))
        upper = np.linalg.cholesky(np.linalg.inv(damped)).T
        integers = np.empty_like(weights)
        for k in range(weights.shape[1]):
            integers[:, k] = np.clip(np.round(both[:, k] / scales), *ends)
            error = (both[:, k] - integers[:, k] * scales) / upper[k, k]
            both[:, k:] -= error[:, None] * upper[k, k:]
        return integers, both[:, -1]
