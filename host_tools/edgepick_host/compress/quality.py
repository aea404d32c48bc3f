"""How well a variant answers, from its outputs and the float model's. Pure numpy."""

import numpy as np
import numpy.typing as npt

from edgepick_host.compress.dataset import FloatArray
from edgepick_host.core.variants import Quality

Labels = npt.NDArray[np.int64]


def answers(outputs: FloatArray, middle: float | None = None) -> Labels:
    """Return the class that each sample's flattened output names, ``[N]``.

    That is its arg-max, which says nothing of a model with a single output: with ``middle``, such an output names
    class 1 above it and class 0 elsewhere.
    """
    flat = outputs.reshape(len(outputs), -1)
    if middle is not None and flat.shape[1] == 1:
        return (flat[:, 0] > middle).astype(np.int64)
    found: Labels = np.argmax(flat, axis=1).astype(np.int64)
    return found


def middle_of(reference: FloatArray) -> float:
    """Return where a single output changes from class 0 to class 1, from the float model's, ``[N, ...]``.

    Of probabilities it is 0.5, of logits 0. Where all lie on one side of that it is no classifier: their median.
    """
    middle = 0.5 if reference.min() >= 0 and reference.max() <= 1 else 0.0
    return middle if reference.min() <= middle < reference.max() else float(np.median(reference))


def accuracy(outputs: FloatArray, labels: Labels | None, middle: float | None = None) -> float | None:
    """Return the share answered as labelled; ``None`` without labels. ``middle`` as in :func:`answers`."""
    return None if labels is None else float(np.mean(answers(outputs, middle) == labels))


def agreement(outputs: FloatArray, reference: FloatArray) -> float:
    """Return the share of samples with the reference's arg-max (0..1), which is what a device compares."""
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
