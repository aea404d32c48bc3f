"""Latencies on their way from a runner to who started it: 64-bit integers, little-endian, one file per pass."""

import sys
from array import array
from collections.abc import Iterable

CLOSED_LOOP = "closed-loop.i64"
FIXED_RATE = "fixed-rate.i64"
TRACED = "traced.i64"
"""Begin and duration in turn."""
FOUND = "found.json"
"""What the further passes found: a :class:`edgepick_agent.core.profile.PassesFound`."""


def pack_samples(samples: Iterable[int]) -> bytes:
    """Return samples as bytes."""
    return _in_order(array("q", samples)).tobytes()


def unpack_samples(content: bytes) -> "array[int]":
    """Return the samples in bytes that :func:`pack_samples` made."""
    found = array("q")
    found.frombytes(content)
    return _in_order(found)


def _in_order(samples: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
