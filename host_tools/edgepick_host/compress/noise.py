"""Signal and noise of one tensor over many samples. Pure numpy."""

import numpy as np

from edgepick_host.compress.dataset import Array


class Noise:
    """How far a tensor is from what it should be."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, ideal: Array, found: Array) -> None:
        """Take in one sample's values."""
        self._signal += float(np.sum(np.square(ideal, dtype=np.float64)))
        self._noise += float(np.sum(np.square(found - ideal.astype(np.float64))))

    def sqnr_db(self) -> float:
        """Return the signal-to-noise ratio in decibels; infinite without noise."""
        if self._noise == 0.0:
            return float("inf")
        return float(10 * np.log10(max(self._signal, np.finfo(np.float64).tiny) / self._noise))
