"""Clean-up of a float ``.tflite`` graph before it is quantized; what it answers stays the same."""

from collections.abc import Mapping

from edgepick_host.compress.same_answers import check_same_answers
from edgepick_host.compress.step import Pass, StepContext
from edgepick_host.compress.tflite_cleanup import cleaned
from edgepick_wire.manifest import ModelFormat


def build() -> Pass:
    """Return the pass; no parameters. Folds constants and batch norms, drops identities and dead branches."""
    return _cleanup


def _cleanup(model: bytes, parameters: Mapping[str, str], context: StepContext) -> bytes:
    del parameters
    result = cleaned(model)
    check_same_answers(model, result, ModelFormat.TFLITE, context)
    return result
