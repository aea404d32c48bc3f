"""Where a loss comes from: the layers that make most of the noise, in words. Pure."""

from collections.abc import Sequence

from edgepick_host.core.layer_errors import LayerError

MOST_NAMED = 3
"""Layers in one sentence."""

MOST_OF_IT = 0.5
"""Share of the noise power that the named layers make."""


def most_of_it(worst_first: Sequence[LayerError]) -> str:
    """Return which layers hurt, e.g. ``most of it in conv_4 (12 dB) and dense (15 dB)``; empty if nothing is known.

    Noise of layers that were quantized one at a time adds up, so there are as many as make half of it, at most three.
    Where only the whole model was compared, a layer's noise has that of the layers before it in it: the two noisiest.

    Args:
        worst_first: Of one model, by ``alone_sqnr_db`` where it was measured, else by ``sqnr_db``.
    """
    alone = [(error.layer, error.alone_sqnr_db) for error in worst_first if error.alone_sqnr_db is not None]
    if alone:
        return f"most of it in {_named(alone[: _enough([db for _, db in alone])])}"
    if worst_first:
        return f"the noise is largest in {_named([(error.layer, error.sqnr_db) for error in worst_first[:2]])}"
    return ""


def _enough(decibels: Sequence[float]) -> int:
    """Return how many of the first layers make half of the noise."""
    powers = [10 ** (-db / 10) for db in decibels]
    sums = [sum(powers[: count + 1]) for count in range(len(powers))]
    count = next(count for count, so_far in enumerate(sums, start=1) if so_far >= MOST_OF_IT * sums[-1])
    return min(count, MOST_NAMED)


def _named(layers: Sequence[tuple[str, float]]) -> str:
    *first, last = [f"{name} ({db:.0f} dB)" for name, db in layers]
    return f"{', '.join(first)} and {last}" if first else last
