"""Static quantization of a float ONNX file, from ranges to Q/DQ pairs."""

from collections.abc import Mapping
from pathlib import Path

from edgepick_host.compress import onnx_file, onnx_guard
from edgepick_host.compress.observers import Method, Observer
from edgepick_host.compress.onnx_guard import StaticOptions
from edgepick_host.compress.onnx_tensors import TensorRunner
from edgepick_host.compress.step import Range, StepContext

RENAMED = "_QuantizeLinear_Input"
"""What onnxruntime.quantization appends to the name of a graph's output that it narrows."""


class StaticQuantizer:
    """Quantizes one float model again and again, with other ranges each time.

    Args:
        model: The float file's bytes.
        options: What the result looks like.
        context: Samples and learned ranges.

    Raises:
        CompressionError: ONNX Runtime does not prepare or run the model.
    """

    def __init__(self, model: bytes, options: StaticOptions, context: StepContext) -> None:
        self.model = onnx_guard.prepared(model)
        self._options = options
        self._bits = onnx_guard.ACTIVATION_BITS[options.activations]
        self._seen = observed(self.model, context)

    @property
    def ranged(self) -> tuple[str, ...]:
        """Names of the tensors whose range matters, in the graph's order."""
        return quantized_tensors(self.quantized({name: seen.range() for name, seen in self._seen.items()}))

    def calibrated(self, context: StepContext, method: Method) -> dict[str, Range]:
        """Return a range for every tensor; what training has learned wins over what calibration saw."""
        symmetric = self._options.symmetric or self._options.activations == "int16"
        found = {name: seen.range(method, bits=self._bits, symmetric=symmetric) for name, seen in self._seen.items()}
        return {**found, **context.ranges}

    def quantized(self, ranges: Mapping[str, Range]) -> bytes:
        """Return the model with these ranges.

        Raises:
            CompressionError: ONNX Runtime refuses.
        """
        return onnx_guard.quantize_static(self.model, self._options, ranges)


def observed(model: bytes, context: StepContext) -> dict[str, Observer]:
    """Return what every float tensor of the model showed on all calibration samples, by name."""
    runner = TensorRunner(model)
    seen: dict[str, Observer] = {}
    for sample in context.calibration.samples(context.source.inputs):
        for name, values in runner.run(sample).items():
            seen.setdefault(name, Observer()).observe(values)
    return seen


def quantized_tensors(model: bytes) -> tuple[str, ...]:
    """Return the float tensors that a quantized model narrows, in the graph's order."""
    graph = onnx_file.read(model, Path("model.onnx")).graph
    constants = {tensor.name for tensor in graph.initializer}
    # The engine renames what is computed where an output of the graph is narrowed, to keep the output's name.
    narrowed = [node.input[0].removesuffix(RENAMED) for node in graph.node if node.op_type == "QuantizeLinear"]
    return tuple(dict.fromkeys(name for name in narrowed if name not in constants))
