"""What TensorRT takes and fuses of a model with Q/DQ pairs: rules as data, with their sources. Pure.

Sources: NVIDIA, "Working with Quantized Types" (docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/
work-quantized-types.html), with its figures on Q/DQ placement; NVIDIA's TensorFlow quantization toolkit, "Add Custom
QDQ Insertion Case", on residual connections. No file of ours has been built by a TensorRT yet.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgepick_host.core.model_facts import ModelFacts, OperatorFacts, QuantizerFacts, TensorFacts
from edgepick_host.core.onnx_graph import ACTIVATIONS, DEQUANTIZE, PAIR, QUANTIZE, WEIGHTED, OnnxGraph, graph_of
from edgepick_host.core.operator_tables import Confidence

TYPES_PAGE = "NVIDIA TensorRT, Working with Quantized Types"
RESIDUALS_PAGE = "NVIDIA TensorFlow quantization toolkit, Add Custom QDQ Insertion Case"

FOREIGN = frozenset(
    {
        "ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "MatMulInteger", "MatMulIntegerToFloat",
        "QAttention", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConv", "QLinearGlobalAveragePool",
        "QLinearMatMul", "QLinearMul", "QLinearSigmoid",
    }
)  # fmt: skip
"""Operators of other schemes of quantization."""

OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1}
"""Along which the scales of weights may differ."""

Found = Iterator[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtRule:
    """One rule.

    Attributes:
        title: What must hold, for the documentation.
        check: Yields what breaks it.
    """

    title: str
    confidence: Confidence
    source: str
    check: Callable[[OnnxGraph], Found]


def tensorrt_objections(facts: ModelFacts) -> Iterator[str]:
    """Yield why TensorRT would not take this ONNX model, or not compute it in integers where it could."""
    graph = graph_of(facts)
    for rule in TENSORRT_RULES:
        for found in rule.check(graph):
            yield f"{found} [{rule.confidence.value}: {rule.source}]"


def _foreign(graph: OnnxGraph) -> Found:
    for operator in graph.facts.operators:
        if operator.name in FOREIGN:
            yield f"{operator.name} belongs to another scheme than Q/DQ pairs, which TensorRT does not read"


def _signed(graph: OnnxGraph) -> Found:
    for quantizer in graph.facts.quantizers:
        if quantizer.dtype != "int8":
            yield f"{quantizer.name} quantizes to {quantizer.dtype}; TensorRT takes int8 only"


def _symmetric(graph: OnnxGraph) -> Found:
    for quantizer in graph.facts.quantizers:
        if not quantizer.zero_points_are_zero:
            yield f"{quantizer.name} has a zero point other than 0, which TensorRT refuses"


def _known_scales(graph: OnnxGraph) -> Found:
    for quantizer in graph.facts.quantizers:
        if quantizer.scales == 0:
            yield f"{quantizer.name} has a computed scale; TensorRT builds constants in"
        elif not quantizer.scales_are_positive:
            yield f"{quantizer.name} has a scale that is not above 0"


def _one_scale_per_activation(graph: OnnxGraph) -> Found:
    for quantizer in graph.facts.quantizers:
        node = graph.producers.get(quantizer.output)
        if quantizer.scales > 1 and node is not None and not node.inputs[0].constant:
            yield f"{quantizer.name} gives an activation {quantizer.scales} scales; it may have one"


def _scales_along_outputs(graph: OnnxGraph) -> Found:
    for quantizer in graph.facts.quantizers:
        for reader in graph.readers.get(quantizer.output, ()):
            axis = OUTPUT_AXIS.get(reader.name)
            if quantizer.scales > 1 and axis is not None and _is_weights(reader, quantizer) and quantizer.axis != axis:
                yield f"{quantizer.name} has scales along axis {quantizer.axis} of {reader.name}'s weights, not {axis}"


def _is_weights(operator: OperatorFacts, quantizer: QuantizerFacts) -> bool:
    return len(operator.inputs) > 1 and operator.inputs[1].name == quantizer.output


def _both_or_none(graph: OnnxGraph) -> Found:
    for operator in graph.facts.operators:
        if operator.name not in WEIGHTED or not graph.facts.quantizers:
            continue
        data, weights = (graph.comes_from(tensor, frozenset({DEQUANTIZE})) for tensor in operator.inputs[:2])
        # Real weights are a layer that was kept in float, or that the quantizer skipped; left_in_float tells these.
        if data != weights and not (data and operator.inputs[1].constant):
            what = "other input" if data else "input"
            yield f"{_label(operator)} has one side quantized, but not its {what}: it would run in float"


def _unbroken(graph: OnnxGraph) -> Found:
    for operator in graph.facts.operators:
        if operator.name in ACTIVATIONS:
            layer = _through_pair(graph, operator.inputs[0])
            if layer is not None and layer.name in WEIGHTED | {"Add"}:
                yield f"a Q/DQ pair parts {_label(layer)} from its {operator.name}, which would be fused"


def _through_pair(graph: OnnxGraph, tensor: TensorFacts) -> OperatorFacts | None:
    """Return what computes a tensor that went through a pair of its own; ``None`` where others read it, too."""
    dequantize = graph.producer(tensor)
    if dequantize is None or dequantize.name != DEQUANTIZE or not graph.is_read_once(dequantize):
        return None
    quantize = graph.producer(dequantize.inputs[0])
    if quantize is None or quantize.name != QUANTIZE or not graph.is_read_once(quantize):
        return None
    layer = graph.producer(quantize.inputs[0])
    return layer if layer is not None and graph.is_read_once(layer) else None


def _residuals(graph: OnnxGraph) -> Found:
    for operator in graph.facts.operators:
        inputs = graph.computed_inputs(operator)
        if operator.name != "Add" or len(inputs) < 2 or not graph.facts.quantizers:
            continue
        bare = [tensor for tensor in inputs if not graph.comes_from(tensor, PAIR)]
        if len(bare) == len(inputs) or not all(_is_fused(graph, tensor) for tensor in bare):
            yield f"{_label(operator)} adds a tensor that is not quantized"


def _is_fused(graph: OnnxGraph, tensor: TensorFacts) -> bool:
    """Return whether a layer computes it for this one reader: the addition becomes a part of that layer."""
    layer = graph.producer(tensor)
    return layer is not None and layer.name in WEIGHTED and graph.is_read_once(layer)


def _label(operator: OperatorFacts) -> str:
    return f"{operator.name} ({operator.outputs[0].name})" if operator.outputs else operator.name


def _rule(title: str, source: str, check: Callable[[OnnxGraph], Found]) -> TensorRtRule:
    return TensorRtRule(title=title, confidence=Confidence.DOCUMENTED, source=source, check=check)


TENSORRT_RULES: tuple[TensorRtRule, ...] = (
    TensorRtRule(
        title="no other scheme of quantization than Q/DQ pairs",
        confidence=Confidence.INFERRED,
        source="operators of other schemes are absent from NVIDIA's operator matrix",
        check=_foreign,
    ),
    _rule("signed 8-bit integers", TYPES_PAGE, _signed),
    _rule("zero points of 0", TYPES_PAGE, _symmetric),
    _rule("constant, positive scales", TYPES_PAGE, _known_scales),
    _rule("one scale per activation", TYPES_PAGE, _one_scale_per_activation),
    _rule("scales of weights along the output channels", TYPES_PAGE, _scales_along_outputs),
    _rule("an input quantized where its layer's weights are", TYPES_PAGE, _both_or_none),
    _rule("no pair between a layer and its activation", TYPES_PAGE, _unbroken),
    _rule("residual inputs of additions quantized", RESIDUALS_PAGE, _residuals),
)
