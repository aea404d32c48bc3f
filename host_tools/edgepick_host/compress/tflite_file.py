"""``.tflite`` files as FlatBuffer objects: read, normalise, describe, write. Knows the format, not the quantizer.

Reading is done in pure Python, where a truncated file is an exception and not a crash; no runtime sees bytes that
did not pass here.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgepick_host.core.model_facts import ModelFacts, OperatorFacts, TensorFacts
from edgepick_host.errors import InputFileError
from edgepick_wire.manifest import ModelFormat

MAGIC = b"TFL3"
SIGNATURE = "serving_default"
INT32_END = 2**31 - 1

_BITS = {"INT4": 4, "UINT4": 4, "INT2": 2}
_ACTIVATIONS = {v: k for k, v in vars(schema.ActivationFunctionType).items() if not k.startswith("_")}
_TYPES = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
_OPERATORS = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}

Model = Any
"""A ``schema.ModelT``; the generated module has no types."""


def read(data: bytes, path: Path) -> Model:
    """Return the model in ``data``.

    Args:
        data: The whole file.
        path: Where it came from, for messages.

    Raises:
        InputFileError: Not a ``.tflite`` file, or a damaged one.
    """
    if len(data) < 8 or data[4:8] != MAGIC:
        raise InputFileError(f"{path}: not a .tflite model (no {MAGIC.decode()!r} at byte 4)")
    try:
        _check_extents(schema.Model.GetRootAs(data, 0), len(data))
        model = flatbuffer_utils.read_model_from_bytearray(data)
        _check_references(model)
        _check_constants(model)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise InputFileError(
            f"{path}: the .tflite model is damaged or truncated ({len(data)} bytes)",
            hint="Copy or export it again.",
        ) from error
    return model


def _check_extents(model: Any, size: int) -> None:
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.Offset() > 1 and buffer.Offset() + buffer.Size() > size:
            raise ValueError(f"buffer {i} ends behind the file")


def _check_references(model: Model) -> None:
    """Refuse what names a tensor, an operator's code or a buffer that is not there; -1 is an input left out."""
    if not model.subgraphs or not model.subgraphs[0].operators:
        raise ValueError("no operators")
    for graph in model.subgraphs:
        inner = graph.operators or []
        named = _indices(graph.inputs) + _indices(graph.outputs)
        named += [i for operator in inner for i in _indices(operator.inputs) if i != -1]
        named += [i for operator in inner for i in _indices(operator.outputs)]
        _check_within(named, graph.tensors)
        _check_within([operator.opcodeIndex for operator in inner], model.operatorCodes)
        _check_within([tensor.buffer for tensor in graph.tensors], model.buffers)


def _check_within(indices: list[int], what: Any) -> None:
    if not all(0 <= i < len(what) for i in indices):
        raise IndexError("something is named that is not in the file")


def _check_constants(model: Model) -> None:
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            _check_size(tensor, constant_bytes(model, tensor))


def _check_size(tensor: Any, data: Any) -> None:
    name = _TYPES[tensor.type]
    if data is None or name in {"STRING", "RESOURCE", "VARIANT"} or tensor.sparsity is not None:
        return
    bits = _BITS.get(name) or np.dtype(name.lower().replace("bool", "bool_")).itemsize * 8
    if len(data) < int(np.prod(_shape(tensor), dtype=np.int64)) * bits // 8:
        raise ValueError(f"tensor {tensor_name(tensor)} is longer than its buffer")


def constant_bytes(model: Model, tensor: Any) -> Any:
    """Return the stored bytes of a tensor as ``uint8`` array, or ``None`` if it is computed."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else np.frombuffer(bytes(data), dtype=np.uint8)


def write(model: Model) -> bytes:
    """Return the model as one self-contained file: every buffer inside of the FlatBuffer."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def normalise(model: Model, path: Path) -> None:
    """Mend, in place, what breaks quantizers and old runtimes without changing the function.

    - Operators named only in the deprecated field get named in the current one too: the quantizer reads no other,
      and silently does nothing.
    - A model without signature gets one: calibration needs it.
    - An open batch size becomes 1.

    Raises:
        InputFileError: Sizes other than the batch's are open, or the batch is larger than 1.
    """
    for code in model.operatorCodes:
        code.builtinCode = flatbuffer_utils.get_builtin_code_from_operator_code(code)
    graph = model.subgraphs[0]
    for index in graph.inputs:
        _check_input(graph.tensors[index], path)
    for each in model.subgraphs:
        for tensor in each.tensors:
            tensor.shapeSignature = None
    if not model.signatureDefs:
        model.signatureDefs = [_signature(graph)]


