"""The bundle's self-test: which samples, and how far a device's answers may be from the float model's. Pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepick_host.compress.dataset import FloatArray
from edgepick_host.compress.quality import Labels, agreement, mean_abs_error

GOLDEN_SAMPLES = 16

MARGIN_SAMPLES = 1.5
"""A device's kernels may round one borderline sample to the other side; two would be a sign of something else."""

ERROR_MARGIN = 3.0
"""Other kernels' rounding adds to the error that this host measured; a wrong model's error is far larger."""

ERROR_FLOOR = 0.05
"""Least tolerated error, as a share of the error of a model that answers nothing: covers variants whose own error
is zero or nearly (float32 against other float kernels)."""

GARBAGE_SHARE = 0.5
"""The tolerance never exceeds this share of the error of a useless answer, so that such an answer always fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a device may be from ``expected``, see :class:`edgepick_wire.manifest.GoldenSpec`."""

    min_agreement: float
    max_mean_abs_error: float


def choose_golden(groups: Labels, seed: int, count: int = GOLDEN_SAMPLES) -> tuple[int, ...]:
    """Return the indices of at most ``count`` samples, ascending, with every group in turn.

    Args:
        groups: Each sample's label, or the float model's answer where there are no labels; ``[N]``.
        seed: Which samples of a group come first.
        count: How many.
    """
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    ranks = {int(group): 0 for group in np.unique(groups)}
    keys: list[tuple[int, int, int]] = []
    for index in shuffled:
        group = int(groups[index])
        keys.append((ranks[group], group, int(index)))
        ranks[group] += 1
    return tuple(sorted(index for _, _, index in sorted(keys)[:count]))


def useless_errors(expected: FloatArray) -> Sequence[float]:
    """Return the mean absolute errors of answers that carry no information about their input.

    All zeros; the mean answer of the set to everything; and each sample answered as the next one.
    """
    zeros = np.zeros_like(expected)
    mean = np.broadcast_to(expected.mean(axis=0), expected.shape)
    return [mean_abs_error(useless, expected) for useless in (zeros, mean, np.roll(expected, 1, axis=0))]


def tolerance(outputs: FloatArray, expected: FloatArray) -> Tolerance | None:
    """Return what a device is allowed, from what this host measured on the same samples.

    The error bound lies above this host's error with a margin, and below half of what a useless answer scores, so
    that a zero-filled or permuted output fails even where arg-max says little (regression, one output).

    Args:
        outputs: The variant's answers on the golden samples, ``[n, ...]``.
        expected: The float model's.

    Returns:
        ``None`` if both cannot be had: the variant cannot be told from a useless one by these samples.
    """
    useless = [error for error in useless_errors(expected) if error > 0]
    measured, ceiling = mean_abs_error(outputs, expected), GARBAGE_SHARE * min(useless, default=0.0)
    if measured >= ceiling:
        return None
    bound = max(ERROR_MARGIN * measured, ERROR_FLOOR * ceiling / GARBAGE_SHARE)
    share = agreement(outputs, expected) - MARGIN_SAMPLES / len(expected)
    return Tolerance(min_agreement=max(0.5, share), max_mean_abs_error=min(bound, ceiling))
