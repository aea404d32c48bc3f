"""Ranges for static quantization of a ``.tflite`` model, from its own statistics or from training."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgepick_host.compress import tflite_guard
from edgepick_host.compress.observers import Method, Observer
from edgepick_host.compress.step import Range, StepContext
from edgepick_host.compress.tflite_guard import Ranges
from edgepick_host.compress.tflite_tensors import TensorRunner

Seen = Mapping[str, Observer]


def observed(model: bytes, context: StepContext) -> Seen:
    """Return what every tensor of the float model showed on all calibration samples, by name."""
    runner = TensorRunner(model)
    seen: dict[str, Observer] = {}
    for sample in context.calibration.samples(context.source.inputs):
        for name, values in runner.run(sample).items():
            seen.setdefault(name, Observer()).observe(values)
    return seen


def template(model: bytes, recipe: Any, context: StepContext) -> Ranges:
    """Return what the quantizer itself finds on one sample: which tensors it asks for, and in what shape."""
    first = next(context.calibration.samples(context.source.inputs))
    return tflite_guard.ranged_tensors(model, recipe, dict(zip(tflite_guard.input_names(model), first, strict=True)))


def filled(asked: Ranges, ranges: Mapping[str, Range]) -> Ranges:
    """Return ``ranges`` as the quantizer takes them.

    A tensor that ``ranges`` do not name keeps what the quantizer found: constants. So do outputs whose range the
    kernel fixes (softmax, logistic, tanh); the quantizer tells them by a bare number.
    """
    return {name: _filled(own, ranges.get(name)) for name, own in asked.items()}


def is_free(own: Mapping[str, Any]) -> bool:
    """Return whether a tensor's range is ours to choose."""
    return np.ndim(own.get("min", 0.0)) > 0


def _filled(own: Mapping[str, Any], ends: Range | None) -> Mapping[str, Any]:
    if ends is None or not is_free(own):
        return own
    return {"min": np.full_like(own["min"], ends[0]), "max": np.full_like(own["max"], ends[1])}


def calibrated(
    seen: Seen, context: StepContext, *, method: Method, bits: int = 8, symmetric: bool = False
) -> dict[str, Range]:
    """Return a range for every tensor; what training has learned wins over what calibration saw."""
    found = {name: observer.range(method, bits=bits, symmetric=symmetric) for name, observer in seen.items()}
    return {**found, **context.ranges}