def _check_input(tensor: Any, path: Path) -> None:
    shape = _shape(tensor)
    open_sizes = [int(n) for n in tensor.shapeSignature] if tensor.shapeSignature is not None else list(shape)
    if -1 in open_sizes[1:] or -1 in shape[1:]:
        raise InputFileError(
            f"{path}: input {tensor_name(tensor)!r} has open sizes {open_sizes}; only the batch may be open",
            hint="Export the model with a fixed input size.",
        )
    if not shape or shape[0] != 1:
        raise InputFileError(
            f"{path}: input {tensor_name(tensor)!r} has the shape {list(shape)}; the first size must be a batch of 1",
            hint="Export the model with a batch of 1.",
        )


def _signature(graph: Any) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs = [_entry(tensor_name(graph.tensors[i]), i) for i in graph.inputs]
    signature.outputs = [_entry(tensor_name(graph.tensors[i]), i) for i in graph.outputs]
    return signature


def _entry(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = name
    entry.tensorIndex = int(index)
    return entry


def tensor_type(tensor: Any) -> str:
    """Return a tensor's type in numpy's words, e.g. ``int8``."""
    return str(_TYPES[tensor.type]).lower()


def operator_name(model: Model, operator: Any) -> str:
    """Return an operator's name, e.g. ``CONV_2D``; a custom operator's own name."""
    code = model.operatorCodes[operator.opcodeIndex]
    number = flatbuffer_utils.get_builtin_code_from_operator_code(code)
    if number == schema.BuiltinOperator.CUSTOM:
        return _text(code.customCode)
    return builtin_name(number)


def builtin_name(number: int) -> str:
    """Return the name of a built-in operator."""
    return str(_OPERATORS.get(number, f"OPERATOR_{number}"))


def describe(data: bytes, path: Path) -> ModelFacts:
    """Return the facts of a ``.tflite`` file.

    Raises:
        InputFileError: As :func:`read`.
    """
    model = read(data, path)
    main = model.subgraphs[0]
    names = _input_names(model)
    return ModelFacts(
        format=ModelFormat.TFLITE,
        size_bytes=len(data),
        inputs=tuple(_tensor(model, main.tensors[i], names.get(int(i))) for i in main.inputs),
        outputs=tuple(_tensor(model, main.tensors[i]) for i in main.outputs),
        tensors=tuple(_tensor(model, tensor) for graph in model.subgraphs for tensor in graph.tensors),
        operators=tuple(_operator(model, graph, op) for graph in model.subgraphs for op in graph.operators),
        external_buffers=_external_buffers(data),
        saturated_biases=tuple(saturated_biases(model)),
    )


def _input_names(model: Model) -> dict[int, str]:
    if not model.signatureDefs:
        return {}
    return {int(entry.tensorIndex): _text(entry.name) for entry in model.signatureDefs[0].inputs}


def _external_buffers(data: bytes) -> int:
    model = schema.Model.GetRootAs(data, 0)
    return sum(model.Buffers(i).Offset() > 1 for i in range(model.BuffersLength()))


def saturated_biases(model: Model) -> Iterator[str]:
    """Yield the names of constant int32 and int64 tensors with a scale that reach the end of the int32 range."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = constant_bytes(model, tensor)
            if data is None or _channel_scales(tensor) == 0 or _TYPES[tensor.type] not in {"INT32", "INT64"}:
                continue
            values = data.view(_TYPES[tensor.type].lower()).astype(np.float64)
            if np.abs(values).max() >= INT32_END:
                yield tensor_name(tensor)


def _operator(model: Model, graph: Any, operator: Any) -> OperatorFacts:
    fused = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
    return OperatorFacts(
        name=operator_name(model, operator),
        version=int(model.operatorCodes[operator.opcodeIndex].version),
        fused_activation=_ACTIVATIONS.get(fused, "NONE"),
        inputs=tuple(_tensor(model, graph.tensors[i]) for i in _indices(operator.inputs) if i >= 0),
        outputs=tuple(_tensor(model, graph.tensors[i]) for i in _indices(operator.outputs)),
    )


def _tensor(model: Model, tensor: Any, name: str | None = None) -> TensorFacts:
    return TensorFacts(
        name=name or tensor_name(tensor),
        dtype=tensor_type(tensor),
        shape=_shape(tensor),
        constant=constant_bytes(model, tensor) is not None,
        channel_scales=_channel_scales(tensor),
    )


def _channel_scales(tensor: Any) -> int:
    quantization = tensor.quantization
    return 0 if quantization is None or quantization.scale is None else len(quantization.scale)


def _indices(values: Any) -> list[int]:
    return [] if values is None else [int(i) for i in values]


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(_indices(tensor.shape))


def tensor_name(tensor: Any) -> str:
    """Return a tensor's name."""
    return _text(tensor.name)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
