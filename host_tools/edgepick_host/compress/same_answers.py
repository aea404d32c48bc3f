"""Showing that a rewritten float model still answers as before."""

import numpy as np

from edgepick_host.compress.predictor import open_predictor
from edgepick_host.compress.step import StepContext
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat

PROBED_SAMPLES = 8
MAX_ERROR_SHARE = 1e-3
"""Of the largest answer: rounding in another order is far below, a wrong rewrite far above."""


def check_same_answers(before: bytes, after: bytes, model_format: ModelFormat, context: StepContext) -> None:
    """Refuse a rewritten model that answers calibration samples otherwise.

    Raises:
        CompressionError: It does, or it does not run.
    """
    old, new = (open_predictor(model, model_format) for model in (before, after))
    for sample in context.calibration.subset(range(min(PROBED_SAMPLES, len(context.calibration)))).samples(
        context.source.inputs
    ):
        expected, found = old.run(sample), new.run(sample)
        limit = MAX_ERROR_SHARE * float(np.max(np.abs(expected), initial=1e-6))
        if found.shape != expected.shape or float(np.max(np.abs(found - expected), initial=0.0)) > limit:
            raise CompressionError("the cleaned-up graph answers otherwise than the model; it is not used")
