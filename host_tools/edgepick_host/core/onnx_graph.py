"""Who computes and who reads each tensor of an ONNX model, from its facts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepick_host.core.model_facts import ModelFacts, OperatorFacts, TensorFacts

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
PAIR = frozenset({QUANTIZE, DEQUANTIZE})
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that TensorRT computes in integers from dequantized inputs and weights."""

ACTIVATIONS = frozenset({"Relu", "Clip"})
"""Operators that are part of the one before them, where nobody else reads it."""

OTHER_TYPES = frozenset({"int32", "int64", "bool", "string"})
"""Of tensors that hold indices, sizes and conditions, which need no quantization."""


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """The graph, indexed by tensor names."""

    facts: ModelFacts
    producers: Mapping[str, OperatorFacts]
    readers: Mapping[str, tuple[OperatorFacts, ...]]

    def producer(self, tensor: TensorFacts) -> OperatorFacts | None:
        """Return what computes a tensor; nothing for inputs and constants."""
        return self.producers.get(tensor.name)

    def comes_from(self, tensor: TensorFacts, kinds: frozenset[str]) -> bool:
        """Return whether an operator of these kinds computes it."""
        found = self.producer(tensor)
        return found is not None and found.name in kinds

    def is_read_once(self, operator: OperatorFacts) -> bool:
        """Return whether just one operator reads what this one computes, and the model does not put it out."""
        names = {tensor.name for tensor in operator.outputs}
        count = sum(len(self.readers.get(name, ())) for name in names)
        return count == 1 and names.isdisjoint(tensor.name for tensor in self.facts.outputs)

    def computed_inputs(self, operator: OperatorFacts) -> tuple[TensorFacts, ...]:
        """Return the real-valued tensors that it reads and that are not constant."""
        return tuple(
            tensor
            for tensor in operator.inputs
            if tensor.name and not tensor.constant and tensor.dtype not in OTHER_TYPES and not self._is_constant(tensor)
        )

    def _is_constant(self, tensor: TensorFacts) -> bool:
        """Return whether it is a constant that was only dequantized."""
        found = self.producer(tensor)
        if found is None:
            return False
        return found.name == "Constant" or (found.name == DEQUANTIZE and found.inputs[0].constant)


def graph_of(facts: ModelFacts) -> OnnxGraph:
    """Return the graph of an ONNX model."""
    producers = {tensor.name: operator for operator in facts.operators for tensor in operator.outputs}
    readers: dict[str, list[OperatorFacts]] = {}
    for operator in facts.operators:
        for tensor in operator.inputs:
            readers.setdefault(tensor.name, []).append(operator)
    return OnnxGraph(facts, producers, {name: tuple(found) for name, found in readers.items()})
