"""Where a compressed ``.tflite`` model departs from its float model, operator by operator."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from edgepick_host.compress import tflite_file
from edgepick_host.compress.dataset import Array, Dataset
from edgepick_host.compress.noise import Noise
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_integer_layers import KINDS
from edgepick_host.compress.tflite_tensors import TensorRunner, output_names
from edgepick_host.core.layer_errors import LayerError
from edgepick_host.core.model_facts import TensorFacts

QuantizeBut = Callable[[bytes, StepContext, tuple[str, ...]], bytes]
"""Quantizes a model except for the operators with these output tensors."""


def layer_errors(
    float_model: bytes, compressed: bytes, calibration: Dataset, inputs: Sequence[TensorFacts]
) -> tuple[LayerError, ...]:
    """Return the error of every operator's first output that both files have, in the float model's order.

    Args:
        float_model: The float file's bytes.
        compressed: The same model, compressed.
        calibration: Samples to run both on.
        inputs: Of the float model.

    Raises:
        CompressionError: LiteRT does not load one of them.
    """
    kinds = _operators(float_model)
    samples = list(calibration.samples(inputs))
    noises = _noises(TensorRunner(float_model, kinds), TensorRunner(compressed, kinds), samples)
    return tuple(
        LayerError(layer=name, operator=kind, sqnr_db=noises[name].sqnr_db())
        for name, kind in kinds.items()
        if name in noises
    )


def sensitivity(float_model: bytes, context: StepContext, quantize_but: QuantizeBut) -> tuple[LayerError, ...]:
    """Return what each layer with weights does to the model's output when it alone is quantized, the worst first.

    Layers that the quantizer leaves float whatever it is told are among the last, with no error at all.

    Args:
        float_model: The float file's bytes.
        context: Calibration samples; the errors are measured on them too.
        quantize_but: As :data:`QuantizeBut`.

    Raises:
        CompressionError: The quantizer refuses.
    """
    kinds = _operators(float_model)
    ends = (*_input_names(float_model), *kinds)
    found = []
    for name, kind in kinds.items():
        if kind in KINDS:
            alone = quantize_but(float_model, context, tuple(other for other in ends if other != name))
            found.append(_alone(float_model, alone, name, kind, context))
    return tuple(sorted(found, key=lambda error: error.alone_sqnr_db or 0.0))


def _alone(float_model: bytes, quantized: bytes, name: str, kind: str, context: StepContext) -> LayerError:
    outputs = dict(zip(output_names(quantized), output_names(float_model), strict=True))
    ideal = TensorRunner(float_model, [name, *outputs.values()])
    found = _Renamed(TensorRunner(quantized, [name, *outputs]), outputs)
    noises = _noises(ideal, found, context.calibration.samples(context.source.inputs))
    worst = min(noises[output].sqnr_db() for output in outputs.values())
    own = noises[name].sqnr_db() if name in noises else worst
    return LayerError(layer=name, operator=kind, sqnr_db=own, alone_sqnr_db=worst)


class _Renamed:
    """A runner whose outputs have the names of another model's: float ends get names of their own."""

    def __init__(self, runner: TensorRunner, names: Mapping[str, str]) -> None:
        self._runner, self._names = runner, names

    def run(self, sample: Sequence[Array]) -> dict[str, Array]:
        found = self._runner.run(sample)
        return {**found, **{new: found[old] for old, new in self._names.items()}}


def _noises(
    ideal: TensorRunner, found: TensorRunner | _Renamed, samples: Iterable[Sequence[Array]]
) -> dict[str, Noise]:
    noises: dict[str, Noise] = {}
    for sample in samples:
        a, b = ideal.run(sample), found.run(sample)
        for name in a:
            if name in b and a[name].shape == b[name].shape:
                noises.setdefault(name, Noise()).add(a[name], b[name])
    return noises


def _operators(model: bytes) -> dict[str, str]:
    """Return the first output of every operator that computes with real numbers, and the operator's kind."""
    parsed = tflite_file.read(model, Path("model.tflite"))
    graph = parsed.subgraphs[0]
    firsts = [(graph.tensors[int(op.outputs[0])], op) for op in graph.operators if len(op.outputs)]
    return {
        tflite_file.tensor_name(tensor): tflite_file.operator_name(parsed, operator)
        for tensor, operator in firsts
        if tflite_file.tensor_type(tensor) == "float32"
    }


def _input_names(model: bytes) -> tuple[str, ...]:
    graph = tflite_file.read(model, Path("model.tflite")).subgraphs[0]
    return tuple(tflite_file.tensor_name(graph.tensors[int(i)]) for i in graph.inputs)
