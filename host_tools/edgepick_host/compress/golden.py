"""The bundle's self-test: which samples, and how far a device's answers may be from the float model's. Pure numpy."""

from collections.abc import Iterator
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
"""Least tolerated error, as a share of the outputs' mean magnitude: covers variants whose own error is zero or nearly
(float32 against other float kernels, float16 weights on a device that also computes in float16)."""

LEAST_AGREEMENT = 0.5
"""A device that answers most samples otherwise is wrong, however rough the variant."""

USELESS_SHARE = 0.5
"""The tolerated error never exceeds this share of the error of a useless answer that would pass by its arg-max."""


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


def useless_answers(expected: FloatArray) -> Iterator[FloatArray]:
    """Yield answers that must fail: all zeros, each sample answered as the next one, and shifted classes."""
    yield np.zeros_like(expected)
    yield np.roll(expected, 1, axis=0)
    yield np.roll(expected.reshape(len(expected), -1), 1, axis=1).reshape(expected.shape)


def tolerance(outputs: FloatArray, expected: FloatArray) -> Tolerance | None:
    """Return what a device is allowed, from what this host measured on the same samples.

    Both bounds are this host's own figures with a margin. A useless answer has to fail one of them: of a classifier,
    it fails by its arg-max; where arg-max says little (regression, one output), the error bound is kept below half of
    its error.

    Args:
        outputs: The variant's answers on the golden samples, ``[n, ...]``.
        expected: The float model's.

    Returns:
        ``None`` if both cannot be had: nothing tells the variant from a useless one on these samples.
    """
    share = agreement(outputs, expected) - MARGIN_SAMPLES / len(expected)
    min_agreement = max(LEAST_AGREEMENT, share)
    passing = (a for a in useless_answers(expected) if agreement(a, expected) >= min_agreement)
    errors = [error for error in (mean_abs_error(a, expected) for a in passing) if error > 0]
    ceiling = USELESS_SHARE * min(errors, default=np.inf)
    measured = mean_abs_error(outputs, expected)
    if measured >= ceiling:
        return None
    bound = max(ERROR_MARGIN * measured, ERROR_FLOOR * float(np.mean(np.abs(expected))))
    return Tolerance(min_agreement=min_agreement, max_mean_abs_error=float(min(bound, ceiling)))
