"""Errors of answers per sample: smooth measures that a search can descend. Pure numpy."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Errors = npt.NDArray[np.float64]
"""Per sample, ``[N]``; or the values that they come from, ``[N, ...]``."""

Compare = Callable[[Errors, Errors], Errors]
"""``(ideal, found) -> errors``."""

TINY = 1e-12


def squared_error(ideal: Errors, found: Errors) -> Errors:
    """Return each sample's squared error, in shares of the ideal values' variance."""
    spread = float(np.var(ideal)) or 1.0
    return np.asarray(_per_sample(np.square(found - ideal)) / spread)


def softmax_divergence(ideal: Errors, found: Errors) -> Errors:
    """Return the KL divergence of the probabilities that logits stand for, in nats."""
    a, b = _log_softmax(ideal), _log_softmax(found)
    return np.asarray(_per_sample(np.exp(a) * (a - b)) * ideal.shape[-1])


def sigmoid_divergence(ideal: Errors, found: Errors) -> Errors:
    """Return the mean KL divergence of the probabilities that logits stand for one by one, in nats."""
    a, b = (np.clip(1 / (1 + np.exp(-values)), TINY, 1 - TINY) for values in (ideal, found))
    return _per_sample(a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)))


def _log_softmax(values: Errors) -> Errors:
    shifted = values - values.max(axis=-1, keepdims=True)
    found: Errors = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def _per_sample(values: Errors) -> Errors:
    found: Errors = values.reshape(len(values), -1).mean(axis=1)
    return found
