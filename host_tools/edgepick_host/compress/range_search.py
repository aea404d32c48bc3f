"""Choosing ranges by what they do to answers, for quantizers of any format, and how much of it is affordable."""

from typing import Protocol, cast

import numpy as np

from edgepick_host.compress import tflite_auto, tflite_search
from edgepick_host.compress.divergence import Errors
from edgepick_host.compress.observers import Method
from edgepick_host.compress.step import Range, StepContext
from edgepick_host.compress.tflite_fidelity import Fidelity
from edgepick_host.compress.tflite_search import Ranges
from edgepick_host.compress.tflite_static import StaticQuantizer

AUTO = tflite_auto.AUTO
LEAST_SAMPLES = tflite_auto.LEAST_SAMPLES

__all__ = ["AUTO", "LEAST_SAMPLES", "Judge", "Quantizer", "Ranges", "affordable", "search_ranges"]


class Quantizer(Protocol):
    """Quantizes one float model again and again, with other ranges each time."""

    @property
    def ranged(self) -> tuple[str, ...]:
        """Names of the tensors whose range matters, in the graph's order."""

    def calibrated(self, context: StepContext, method: Method) -> dict[str, Range]:
        """Return a range for every tensor."""

    def quantized(self, ranges: Ranges) -> bytes:
        """Return the model with these ranges."""


class Judge(Protocol):
    """Compares models with one float model."""

    def errors(self, model: bytes) -> Errors:
        """Return each sample's error, ``[N]``."""


def search_ranges(quantizer: Quantizer, judge: Judge, context: StepContext, *, models: int) -> Ranges:
    """Return the ranges whose model answers nearest to the float model, within so many models."""
    # The descent calls nothing but what the two protocols name, and was written for .tflite first.
    return tflite_search.search_ranges(
        cast("StaticQuantizer", quantizer), cast("Fidelity", judge), context, models=models
    )


def affordable(multiplications: int, samples: int) -> int:
    """Return how many models of so many multiplications may be judged on so many samples."""
    most = tflite_auto.WORK // max(multiplications * samples, 1)
    return int(np.clip(most, tflite_auto.FEWEST_MODELS, tflite_auto.MOST_MODELS))
