"""Where a compressed ONNX model departs from its float model, node by node."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepick_host.compress import onnx_file, onnx_guard
from edgepick_host.compress.dataset import Array, Dataset
from edgepick_host.compress.noise import Noise
from edgepick_host.compress.onnx_tensors import TensorRunner, computed_floats, output_names
from edgepick_host.compress.step import StepContext
from edgepick_host.core.layer_errors import LayerError
from edgepick_host.core.model_facts import TensorFacts

QuantizeBut = Callable[[bytes, StepContext, tuple[str, ...]], bytes]
"""Quantizes a model except for the nodes with these outputs."""

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def layer_errors(
    float_model: bytes, compressed: bytes, calibration: Dataset, inputs: Sequence[TensorFacts]
) -> tuple[LayerError, ...]:
    """Return the error of every node's first output that both files have, in the float model's order.

    A tensor that the compressed model narrows is compared behind its Q/DQ pair.

    Args:
        float_model: The float file's bytes.
        compressed: The same model, compressed.
        calibration: Samples to run both on.
        inputs: Of the float model.

    Raises:
        CompressionError: ONNX Runtime does not load one of them.
    """
    kinds = _operators(onnx_guard.prepared(float_model))
    places = _places(compressed, kinds)
    ideal = TensorRunner(onnx_guard.prepared(float_model), places)
    noises = _noises(ideal, TensorRunner(compressed, places.values()), places, calibration.samples(inputs))
    return tuple(
        LayerError(layer=name, operator=kind, sqnr_db=noises[name].sqnr_db())
        for name, kind in kinds.items()
        if name in noises
    )


def sensitivity(float_model: bytes, context: StepContext, quantize_but: QuantizeBut) -> tuple[LayerError, ...]:
    """Return what each layer with weights does to the model's output when it alone is quantized, the worst first.

    Args:
        float_model: The float file's bytes.
        context: Calibration samples; the errors are measured on them too.
        quantize_but: Quantizes a model except for the nodes with these outputs.

    Raises:
        CompressionError: ONNX Runtime refuses.
    """
    kinds = _operators(onnx_guard.prepared(float_model))
    found = []
    for name, kind in kinds.items():
        if kind in LAYERS:
            alone = quantize_but(float_model, context, tuple(other for other in kinds if other != name))
            found.append(_alone(float_model, alone, name, kind, context))
    return tuple(sorted(found, key=lambda error: error.alone_sqnr_db or 0.0))


def _alone(float_model: bytes, quantized: bytes, name: str, kind: str, context: StepContext) -> LayerError:
    outputs = dict(zip(output_names(float_model), output_names(quantized), strict=True))
    places = {**_places(quantized, {name: kind}), **outputs}
    ideal = TensorRunner(onnx_guard.prepared(float_model), places)
    samples = context.calibration.samples(context.source.inputs)
    noises = _noises(ideal, TensorRunner(quantized, places.values()), places, samples)
    worst = min(noises[output].sqnr_db() for output in outputs)
    own = noises[name].sqnr_db() if name in noises else worst
    return LayerError(layer=name, operator=kind, sqnr_db=own, alone_sqnr_db=worst)


def _noises(
    ideal: TensorRunner, found: TensorRunner, places: Mapping[str, str], samples: Iterable[Sequence[Array]]
) -> dict[str, Noise]:
    noises: dict[str, Noise] = {}
    for sample in samples:
        a, b = ideal.run(sample), found.run(sample)
        for name, place in places.items():
            if name in a and place in b and a[name].shape == b[place].shape:
                noises.setdefault(name, Noise()).add(a[name], b[place])
    return noises


def _operators(model: bytes) -> dict[str, str]:
    """Return the first output of every node that computes real numbers, and the node's kind."""
    parsed = onnx_file.read(model, Path("model.onnx"))
    floats = set(computed_floats(parsed))
    return {node.output[0]: node.op_type for node in parsed.graph.node if node.output[0] in floats}


def _places(compressed: bytes, names: Iterable[str]) -> dict[str, str]:
    """Return where the compressed model has each tensor: behind a Q/DQ pair, under its own name, or nowhere."""
    graph = onnx_file.read(compressed, Path("model.onnx")).graph
    computed = {name for node in graph.node for name in node.output}
    pairs = _pairs(graph)
    return {name: pairs.get(name, name) for name in names if name in computed or name in pairs}


def _pairs(graph: Any) -> dict[str, str]:
    quantized = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    return {
        quantized[node.input[0]]: node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized
    }
