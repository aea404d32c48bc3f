"""Which operators an Edge TPU and tflite-micro take, as data with its sources and how sure it is.

Sources:
- Edge TPU: the table of coral.ai's "TensorFlow models on the Edge TPU" as archived, united with Axis' ARTPEC-7
  notes (same silicon family); version gates from google-coral/edgetpu issues #631 and #845 and from TensorFlow
  2.5/2.6's ``register.cc``. The compiler is closed and frozen at 16.0: nothing here replaces its own log.
- tflite-micro: ``tensorflow/lite/micro/micro_mutable_op_resolver.h`` at 90b983c; the interpreter is the judge, this
  table only says no before any work is done.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepick_wire.enums import StrEnum


class Confidence(StrEnum):
    """How sure a rule about a device is, none of which was here."""

    DOCUMENTED = "documented"
    """The vendor says so."""
    ISSUE = "issue"
    """Users report it in the vendor's issues."""
    INFERRED = "inferred"
    """Concluded from other facts, or from memory of a page that was not at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTpuOperator:
    """One line of the Edge TPU table.

    Attributes:
        max_version: Highest operator version that compiler 16.0 is known to take.
        fused_activation: An activation inside of the operator is accepted.
        constant_weights: Its second input must be constant.
        note: Constraints that are not checked here.
    """

    max_version: int
    confidence: Confidence = Confidence.DOCUMENTED
    fused_activation: bool = True
    constant_weights: bool = False
    note: str = ""


def _plain(max_version: int, note: str = "") -> EdgeTpuOperator:
    return EdgeTpuOperator(max_version=max_version, note=note)


def _unsure(max_version: int, note: str = "") -> EdgeTpuOperator:
    return EdgeTpuOperator(max_version=max_version, note=note, confidence=Confidence.INFERRED)


def _convolution(max_version: int) -> EdgeTpuOperator:
    return EdgeTpuOperator(max_version=max_version, constant_weights=True, note="same dilation in x and y")


def _unfused(max_version: int) -> EdgeTpuOperator:
    return EdgeTpuOperator(max_version=max_version, fused_activation=False)


EDGE_TPU_OPERATORS: Mapping[str, EdgeTpuOperator] = {
    "ADD": _plain(4),
    "SUB": _plain(5),
    "MUL": _plain(5),
    "MAXIMUM": _plain(4),
    "MINIMUM": _plain(4),
    "LOGISTIC": _plain(3),
    "TANH": _plain(3),
    "RELU": EdgeTpuOperator(max_version=3, note="older compilers failed on version 2 (#34)"),
    "RELU6": _plain(3),
    "RELU_N1_TO_1": _plain(1),
    "L2_NORMALIZATION": _plain(2),
    "SLICE": _plain(3),
    "SPACE_TO_DEPTH": _plain(2),
    "AVERAGE_POOL_2D": _unfused(3),
    "MAX_POOL_2D": _unfused(3),
    "CONCATENATION": _unfused(3),
    "CONV_2D": _convolution(5),
    "DEPTHWISE_CONV_2D": _convolution(6),
    "FULLY_CONNECTED": EdgeTpuOperator(
        max_version=9, constant_weights=True, note="default weight format; one-dimensional output"
    ),
    "EXPAND_DIMS": _plain(1, "newer runtimes only"),
    "QUANTIZE": _plain(2, "newer runtimes only"),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _plain(3),
    "MEAN": _plain(3, "not over the batch; over z only for a multiple of 4"),
    "PACK": _plain(2, "not in the batch dimension"),
    "PAD": _plain(4, "not in the batch dimension"),
    "SPLIT": _plain(4, "not in the batch dimension"),
    "PRELU": _plain(1, "one-dimensional alpha"),
    "REDUCE_MAX": _plain(2, "not over the batch"),
    "REDUCE_MIN": _plain(2, "not over the batch"),
    "SUM": _plain(2, "not over the batch"),
    "RESHAPE": _plain(1, "may be refused for large tensors"),
    "RESIZE_BILINEAR": _plain(4, "may be refused by size"),
    "RESIZE_NEAREST_NEIGHBOR": _plain(4, "may be refused by size"),
    "SOFTMAX": _plain(3, "one-dimensional input of at most 16,000 elements"),
    "SQUEEZE": _plain(1, "leading 1s"),
    "STRIDED_SLICE": _plain(6, "strides of 1, no ellipsis, no new axis"),
    "RSQRT": _unsure(2),
    "SQUARED_DIFFERENCE": _unsure(2),
    "TRANSPOSE": _unsure(5),
    "TRANSPOSE_CONV": EdgeTpuOperator(
        max_version=3, confidence=Confidence.ISSUE, constant_weights=True, note="version 4 fails (#845)"
    ),
}

TFLM_OPERATORS = frozenset(
    """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
    BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED
    GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX
    SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF
    TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
    """.split()  # noqa: SIM905 - a block of a hundred names reads better than a hundred lines of quotes
)

TFLM_WITHOUT_INT8 = frozenset(
    {
        "CEIL", "COS", "EXP", "FLOOR", "FLOOR_DIV", "FLOOR_MOD", "L2_POOL_2D", "LOG", "ROUND", "SIN", "SQRT", "SQUARE",
    }
)  # fmt: skip
"""Present in tflite-micro, but without an int8 kernel."""

ONNX_QUANTIZED = frozenset(
    """
    Add ArgMax AveragePool BatchNormalization Clip Concat Conv ConvTranspose CumSum EmbedLayerNormalization Flatten
    Gather GatherElements Gemm GlobalAveragePool InstanceNormalization LayerNormalization LeakyRelu MatMul MaxPool Mul
    Pad Relu Reshape Resize Sigmoid Slice Softmax Split Squeeze TopK Transpose Unsqueeze Where
    """.split()  # noqa: SIM905 - a block of names reads better than as many quotes
)
"""Operators for which onnxruntime.quantization has a rule (1.31, ``registry.py``); a test compares them."""

_METHODS = {
    "BATCH_MATMUL": "AddBatchMatMul",
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
"""Methods of ``MicroMutableOpResolver`` whose names do not follow from the operator's."""


def resolver_method(operator: str) -> str:
    """Return the method of ``MicroMutableOpResolver`` that registers an operator: ``CONV_2D`` -> ``AddConv2D``."""
    parts = (part if part[0].isdigit() else part.capitalize() for part in operator.split("_"))
    return _METHODS.get(operator, "Add" + "".join(parts))
