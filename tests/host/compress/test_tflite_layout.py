"""Tensors of real model files are found where they lie, and nothing is made of what is no model."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgepick_host.demo
from edgepick_host.compress.tflite_layout import find_tensors
from edgepick_host.core import delta

DATA = Path(edgepick_host.demo.__file__).parent / "data"


def read(name: str) -> bytes:
    return (DATA / name).read_bytes()


def test_tensors_lie_apart_and_hold_weights():
    """The demo's model has its weights in several tensors, each a sane stretch of float32 numbers."""
    data = read("digits.tflite")

    found = [t for t in find_tensors(data) if t.width == 4 and t.size > 1000]

    assert len({t.name for t in found}) == len(found) > 2
    for tensor in found:
        assert np.abs(np.frombuffer(data[tensor.offset : tensor.offset + tensor.size], "<f4")).max() < 100


def test_tensors_that_moved_are_laid_side_by_side():
    """A model behind 12 more bytes of metadata differs from itself by almost nothing."""
    data = read("digits.tflite")
    there = find_tensors(data)
    moved = data[:64] + bytes(12) + data[64:]
    shifted = [t._replace(offset=t.offset + 12) for t in there]

    segments = delta.match(moved, shifted, there, len(data))
    script = delta.script(moved, data, segments)

    assert sum(segment.size for segment in segments) == len(moved)
    assert len(delta.zstd(script)) < len(data) / 50


@pytest.mark.parametrize("size", [0, 7, 40, 1000])
def test_a_torn_model_has_no_tensors_or_sound_ones(size):
    """Whatever is left of a torn file, no tensor reaches out of it."""
    data = read("digits.tflite")[:size]

    assert all(t.offset + t.size <= len(data) for t in find_tensors(data))


@given(st.binary(max_size=200))
def test_noise_has_no_tensors(noise):
    """Bytes behind the magic number are no model; nothing is raised and nothing out of bounds is found."""
    data = noise[:4].ljust(4, b"\0") + b"TFL3" + noise[4:]

    assert all(t.offset >= 0 and t.offset + t.size <= len(data) for t in find_tensors(data))
