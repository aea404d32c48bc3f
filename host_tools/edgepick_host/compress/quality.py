"""How well a variant answers, from its outputs and the float model's. Pure numpy."""

import numpy as np
import numpy.typing as npt

from edgepick_host.compress.dataset import FloatArray
from edgepick_host.core.variants import Quality

Labels = npt.NDArray[np.int64]


def answers(outputs: FloatArray) -> Labels:
    """Return the arg-max of each sample's flattened output, ``[N]``."""
    found: Labels = np.argmax(outputs.reshape(len(outputs), -1), axis=1).astype(np.int64)
    return found


def accuracy(outputs: FloatArray, labels: Labels | None) -> float | None:
    """Return the share answered as labelled; ``None`` without labels."""
    return None if labels is None else float(np.mean(answers(outputs) == labels))


def agreement(outputs: FloatArray, reference: FloatArray) -> float:
    """Return the share of samples with the reference's answer (0..1)."""
    return float(np.mean(answers(outputs) == answers(reference)))


def mean_abs_error(outputs: FloatArray, reference: FloatArray) -> float:
    """Return the mean absolute difference of all elements."""
    return float(np.mean(np.abs(outputs.astype(np.float64) - reference)))


def loss(quality: Quality) -> float:
    """Return what the accuracy gate looks at, in share.

    With labels that is the accuracy drop. Without, it is the share answered otherwise than by the float model: each
    such answer can cost at most one right one, so it bounds the drop that cannot be measured.
    """
    return 1.0 - quality.agreement if quality.accuracy_drop is None else quality.accuracy_drop
