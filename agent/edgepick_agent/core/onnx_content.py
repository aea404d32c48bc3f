"""Which operators and which types of weights an ONNX file holds, read from the protobuf message itself. Pure.

A runner has no ``onnx`` package. Weights are skipped, not read, so that a large file costs nothing. Field numbers are
those of ``onnx.proto``: ModelProto.graph 7; GraphProto.node 1, initializer 5; NodeProto.op_type 4;
TensorProto.data_type 2. What lies in subgraphs of control flow is not seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

GRAPH, NODE, INITIALIZER, OP_TYPE, DATA_TYPE = 7, 1, 5, 4, 2
VARINT, LENGTH = 0, 2
FIXED = {1: 8, 5: 4}
"""Kind of field -> bytes."""

LONGEST_VARINT = 10
FLOAT16 = 10
"""TensorProto.DataType."""


class Buffer(Protocol):
    """Bytes, or a file that is mapped into memory."""

    def __len__(self) -> int:
        """Return how many bytes there are."""

    def __getitem__(self, where: slice, /) -> bytes:
        """Return some of them."""


@dataclass(frozen=True, slots=True)
class OnnxContent:
    """Operators of the main graph, and element types of its stored weights (TensorProto.DataType)."""

    operators: frozenset[str]
    weight_types: frozenset[int]

    @property
    def quantized(self) -> bool:
        """It holds Q/DQ pairs."""
        return not self.operators.isdisjoint({"QuantizeLinear", "DequantizeLinear"})

    @property
    def half(self) -> bool:
        """It holds weights in half precision."""
        return FLOAT16 in self.weight_types


def read_content(data: Buffer) -> OnnxContent:
    """Return what a file holds; of one that is damaged, what was readable up to there."""
    operators: set[str] = set()
    types: set[int] = set()
    for number, start, end in _fields(data, 0, len(data)):
        if number == GRAPH:
            _read_graph(data, start, end, operators, types)
    return OnnxContent(frozenset(operators), frozenset(types))


def _read_graph(data: Buffer, start: int, end: int, operators: set[str], types: set[int]) -> None:
    for number, first, last in _fields(data, start, end):
        if number == NODE:
            operators.update(
                data[a:b].decode(errors="replace") for n, a, b in _fields(data, first, last) if n == OP_TYPE
            )
        elif number == INITIALIZER:
            types.update(_varint(data, a, b)[0] for n, a, b in _fields(data, first, last) if n == DATA_TYPE)


def _fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield ``(number, start, end)`` of each field's content; ends where the message does not go on as one."""
    place = start
    while place < end:
        key, place = _varint(data, place, end)
        first, last = _extent(data, key & 7, place, end)
        if last > end:
            return
        yield key >> 3, first, last
        place = last


def _extent(data: Buffer, kind: int, place: int, end: int) -> tuple[int, int]:
    """Return where a field's content begins and ends; behind the end if it is of no kind that there is."""
    if kind == VARINT:
        return place, _varint(data, place, end)[1]
    if kind == LENGTH:
        size, first = _varint(data, place, end)
        return first, first + size
    return place, place + FIXED.get(kind, end + 1)


def _varint(data: Buffer, start: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = 0
    for shift, byte in enumerate(data[start : min(end, start + LONGEST_VARINT)]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, start + shift + 1
    return value, end
