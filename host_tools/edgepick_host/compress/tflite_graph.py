"""Changing the graph of a parsed ``.tflite`` model: new tensors, replaced ones, and dropping what nothing uses."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgepick_host.compress import tflite_file

SIDE_EFFECTS = frozenset({"ASSIGN_VARIABLE", "CALL_ONCE", "CUSTOM", "DELEGATE", "HASHTABLE_IMPORT", "VAR_HANDLE"})
"""Operators that matter although nothing may use their outputs."""

_TYPES = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32, "int64": schema.TensorType.INT64,
          "bool": schema.TensorType.BOOL, "int8": schema.TensorType.INT8}  # fmt: skip


def add_tensor(graph: Any, name: str, shape: Sequence[int], kind: int) -> int:
    """Return the index of a new tensor that an operator computes."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), kind, 0
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def add_constant(model: Any, graph: Any, name: str, array: npt.NDArray[Any]) -> int:
    """Return the index of a new constant tensor with the content of ``array``."""
    index = add_tensor(graph, name, array.shape, _TYPES[str(array.dtype)])
    graph.tensors[index].buffer = add_buffer(model, array)
    return index


def add_buffer(model: Any, array: npt.NDArray[Any]) -> int:
    """Return the index of a new buffer with the content of ``array``."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def holds(array: npt.NDArray[Any]) -> bool:
    """Return whether a constant of this type can be added."""
    return str(array.dtype) in _TYPES


def users(graph: Any, tensor: int) -> list[Any]:
    """Return the operators that read a tensor."""
    return [operator for operator in graph.operators if tensor in indices(operator.inputs)]


def indices(values: Any) -> list[int]:
    """Return a list of tensor indices as plain numbers; an operator without any has ``None``."""
    return [] if values is None else [int(i) for i in values]


def bypass(graph: Any, operator: Any) -> bool:
    """Take out an operator that passes its first input on; return whether that was possible.

    The model's inputs and outputs keep their tensors: an operator between an input and an output stays.
    """
    source, target = int(operator.inputs[0]), int(operator.outputs[0])
    if target in indices(graph.outputs):
        producer = next((each for each in graph.operators if source in indices(each.outputs)), None)
        if producer is None or source in indices(graph.outputs) or len(users(graph, source)) > 1:
            return False
        producer.outputs = [target if i == source else i for i in indices(producer.outputs)]
    else:
        for user in users(graph, target):
            user.inputs = [source if i == target else i for i in indices(user.inputs)]
    graph.operators = [each for each in graph.operators if each is not operator]
    return True


def drop_unused(model: Any) -> int:
    """Drop the operators, tensors and buffers that no output of the model needs; return how many operators."""
    dropped = sum(_drop_operators(model, graph) for graph in model.subgraphs)
    for number, graph in enumerate(model.subgraphs):
        _drop_tensors(model, graph, number)
    _drop_buffers(model)
    return dropped


def _drop_operators(model: Any, graph: Any) -> int:
    needed, kept = set(indices(graph.outputs)), []
    for operator in reversed(graph.operators):
        outputs = indices(operator.outputs)
        if needed.intersection(outputs) or not outputs or _acts(model, operator):
            needed.update(indices(operator.inputs))
            kept.append(operator)
    dropped = len(graph.operators) - len(kept)
    graph.operators = kept[::-1]
    return dropped


def _acts(model: Any, operator: Any) -> bool:
    custom = model.operatorCodes[operator.opcodeIndex].customCode
    return bool(custom) or tflite_file.operator_name(model, operator) in SIDE_EFFECTS


def _drop_tensors(model: Any, graph: Any, number: int) -> None:
    signatures = [each for each in model.signatureDefs or [] if int(each.subgraphIndex or 0) == number]
    entries = [entry for each in signatures for entry in (*(each.inputs or []), *(each.outputs or []))]
    fields = [(operator, name) for operator in graph.operators for name in ("inputs", "outputs", "intermediates")]
    fields += [(graph, "inputs"), (graph, "outputs")]
    used = {int(entry.tensorIndex) for entry in entries}
    used.update(i for owner, name in fields for i in indices(getattr(owner, name)))
    new = _renumbered(used, len(graph.tensors))
    graph.tensors = [tensor for i, tensor in enumerate(graph.tensors) if i in new]
    for owner, name in fields:
        if getattr(owner, name) is not None:
            setattr(owner, name, [new.get(i, i) for i in indices(getattr(owner, name))])
    for entry in entries:
        entry.tensorIndex = new[int(entry.tensorIndex)]


def _drop_buffers(model: Any) -> None:
    owners = [tensor for graph in model.subgraphs for tensor in graph.tensors] + list(model.metadata or [])
    new = _renumbered({0, *(int(owner.buffer) for owner in owners)}, len(model.buffers))
    model.buffers = [buffer for i, buffer in enumerate(model.buffers) if i in new]
    for owner in owners:
        owner.buffer = new[int(owner.buffer)]


def _renumbered(used: Iterable[int], count: int) -> dict[int, int]:
    """Return old -> new index of what is used; the -1 of an absent input is none of it."""
    return {old: new for new, old in enumerate(sorted(i for i in used if 0 <= i < count))}
