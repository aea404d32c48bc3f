"""What a model file is, as plain values that rules can be checked against. Pure."""

from dataclasses import dataclass

from edgepick_wire.manifest import ModelFormat

FLOAT_TYPES = frozenset({"float16", "float32", "float64", "bfloat16"})
NARROW_TYPES = frozenset({"int4", "uint4", "int8", "uint8", "float16", "bfloat16"})
"""Types of constants that only a compressed model has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFacts:
    """One tensor.

    Attributes:
        dtype: "float32", "int8", ...; "unknown" where an ONNX file does not tell.
        shape: Sizes; -1 where the file leaves one open.
        constant: Its content is in the file.
        channel_scales: Number of quantization scales (1 is per tensor, 0 is not quantized).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool = False
    channel_scales: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFacts:
    """One node of the graph.

    Attributes:
        name: The format's own name ("CONV_2D", "Conv").
        version: Operator version of the file (``.tflite``) or of the operator set (ONNX).
        fused_activation: An activation that the operator applies itself ("NONE" for none).
        inputs: Tensors it reads.
        outputs: Tensors it writes.
    """

    name: str
    version: int
    fused_activation: str = "NONE"
    inputs: tuple[TensorFacts, ...] = ()
    outputs: tuple[TensorFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizerFacts:
    """One QuantizeLinear or DequantizeLinear node of an ONNX graph.

    Attributes:
        dtype: Type on its quantized side.
        zero_points_are_zero: Every zero point is stored, known and 0.
        output: Name of the tensor that it computes.
        scales: Number of its scales; 1 is per tensor, 0 is not known from the file.
        scales_are_positive: Every scale is stored, finite and above 0.
        axis: Of the scales, where there are several.
    """

    name: str
    dtype: str
    zero_points_are_zero: bool
    output: str = ""
    scales: int = 1
    scales_are_positive: bool = True
    axis: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Everything that is checked about one model file.

    Attributes:
        size_bytes: Size of the file.
        opset: Version of ONNX's default operator set; 0 for ``.tflite``.
        tensors: Every tensor, of every subgraph.
        external_buffers: Constants that lie outside of the FlatBuffer or the protobuf message.
        saturated_biases: Constant int32 biases with a value at the end of the int32 range.
        quantizers: Q/DQ nodes (ONNX).
    """

    format: ModelFormat
    size_bytes: int
    opset: int = 0
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    tensors: tuple[TensorFacts, ...]
    operators: tuple[OperatorFacts, ...]
    external_buffers: int = 0
    saturated_biases: tuple[str, ...] = ()
    quantizers: tuple[QuantizerFacts, ...] = ()

    @property
    def operator_names(self) -> frozenset[str]:
        """The kinds of operators in the graph."""
        return frozenset(operator.name for operator in self.operators)

    @property
    def float_tensors(self) -> tuple[TensorFacts, ...]:
        """Tensors of a floating-point type, constants included."""
        return tuple(tensor for tensor in self.tensors if tensor.dtype in FLOAT_TYPES)

    @property
    def narrow_constants(self) -> tuple[TensorFacts, ...]:
        """Constants of a type that only compressed models have."""
        return tuple(tensor for tensor in self.tensors if tensor.constant and tensor.dtype in NARROW_TYPES)
