"""Which operators an Edge TPU and tflite-micro take, as data with its sources and how sure it is.

Sources:
- Edge TPU: each line names its own; the notes are the later table's where both have an operator. The compiler is
  closed and frozen at 16.0: nothing here replaces its own log.
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


CORAL_TABLE = "coral.ai, TensorFlow models on the Edge TPU (its first table)"
LATER_TABLE = "developer.axis.com, supported ops of ARTPEC-7 (same silicon family)"
MEMORY = "recalled from a later table of coral.ai that was not found again"
REGISTER = "TensorFlow 2.6, register.cc: what was there when compiler 16.0 was built"
ISSUES = "google-coral/edgetpu issue"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTpuOperator:
    """One line of the Edge TPU table.

    Attributes:
        max_version: Highest operator version that compiler 16.0 is known, or believed, to take.
        confidence: That the Edge TPU has the operator.
        source: Who says so.
        version_confidence: Of ``max_version``.
        version_source: Who says so.
        fused_activation: An activation inside of the operator is accepted.
        constant_weights: Its second input must be constant.
        note: Constraints that only the compiler checks.
    """

    max_version: int
    confidence: Confidence = Confidence.DOCUMENTED
    source: str = CORAL_TABLE
    version_confidence: Confidence = Confidence.INFERRED
    version_source: str = REGISTER
    fused_activation: bool = True
    constant_weights: bool = False
    note: str = ""


def _plain(max_version: int, note: str = "") -> EdgeTpuOperator:
    return EdgeTpuOperator(max_version=max_version, note=note)


def _later(max_version: int, note: str = "") -> EdgeTpuOperator:
    return EdgeTpuOperator(max_version=max_version, note=note, source=LATER_TABLE)


def _unsure(max_version: int, note: str = "") -> EdgeTpuOperator:
    confidence = Confidence.INFERRED
    return EdgeTpuOperator(max_version=max_version, note=note, source=MEMORY, confidence=confidence)


def _unfused(max_version: int, note: str = "") -> EdgeTpuOperator:
    return EdgeTpuOperator(max_version=max_version, fused_activation=False, note=note)


def _weighted(max_version: int, note: str, issue: int | None = None) -> EdgeTpuOperator:
    """Return a line whose highest version is known from an issue, if there is one."""
    known = issue is not None
    return EdgeTpuOperator(
        max_version=max_version,
        constant_weights=True,
        note=note,
        version_confidence=Confidence.ISSUE if known else Confidence.INFERRED,
        version_source=f"{ISSUES} {issue}" if known else REGISTER,
    )


EDGE_TPU_OPERATORS: Mapping[str, EdgeTpuOperator] = {
    "ADD": _plain(4),
    "AVERAGE_POOL_2D": _unfused(3),
    "CONCATENATION": _unfused(3, "of a constant only if it is all zeros, and one of two inputs"),
    "CONV_2D": _weighted(5, "same dilation in x and y", issue=631),
    "DEPTHWISE_CONV_2D": _weighted(6, "same dilation in x and y"),
    "EXPAND_DIMS": _later(1, "newer runtimes only"),
    "FULLY_CONNECTED": _weighted(9, "default weight format; one-dimensional output"),
    "L2_NORMALIZATION": _plain(2),
    "LOGISTIC": _plain(3),
    "MAXIMUM": _plain(4),
    "MAX_POOL_2D": _unfused(3),
    "MEAN": _plain(3, "not over the batch; over z only for a multiple of 4"),
    "MINIMUM": _plain(4),
    "MUL": _plain(5),
    "PACK": _later(2, "not in the batch dimension"),
    "PAD": _plain(4, "not in the batch dimension"),
    "PRELU": _later(1, "one-dimensional alpha"),
    "QUANTIZE": _later(2, "newer runtimes only"),
    "REDUCE_MAX": _later(2, "not over the batch"),
    "REDUCE_MIN": _later(2, "not over the batch"),
    "RELU": _plain(3, f"older compilers failed on version 2 ({ISSUES} 34)"),
    "RELU6": _plain(3),
    "RELU_N1_TO_1": _plain(1),
    "RESHAPE": _plain(1, "may be refused for large tensors"),
    "RESIZE_BILINEAR": _plain(4, "may be refused by size"),
    "RESIZE_NEAREST_NEIGHBOR": _plain(4, "may be refused by size"),
    "RSQRT": _unsure(2),
    "SLICE": _plain(3),
    "SOFTMAX": _plain(3, "one-dimensional input of at most 16,000 elements"),
    "SPACE_TO_DEPTH": _plain(2),
    "SPLIT": _plain(4, "not in the batch dimension"),
    "SQUARED_DIFFERENCE": _unsure(2),
    "SQUEEZE": _plain(1, "leading 1s"),
    "STRIDED_SLICE": _plain(6, "strides of 1, no ellipsis, no new axis"),
    "SUB": _plain(5),
    "SUM": _later(2, "not over the batch"),
    "TANH": _plain(3),
    "TRANSPOSE": _unsure(5),
    "TRANSPOSE_CONV": EdgeTpuOperator(
        max_version=3,
        confidence=Confidence.ISSUE,
        source=f"{ISSUES} 147",
        version_confidence=Confidence.ISSUE,
        version_source=f"{ISSUES} 845",
        constant_weights=True,
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _later(3),
}
"""Operators that the Edge TPU has; what is not here is refused before any work."""

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
