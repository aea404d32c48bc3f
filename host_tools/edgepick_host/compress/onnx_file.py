"""ONNX files as protobuf messages: read, normalise, describe, write. Knows the format, not the quantizer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from edgepick_host.core.model_facts import ModelFacts, OperatorFacts, QuantizerFacts, TensorFacts
from edgepick_host.errors import InputFileError
from edgepick_wire.manifest import ModelFormat

QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_UNSEEN_TYPE = "unknown"

Model = Any
"""An ``onnx.ModelProto``."""


def read(data: bytes, path: Path) -> Model:
    """Return the model in ``data``.

    Raises:
        InputFileError: Not an ONNX model, a damaged one, or one whose weights lie in other files.
    """
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise InputFileError(f"{path}: not an ONNX model, or a truncated one ({len(data)} bytes)") from error
    if not model.graph.node:
        raise InputFileError(f"{path}: not an ONNX model (it holds no graph)")
    if _external(model):
        raise InputFileError(
            f"{path}: weights are stored outside of the file", hint="Save the model again with everything in one file."
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise InputFileError(f"{path}: the ONNX model is not valid: {first}") from error
    return model


def _external(model: Model) -> int:
    return sum(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer)


def write(model: Model) -> bytes:
    """Return the model as bytes, the same for the same content."""
    return bytes(model.SerializeToString(deterministic=True))


def drop_unused(graph: Any) -> None:
    """Drop, in place, the nodes and constants that no output of the graph needs."""
    needed = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input, *(_read_inside(attribute) for attribute in node.attribute))
    for tensor in [each for each in graph.initializer if each.name not in needed]:
        graph.initializer.remove(tensor)


def _read_inside(attribute: Any) -> set[str]:
    """Return the names that the bodies of an ``If`` or ``Loop`` read; some of them come from outside."""
    bodies = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    nodes = [node for body in bodies for node in body.node]
    names = {name for node in nodes for name in node.input} | {value.name for body in bodies for value in body.output}
    return names.union(*(_read_inside(inner) for node in nodes for inner in node.attribute))


def normalise(model: Model, path: Path) -> None:
    """Fix, in place, an open batch size to 1 and infer every shape anew.

    Raises:
        InputFileError: Sizes other than the batch's are open, or the batch is larger than 1.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    for value in inputs:
        _fix_batch(value, path)
    for value in model.graph.output:
        _open_sizes(value)
    del model.graph.value_info[:]
    model.CopyFrom(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    model.doc_string = ""


def _fix_batch(value: Any, path: Path) -> None:
    sizes = value.type.tensor_type.shape.dim
    shape = [size.dim_value or size.dim_param or "?" for size in sizes]
    if any(not size.dim_value for size in sizes[1:]):
        raise InputFileError(
            f"{path}: input {value.name!r} has open sizes {shape}; only the batch may be open",
            hint="Export the model with a fixed input size.",
        )
    if not sizes or sizes[0].dim_value > 1:
        raise InputFileError(
            f"{path}: input {value.name!r} has the shape {shape}; the first size must be a batch of 1",
            hint="Export the model with a batch of 1.",
        )
    sizes[0].dim_value = 1


def _open_sizes(value: Any) -> None:
    """Forget an output's symbolic sizes, so that inference can fill in the fixed ones."""
    for size in value.type.tensor_type.shape.dim:
        if size.dim_param:
            size.ClearField("dim_param")


def describe(data: bytes, path: Path) -> ModelFacts:
    """Return the facts of an ONNX file.

    Raises:
        InputFileError: As :func:`read`.
    """
    model = read(data, path)
    graph = model.graph
    constants = {tensor.name: _constant(tensor) for tensor in graph.initializer}
    known = {value.name: _value(value) for value in (*graph.input, *graph.output, *graph.value_info)} | constants
    return ModelFacts(
        format=ModelFormat.ONNX,
        size_bytes=len(data),
        opset=max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0),
        inputs=tuple(_value(value) for value in graph.input if value.name not in constants),
        outputs=tuple(_value(value) for value in graph.output),
        tensors=tuple(known.values()),
        operators=tuple(_operator(node, known, model) for node in graph.node),
        external_buffers=_external(model),
        quantizers=tuple(_quantizers(model)),
    )


def _operator(node: Any, known: dict[str, TensorFacts], model: Model) -> OperatorFacts:
    version = next((entry.version for entry in model.opset_import if entry.domain == node.domain), 0)
    return OperatorFacts(
        name=node.op_type,
        version=version,
        inputs=tuple(known.get(name) or _unseen(name) for name in node.input),
        outputs=tuple(known.get(name) or _unseen(name) for name in node.output),
    )


def _unseen(name: str) -> TensorFacts:
    """Return a tensor that shape inference did not reach, or an optional one that is left out."""
    return TensorFacts(name=name, dtype=_UNSEEN_TYPE, shape=())


def _constant(tensor: Any) -> TensorFacts:
    return TensorFacts(
        name=tensor.name, dtype=_type_name(tensor.data_type), shape=tuple(int(n) for n in tensor.dims), constant=True
    )


def _value(value: Any) -> TensorFacts:
    tensor = value.type.tensor_type
    shape = tuple(int(size.dim_value) or -1 for size in tensor.shape.dim)
    return TensorFacts(name=value.name, dtype=_type_name(tensor.elem_type), shape=shape)


def _type_name(number: int) -> str:
    name = str(TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64", "undefined": _UNSEEN_TYPE}.get(name, name)


def _quantizers(model: Model) -> Iterator[QuantizerFacts]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in QUANTIZERS:
            yield _quantizer(node, constants)


def _quantizer(node: Any, constants: Mapping[str, Any]) -> QuantizerFacts:
    zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
    stored = constants.get(node.input[1])
    scales = None if stored is None else numpy_helper.to_array(stored)
    return QuantizerFacts(
        name=node.name or node.output[0],
        # Without a zero point the specification's default is uint8.
        dtype="uint8" if zero_point is None else _type_name(zero_point.data_type),
        zero_points_are_zero=zero_point is not None and not np.any(numpy_helper.to_array(zero_point)),
        output=node.output[0],
        scales=0 if scales is None else int(scales.size),
        scales_are_positive=scales is not None and bool(np.all(np.isfinite(scales) & (scales > 0))),
        axis=next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 1),
    )
