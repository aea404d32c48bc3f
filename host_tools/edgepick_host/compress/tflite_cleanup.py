"""Clean-up of a float ``.tflite`` graph: what a quantizer would otherwise quantize for nothing.

- Operators over constants are computed once, by LiteRT itself.
- A per-channel MUL, ADD or SUB by a constant after a convolution or dense layer (what is left of a batch norm) goes
  into its weights and bias; so does a lone RELU into the operator before it.
- Operators that pass their input on (RESHAPE to the same shape, PAD by nothing, MUL by 1, ...) are taken out.
- Branches that no output needs are dropped, with their constants.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgepick_host.compress import tflite_file
from edgepick_host.compress.quiet import quiet
from edgepick_host.compress.tflite_graph import (
    SIDE_EFFECTS,
    add_buffer,
    add_constant,
    bypass,
    drop_unused,
    holds,
    indices,
    users,
)

WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
FUSING = WEIGHTED | {"ADD", "MUL", "SUB"}
"""Operators that can apply an activation themselves, on every runtime that we serve."""
AFFINE = frozenset({"ADD", "MUL", "SUB"})
ACTIVATIONS = {
    "RELU": schema.ActivationFunctionType.RELU,
    "RELU6": schema.ActivationFunctionType.RELU6,
}
NOT_FOLDED = SIDE_EFFECTS | {"DEQUANTIZE", "QUANTIZE", "IF", "WHILE", "CALL", "MULTINOMIAL", "BUCKETIZE"}
"""Not computed ahead: they act, they draw random numbers, or they make what is stored larger."""

Constant = npt.NDArray[Any]


def cleaned(data: bytes) -> bytes:
    """Return the model with a smaller graph of the same function."""
    model = tflite_file.read(data, Path("model.tflite"))
    graph = model.subgraphs[0]
    _fold_constants(model, graph, data)
    while _rewrite_one(model, graph):
        pass
    drop_unused(model)
    return tflite_file.write(model)


def _fold_constants(model: Any, graph: Any, data: bytes) -> None:
    """Replace what is computed from constants only."""
    known = {i for i, tensor in enumerate(graph.tensors) if tflite_file.constant_bytes(model, tensor) is not None}
    folded: list[Any] = []
    for operator in graph.operators:
        inputs = [i for i in indices(operator.inputs) if i >= 0]
        name = tflite_file.operator_name(model, operator)
        if inputs and known.issuperset(inputs) and name not in NOT_FOLDED and not name.startswith("RANDOM"):
            folded.append(operator)
            known.update(indices(operator.outputs))
    if not folded:
        return
    values = _values(data, [i for operator in folded for i in indices(operator.outputs)])
    for index, array in values.items():
        if holds(array):
            graph.tensors[index].buffer = add_buffer(model, array)
    gone = [each for each in folded if all(holds(values[i]) for i in indices(each.outputs))]
    graph.operators = [each for each in graph.operators if each not in gone]


def _values(data: bytes, wanted: list[int]) -> dict[int, Constant]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet():
        interpreter = Interpreter(
            model_content=data,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
        interpreter.invoke()
    return {index: np.array(interpreter.get_tensor(index)) for index in wanted}


def _rewrite_one(model: Any, graph: Any) -> bool:
    """Make the first rewrite that applies; return whether there was one."""
    return any(
        (_passes_on(model, graph, operator) and bypass(graph, operator))
        or _fuse_activation(model, graph, operator)
        or _fold_affine(model, graph, operator)
        for operator in list(graph.operators)
    )


def _passes_on(model: Any, graph: Any, operator: Any) -> bool:
    rule = _IDENTITY.get(tflite_file.operator_name(model, operator))
    if rule is None or getattr(operator.builtinOptions, "fusedActivationFunction", None):
        return False
    source, target = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    if source.type != target.type or indices(source.shape) != indices(target.shape):
        return False
    operand = _operand(model, graph, operator, 1)
    return rule is _always if operand is None else bool(rule(operand))


def _always(_operand: Constant) -> bool:
    return True


def _nothing(operand: Constant) -> bool:
    return not operand.any()


def _one(operand: Constant) -> bool:
    return bool((operand == 1).all())


def _in_order(operand: Constant) -> bool:
    return bool((operand == np.arange(len(operand))).all())


_IDENTITY: Mapping[str, Callable[[Constant], bool]] = {
    "ADD": _nothing,
    "CAST": _always,
    "DIV": _one,
    "MUL": _one,
    "PAD": _nothing,
    "RESHAPE": _always,
    "SUB": _nothing,
    "TRANSPOSE": _in_order,
}
"""Operator -> whether its second input makes it pass the first one on, when type and shape stay as they are."""


def _operand(model: Any, graph: Any, operator: Any, position: int) -> Constant | None:
    """Return a constant input."""
    inputs = indices(operator.inputs)
    if len(inputs) <= position or inputs[position] < 0:
        return None
    tensor = graph.tensors[inputs[position]]
    data = tflite_file.constant_bytes(model, tensor)
    kind = tflite_file.tensor_type(tensor)
    if data is None or kind not in {"float32", "int32", "int64"}:
        return None
    array: Constant = data.view(np.dtype(kind)).reshape(indices(tensor.shape))
    return array


def _only_producer(model: Any, graph: Any, tensor: int, kinds: frozenset[str]) -> Any:
    """Return the operator of one of ``kinds`` that computes a tensor for one reader, without an activation."""
    if len(users(graph, tensor)) != 1 or tensor in indices(graph.outputs):
        return None
    producer = next((each for each in graph.operators if tensor in indices(each.outputs)), None)
    if producer is None or tflite_file.operator_name(model, producer) not in kinds:
        return None
    return None if producer.builtinOptions.fusedActivationFunction else producer


def _fuse_activation(model: Any, graph: Any, operator: Any) -> bool:
    activation = ACTIVATIONS.get(tflite_file.operator_name(model, operator))
    producer = activation and _only_producer(model, graph, int(operator.inputs[0]), FUSING)
    if not producer:
        return False
    producer.builtinOptions.fusedActivationFunction = activation
    _replace(graph, operator, producer)
    return True


def _fold_affine(model: Any, graph: Any, operator: Any) -> bool:
    name = tflite_file.operator_name(model, operator)
    if name not in AFFINE:
        return False
    # MUL and ADD may have the constant on either side; a constant less a layer is not folded.
    sides = (1, 0) if name != "SUB" else (1,)
    side = next((side for side in sides if _operand(model, graph, operator, side) is not None), None)
    if side is None:
        return False
    layer = _only_producer(model, graph, int(operator.inputs[1 - side]), WEIGHTED)
    constant = _operand(model, graph, operator, side)
    if layer is None or constant is None or not _foldable(model, graph, layer, operator, constant):
        return False
    _change_layer(model, graph, layer, name, constant.reshape(-1))
    layer.builtinOptions.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
    _replace(graph, operator, layer)
    return True


def _foldable(model: Any, graph: Any, layer: Any, operator: Any, constant: Constant) -> bool:
    """Return whether the constant is one number per output channel, or one for all, and changes no shape."""
    before, after = (indices(graph.tensors[each.outputs[0]].shape) for each in (layer, operator))
    per_channel = constant.size == 1 or (constant.size == before[-1] == constant.shape[-1])
    weights = _operand(model, graph, layer, 1)
    computed_bias = any(i >= 0 for i in indices(layer.inputs)[2:]) and _operand(model, graph, layer, 2) is None
    is_float = weights is not None and weights.dtype == np.float32
    return before == after and per_channel and is_float and not computed_bias


def _change_layer(model: Any, graph: Any, layer: Any, name: str, constant: Constant) -> None:
    """Give the layer new constants of its own: others may read the old ones."""
    weights, bias = _operand(model, graph, layer, 1), _operand(model, graph, layer, 2)
    depthwise = tflite_file.operator_name(model, layer) == "DEPTHWISE_CONV_2D"
    channels = int(graph.tensors[layer.outputs[0]].shape[-1])
    bias = np.zeros(channels, dtype=np.float32) if bias is None else bias.reshape(-1)
    if weights is None:
        raise AssertionError("checked before")
    if name == "MUL":
        shape = (-1,) if depthwise else (-1, *([1] * (weights.ndim - 1)))
        weights, bias = weights * np.broadcast_to(constant, channels).reshape(shape), bias * constant
    else:
        bias = bias + constant if name == "ADD" else bias - constant
    label = tflite_file.tensor_name(graph.tensors[layer.outputs[0]])
    layer.inputs = [
        int(layer.inputs[0]),
        add_constant(model, graph, f"{label}_weights", weights.astype(np.float32)),
        add_constant(model, graph, f"{label}_bias", bias.astype(np.float32)),
    ]


def _replace(graph: Any, operator: Any, producer: Any) -> None:
    """Let the producer write what the operator wrote, and take the operator out."""
    producer.outputs = indices(operator.outputs)
    graph.operators = [each for each in graph.operators if each is not operator]
