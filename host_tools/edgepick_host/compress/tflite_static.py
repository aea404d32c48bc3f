"""Full integer quantization of a float ``.tflite`` file, from ranges to a file whose biases fit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgepick_host.compress import tflite_file, tflite_guard, tflite_ranges
from edgepick_host.compress.observers import Method
from edgepick_host.compress.step import Range, StepContext
from edgepick_host.compress.tflite_guard import StaticOptions
from edgepick_host.errors import CompressionError


class StaticQuantizer:
    """Quantizes one float model again and again, with other ranges each time.

    Args:
        model: The float file's bytes.
        options: What the result looks like.
        context: Samples and learned ranges.

    Raises:
        CompressionError: A layer that is to stay float does not exist.
    """

    def __init__(self, model: bytes, options: StaticOptions, context: StepContext) -> None:
        _check_kept(model, options.keep_float)
        self._model, self._options = model, options
        self._bits = tflite_guard.ACTIVATION_BITS[options.activations]
        self._seen = tflite_ranges.observed(model, context)
        self._template = tflite_ranges.template(model, tflite_guard.static_recipe(options), context)

    @property
    def ranged(self) -> tuple[str, ...]:
        """Names of the tensors whose range matters, in the graph's order."""
        return tuple(name for name, own in self._template.items() if tflite_ranges.is_free(own))

    def calibrated(self, context: StepContext, method: Method) -> dict[str, Range]:
        """Return a range for every tensor; what training has learned wins over what calibration saw."""
        symmetric = self._bits != tflite_guard.WIDE
        return tflite_ranges.calibrated(self._seen, context, method=method, bits=self._bits, symmetric=symmetric)

    def quantized(self, ranges: Mapping[str, Range]) -> bytes:
        """Return the model with these ranges; layers whose bias would not fit 32 bits get per-tensor weights.

        Raises:
            CompressionError: The quantizer refuses.
        """
        filled = tflite_ranges.filled(self._template, ranges)
        result = tflite_guard.quantize(self._model, tflite_guard.static_recipe(self._options), filled)
        affected = tflite_guard.layers_with_saturated_bias(result)
        if not affected:
            return result
        again = tflite_guard.static_recipe(replace(self._options, per_tensor=affected))
        return tflite_guard.quantize(self._model, again, filled)


def _check_kept(model: bytes, kept: tuple[str, ...]) -> None:
    tensors = tflite_file.read(model, Path("model.tflite")).subgraphs[0].tensors
    unknown = sorted(set(kept) - {tflite_file.tensor_name(tensor) for tensor in tensors})
    if unknown:
        raise CompressionError(f"no layer computes {unknown[0]!r}, which was to stay in float")
